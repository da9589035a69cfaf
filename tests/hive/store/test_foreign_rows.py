"""What a node said of another's things before their owner came is dropped, and nothing else."""

from typing import Any

import pytest

from hive.store import message_gaps, sessions
from hive.store.sessions import NewSession
from protocol.conversation import AuthorKind, MessageRole
from protocol.errors import ErrorCode, RemoteProtocolError
from tests.hive import reported
from tests.hive.reported import NODE, OTHER, uid
from tests.hive.store.open_hive import OpenHive

TABLES = ("execution", "session", "turn", "request", "message", "log", "chunk")


async def kept(hive: OpenHive) -> dict[str, set[Any]]:
    """What is held, by table."""
    held = {}
    for table in TABLES:
        name = "execution_id" if table in {"log", "chunk"} else "id"
        rows = await hive.rows(f"SELECT {name} AS id FROM {table}")  # noqa: S608  a test
        held[table] = {row["id"] for row in rows}
    return held


@pytest.mark.asyncio
async def test_what_was_told_of_anothers_attempt_goes_when_it_comes(hive: OpenHive):
    """A hive put back from a copy knows an attempt only as its node tells of it anew."""
    rogue = await hive.reporting(OTHER)
    own = {"attempt_id": uid(11)}
    await rogue.tells(
        reported.attempt(11),
        reported.execution(21, **own),
        reported.session(31, **own),
        reported.message(1, 1101, session_id=uid(31), **own),
    )
    assert await rogue.sends(reported.chunk(1, number=21)) == ["stored"]
    mine = await kept(hive)
    await rogue.tells(
        reported.execution(20),
        reported.session(30),
        reported.turn(40, session_id=None),
        reported.turn(41, session_id=uid(30)),
        reported.message(1, content="not mine"),
        reported.request(50),
    )
    assert await rogue.sends(reported.chunk(1, number=20)) == ["stored"]
    outside = NewSession(
        id=uid(90),
        agent_session_id="theirs",
        attempt_id=uid(10),
        task_id=None,
        agent=None,
        agent_version=None,
        capabilities=[],
        topic="",
        created_by="ann",
    )
    await hive.write(sessions.map_session, outside, hive.now_ms)
    assert uid(20) in (await kept(hive))["chunk"]
    node = await hive.reporting(NODE)
    await node.tells(reported.checkout(1), reported.attempt(10))
    assert await kept(hive) == {**mine, "session": mine["session"] | {uid(90)}}
    [event] = await hive.rows("SELECT * FROM event WHERE kind = 'refused'")
    assert (event["node_id"], event["audit"]) == (OTHER, 1)
    await node.tells(reported.session(30), reported.message(1), reported.execution(20))
    assert await node.sends(reported.chunk(1, number=20)) == ["stored"]
    with pytest.raises(RemoteProtocolError) as caught:
        await rogue.tells(reported.request(51))
    assert caught.value.code is ErrorCode.FORBIDDEN


@pytest.mark.asyncio
async def test_what_was_said_in_anothers_session_goes_when_it_comes(hive: OpenHive):
    """Its messages and turns; the session's own node is heard, and it is on record who was not."""
    rogue = await hive.reporting(OTHER)
    elsewhere = {"attempt_id": uid(77)}
    await rogue.tells(
        reported.message(1, 5001, content="not mine", **elsewhere),
        reported.turn(41, **elsewhere),
    )
    node = await hive.reporting(NODE)
    asked = {"role": MessageRole.USER, "author_kind": AuthorKind.PERSON}
    await node.tells(
        reported.checkout(1),
        reported.attempt(10),
        reported.session(30),
        reported.turn(40),
        reported.message(1, **asked),
    )
    held = await kept(hive)
    assert (held["message"], held["turn"]) == ({uid(1001)}, {uid(40)})
    assert "refused" in await hive.happened()


@pytest.mark.asyncio
async def test_what_another_lacked_of_a_session_is_not_lost(hive: OpenHive):
    """That its messages are lost is for its own node to say."""
    rogue = await hive.reporting(OTHER)
    await rogue.tells(reported.session(30, message_count=5))
    await hive.write(message_gaps.record, OTHER, uid(30), 5)
    assert await hive.read(message_gaps.settled_through, uid(30)) == 5
    node = await hive.reporting(NODE)
    await node.tells(reported.attempt(10), reported.session(30, message_count=5))
    assert await hive.read(message_gaps.settled_through, uid(30)) == 0
