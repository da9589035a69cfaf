"""Turns of a session are read in their order, and found by indexes."""

import pytest

from hive.store import sessions, turns
from protocol.turn_requests import TurnStatus
from tests.hive import reported
from tests.hive.reported import uid
from tests.hive.store.open_hive import OpenHive


@pytest.mark.asyncio
async def test_what_has_begun_comes_before_what_waits(hive: OpenHive):
    """By number, then by place; each once, however it is paged, and none of another attempt."""
    node = await hive.reporting()
    await node.tells(reported.attempt(), reported.attempt(11), reported.session())
    await node.tells(reported.session(31, attempt_id=uid(11)))
    for number, no, place in ((1, 2, 1), (2, 1, 2), (3, None, 9), (4, None, 5), (5, None, 5)):
        status = TurnStatus.QUEUED if no is None else TurnStatus.ENDED
        given = {"no": no, "place": place, "status": status}
        await node.tells(reported.turn(number, **given, session_id=no and uid(30)))
    await node.tells(reported.turn(6, attempt_id=uid(11), session_id=None, place=1))
    session = await hive.read(sessions.get_session, uid(30))
    for limit in (1, 2, 50):
        found, after = [], None
        while page := await hive.read(turns.list_turns, session, after=after, limit=limit):
            found += [turn.id for turn in page]
            after = page[-1].position
        assert found == [uid(number) for number in (2, 1, 4, 5, 3)]


@pytest.mark.asyncio
async def test_turns_are_found_by_indexes(hive: OpenHive):
    """A session's turns cost what they are, however many others there are."""
    node = await hive.reporting()
    await node.tells(reported.attempt(), reported.session())
    session = await hive.read(sessions.get_session, uid(30))
    steps = await hive.plans(turns.list_turns, session, after=None, limit=50)
    assert not [step for step in steps if step.startswith("SCAN")], steps
