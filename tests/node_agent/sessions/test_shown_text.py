"""What leaves the node is without secrets and fits into an op, whatever shape it has."""

import msgspec
import pytest

from node_agent.acp.steps import RequestMade
from node_agent.sessions.shown_text import ShownText
from protocol.conversation import FileDiff, Message, PlanEntry, RequestOption, ToolCall
from protocol.limits import OP_BODY_BYTES_MAX

SECRET = "hunter2-hunter2"
SHOWN = ShownText([SECRET.encode()])


def test_every_text_is_redacted() -> None:
    """Tool calls, plans and requests, to the last field of a form."""
    tool = ToolCall(
        id="t",
        name=SECRET,
        target=SECRET,
        input=SECRET,
        output=SECRET,
        diffs=[FileDiff(path=SECRET, old_text=SECRET, new_text=SECRET)],
        locations=[SECRET],
    )
    asked = RequestMade(
        key="r",
        kind="question",
        title=SECRET,
        text=SECRET,
        options=[RequestOption(id="a", name=SECRET)],
        form={"properties": {"x": {"enum": [SECRET, 1, True], "title": SECRET}}},
        tool=tool,
    )
    shown = [SHOWN.tool(tool)[0], SHOWN.request(asked), *SHOWN.plan([PlanEntry(content=SECRET)])]
    encoded = msgspec.json.encode(shown)
    assert SECRET.encode() not in encoded
    assert encoded.count(b"***") == 22


def test_the_largest_fits() -> None:
    """However much an agent says, a message of it is an op; and it says that it was cut."""
    huge = "ö" * 1_000_000
    diffs = [FileDiff(path=huge, old_text=huge, new_text=huge)] * 1000
    tool = ToolCall(id=huge, name=huge, kind=huge, target=huge, input=huge, output=huge)
    tool, cut = SHOWN.tool(msgspec.structs.replace(tool, diffs=diffs, locations=[huge] * 1000))
    message = Message(
        id="m" * 36, session_id="s" * 36, attempt_id="a" * 36, seq=1, role="tool",
        author_kind="agent", tool=tool, plan=SHOWN.plan([PlanEntry(content=huge)] * 20),
    )  # fmt: skip
    assert cut
    assert len(msgspec.msgpack.encode(message)) <= OP_BODY_BYTES_MAX
    text, truncated = SHOWN.text("\ud800" + huge)
    assert truncated
    assert len(text.encode()) <= 40 * 1024


def test_text_that_grows() -> None:
    """A secret that comes in pieces is never shown; places count what is shown."""
    live = SHOWN.live()
    shown = ""
    at = 0
    for piece in ("it is hun", "ter2-hu", "nter2 no", "w, ok?"):
        begins, text = live.grow(at, piece)
        assert begins == len(shown)
        shown += text
        at += len(piece)
    assert shown.startswith("it is *** now, ")
    # Of a text whose beginning was not seen, nothing.
    assert SHOWN.live().grow(5, "nter2") == (0, "")


def test_what_a_secret_stands_in_is_not_all_seen() -> None:
    """A rule that judges what is shown would not know what the secret's place holds."""
    plain = ToolCall(id="t", kind="execute", target="git log", input="git log")
    hidden = ToolCall(id="t", kind="execute", target=f"git log {SECRET}", input="git log")
    for tool, unseen in ((plain, False), (hidden, True), (None, False)):
        asked = RequestMade(key="r", kind="approval", title="?", tool=tool)
        assert SHOWN.request(asked).unseen is unseen


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_a_secret_that_was_cut_in_two(cut: int) -> None:
    """Of what was cut before it came here, the end may be half a secret: it is not shown."""
    begun = f" {SECRET[:9]}"
    text = "x" * (1024 - cut - len(begun)) + begun
    assert SHOWN.text(text, cut_at=1024)[0] == "x" * (1024 - cut - len(begun)) + " "
    assert SHOWN.text(text)[0] == text
    diff = FileDiff(path="a", old_text=begun, new_text=begun, truncated=True)
    tool, _ = SHOWN.tool(ToolCall(id="t", target=text, diffs=[diff]))
    assert SECRET[:9].encode() not in msgspec.json.encode(tool)


def test_a_form_of_its_own() -> None:
    """The form of a tool's question is redacted as an agent's; numbers no op can hold are none."""
    assert SHOWN.form({"a": SECRET, "b": 2**70, "c": 2**63}) == {"a": "***", "b": None, "c": 2**63}
    assert SHOWN.form(None) is None
