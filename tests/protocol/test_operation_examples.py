"""The examples of operations: one for each row, of its own Structs, and as it would travel."""

import msgspec
import pytest

from protocol.operation_examples import EXAMPLES
from protocol.operation_values import StreamHead
from protocol.operations import OPERATIONS
from protocol.work_requests import DiffUpdate, FileDiff


def test_every_operation_has_an_example():
    """A row without an example fails, and so does an example without a row."""
    assert set(EXAMPLES) == set(OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_example_is_of_its_operation(name):
    """Request and reply are of the row's Structs, and read back from the wire and from JSON."""
    operation, example = OPERATIONS[name], EXAMPLES[name]
    for said, kind in ((example.request, operation.request), (example.reply, operation.reply)):
        assert type(said) is kind
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(said), type=kind) == said
        assert msgspec.json.decode(msgspec.json.encode(said), type=kind) == said
    assert (example.content is not None) == (operation.reply is StreamHead)


def test_streamed_examples_are_what_is_streamed():
    """What is said to be JSON is, of the shapes that readers of these streams decode."""
    for name in ("diff", "compare"):
        content = msgspec.json.decode(EXAMPLES[name].content)
        assert msgspec.convert(content["files"], list[FileDiff])
    update = msgspec.json.decode(EXAMPLES["follow_diff"].content, type=DiffUpdate)
    assert update.changed
    file = EXAMPLES["read_file"]
    assert file.reply.headers["Skep-File-Size"] == str(len(file.content.encode()))
