"""What command lines say of their options."""

import msgspec
import pytest

from protocol.operation_words import words_for
from protocol.operations import OPERATIONS, Operation

#: What is not below an attempt has commands of its own.
ELSEWHERE = {"tasks", "requests", "sessions"}
#: Said as an argument by its name, or filled in by the path and never asked for.
ARGUMENTS = {("rename_branch", "branch"), ("run_script", "name")}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda one: one.name)
def test_every_option_has_words(operation: Operation):
    """Nobody has to guess what an option is for; each fits a line of a terminal."""
    if operation.path.partition("/")[0] in ELSEWHERE:
        return
    for field in msgspec.structs.fields(operation.request):
        if (operation.name, field.encode_name) in ARGUMENTS:
            continue
        words = words_for(operation.name, field.encode_name)
        assert words, field.encode_name
        assert len(words) <= 80
        assert words[0].isupper() or words[0] in "`["
        assert words.endswith(".")
