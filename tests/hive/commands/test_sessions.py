"""`hive sessions` for people: what is kept, renamed and listed reads as it is."""

import pytest

from protocol.conversation import TurnState, Usage
from protocol.ops import OpKind
from protocol.turn_requests import TurnStatus
from tests.hive.api.running import RunningHive
from tests.hive.api.test_messages import queues
from tests.hive.api.test_sessions import renames, talks
from tests.hive.commands.programs import Commands


@pytest.mark.asyncio
async def test_what_waits_for_a_node_that_is_away(running: RunningHive, hive: Commands):
    """A message and a topic are kept, and the answer says where to look."""
    node = await running.node()
    session = await talks(node)
    await queues(node)
    renames(node, session)
    await node.leave()
    away = await hive.run("sessions", "send", session.id, "yes", "--id", "a", "--json")
    assert away.error["code"] == "node_offline"
    assert "--when online" in away.error["hint"]
    later = ("--when", "online", "--expires-in", "2h")
    kept = await hive.run("sessions", "send", session.id, "yes", "--id", "a", *later)
    assert kept.code == 0, kept.err
    assert "Kept" in kept.out
    assert "hive operations show message-" in " ".join(kept.out.split())
    topic = await hive.run("sessions", "rename", session.id[-8:], "Shelves", *later)
    assert "rename_session" in topic.out
    assert len((await hive.run("operations", "--waiting", "--json")).json["items"]) == 2
    await node.connect()
    again = await hive.run("sessions", "rename", session.id, "Shelves", "--json")
    assert again.json["topic"] == "Shelves"


@pytest.mark.asyncio
async def test_turns_are_listed(running: RunningHive, hive: Commands):
    """Number, end, heads and tokens of each, and the first line of what was asked."""
    node = await running.node()
    session = await talks(node)
    nothing = await hive.run("sessions", "turns", session.id)
    assert "No turns." in nothing.out
    turn = TurnState(
        id=f"{node.id[:24]}{7:012x}",
        attempt_id=session.attempt_id,
        session_id=session.id,
        no=1,
        status=TurnStatus.ENDED,
        prompt="Sort the shelves\nand dust them",
        author="ann",
        stop_reason="end_turn",
        head_before="a" * 40,
        head_after="b" * 40,
        usage=Usage(input_tokens=1234, output_tokens=5),
    )
    await node.tell((OpKind.TURN, turn.id, turn))
    shown = " ".join((await hive.run("sessions", "turns", session.id)).out.split())
    for words in ("ended", "end_turn", "aaaaaaaa → bbbbbbbb", "1,234 in, 5 out", "ann"):
        assert words in shown
    assert "Sort the shelves" in shown
    assert "dust" not in shown
