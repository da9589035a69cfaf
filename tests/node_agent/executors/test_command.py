"""The command executor: words of a command line, and a prompt as input."""

import pytest

from node_agent.executors.adapter import Wish
from node_agent.executors.command import CommandExecutor
from protocol.errors import ErrorCode, OperationError


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("make test", ["make", "test"]),
        ("sh -c 'a && b; $C'", ["sh", "-c", "a && b; $C"]),
        ('say "two words"  "" x\\ y', ["say", "two words", "", "x y"]),
        ("echo # not a comment", ["echo", "#", "not", "a", "comment"]),
        ("émoji '🐝'", ["émoji", "🐝"]),
    ],
)
def test_words_are_split_as_a_shell_would(command: str, argv: list[str]):
    """Quotes and escapes are understood; nothing else is."""
    assert CommandExecutor().launch(Wish(command=command)).argv == argv


@pytest.mark.parametrize("command", [None, "", " \t", "'", '"a', "''", "'' x", "a\0b"])
def test_what_is_no_command_is_refused(command: str | None):
    """The error names the field and shows how to write it."""
    with pytest.raises(OperationError) as refused:
        CommandExecutor().launch(Wish(command=command))
    assert refused.value.code is ErrorCode.INVALID
    assert refused.value.details == {"field": "command"}
    assert refused.value.hint


def test_the_prompt_is_the_input():
    """Whole, as UTF-8, and empty where there is none."""
    assert CommandExecutor().launch(Wish(command="cat")).stdin == b""
    launch = CommandExecutor().launch(Wish(command="cat", prompt="zwei\nWörter"))
    assert launch.stdin == "zwei\nWörter".encode()


@pytest.mark.parametrize("field", ["profile", "model", "mode"])
def test_what_only_agents_take_is_refused(field: str):
    """Who names an agent and forgets the executor is told so; no command runs in its place."""
    with pytest.raises(OperationError) as refused:
        CommandExecutor().launch(Wish(command="true", **{field: "claude"}))
    assert refused.value.details == {"field": field}
    assert "acp" in refused.value.hint
