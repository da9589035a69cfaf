"""What nodes report of conversations becomes rows, each at its place, and of its node alone."""

import pytest

from protocol.conversation import SessionStatus
from protocol.errors import ErrorCode, RemoteProtocolError
from protocol.ops import Op
from tests.hive import reported
from tests.hive.reported import OTHER, uid
from tests.hive.store.open_hive import OpenHive, Reporting

LIVE = "SELECT id, message_seq, content FROM message WHERE forgotten_at_ms IS NULL ORDER BY 2"


async def talking(hive: OpenHive) -> Reporting:
    """A node with an attempt whose session has begun."""
    node = await hive.reporting()
    await node.tells(reported.checkout(1), reported.attempt(), reported.session())
    return node


async def live(hive: OpenHive) -> list[tuple[int, str]]:
    """Place and content of the live messages."""
    return [(row["message_seq"], row["content"]) for row in await hive.rows(LIVE)]


@pytest.mark.asyncio
async def test_a_conversation_is_told_as_it_goes(hive: OpenHive):
    """Session, turn and messages have rows; viewers of session, attempt and project are told."""
    node = await talking(hive)
    await hive.heard()
    await node.tells(reported.turn(), reported.message(1), reported.message(2))
    await node.tells(reported.message(2, content="said better"))
    assert await live(hive) == [(1, "said 1"), (2, "said better")]
    assert (await hive.row("turn", uid(40)))["prompt"] == "Mend the door"
    heard = await hive.heard()
    assert [change.kind for change in heard] == [
        "session.changed",
        "message.new",
        "message.new",
        "message.changed",
    ]
    [project] = await hive.rows("SELECT id FROM project")
    wanted = {f"session:{uid(30)}", f"attempt:{uid(10)}", f"project:{project['id']}"}
    for change in heard:
        assert wanted <= set(change.topics), change


@pytest.mark.asyncio
async def test_the_begin_and_the_end_of_a_session_are_events(hive: OpenHive):
    """Viewers and the activity feed learn that a session began, ended and was resumed."""
    node = await talking(hive)
    await node.tells(reported.session(status=SessionStatus.CLOSED))
    await node.tells(reported.session(status=SessionStatus.OPEN))
    happened = [kind for kind in await hive.happened() if kind.startswith("session")]
    assert happened == ["session_created", "session_closed", "session_resumed"]
    told = [change.kind for change in await hive.heard() if "session" in change.kind]
    assert told == ["session.created", "session.stopped", "session.changed"]


@pytest.mark.asyncio
async def test_the_newest_position_wins(hive: OpenHive):
    """A snapshot's older word of a message changes nothing; the same position says the same."""
    node = await talking(hive)
    await node.tells(reported.message(1), reported.message(1, content="newer"))
    old = reported.record(reported.message(1, content="older"), epoch=1, seq=2)
    await hive.store.commit_records(node.node_id, node.link_no, "r", [old])
    assert await live(hive) == [(1, "newer")]


@pytest.mark.asyncio
async def test_a_place_is_held_by_one_message(hive: OpenHive):
    """A node whose disk was restored numbers on from there: the newer message has the place."""
    node = await talking(hive)
    await node.tells(reported.message(1), reported.message(2))
    await node.tells(reported.message(2, 2002, content="after the restore"))
    assert await live(hive) == [(1, "said 1"), (2, "after the restore")]
    assert (await hive.row("message", uid(1002)))["forgotten_at_ms"] is not None
    late = reported.record(reported.message(1, 2001, content="late"), epoch=1, seq=1)
    await hive.store.commit_records(node.node_id, node.link_no, "r", [late])
    assert (await live(hive))[0] == (1, "said 1")
    assert (await hive.row("message", uid(2001)))["forgotten_at_ms"] is not None
    assert await hive.rows("SELECT * FROM dead_op") == []


@pytest.mark.asyncio
async def test_what_a_snapshot_does_not_name_is_forgotten(hive: OpenHive):
    """Messages and sessions that their node no longer knows are shown as forgotten."""
    node = await talking(hive)
    await node.tells(reported.turn(), reported.message(1), reported.message(2))
    await node.tells(reported.session())
    await node.snapshot(
        reported.checkout(1), reported.attempt(), reported.session(), reported.message(1)
    )
    assert await live(hive) == [(1, "said 1")]
    assert (await hive.row("turn", uid(40)))["forgotten_at_ms"] is not None
    assert (await hive.row("session", uid(30)))["forgotten_at_ms"] is None


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "said",
    [
        reported.session(),
        reported.session(31),
        reported.message(1),
        reported.message(2),
        reported.message(3, session_id=uid(31)),
        reported.turn(),
        reported.turn(41),
    ],
    ids=["session", "attempt", "message", "place", "its-attempt", "turn", "its-session"],
)
async def test_what_is_another_nodes_is_refused(hive: OpenHive, said: Op):
    """A node says nothing under another's session, attempt, turn or message."""
    node = await talking(hive)
    await node.tells(reported.message(1), reported.turn())
    rogue = await hive.reporting(OTHER)
    with pytest.raises(RemoteProtocolError) as caught:
        await rogue.tells(said)
    assert caught.value.code is ErrorCode.FORBIDDEN
    assert await live(hive) == [(1, "said 1")]


@pytest.mark.asyncio
async def test_what_was_said_before_its_owner_came_is_dropped(hive: OpenHive):
    """Messages that another node sent under a session's id go when its node tells of it."""
    rogue = await hive.reporting(OTHER)
    await rogue.tells(reported.message(1, 5001, attempt_id=uid(77), content="not mine"))
    node = await talking(hive)
    await node.tells(reported.message(1))
    assert await live(hive) == [(1, "said 1")]
    assert "refused" in await hive.happened()
