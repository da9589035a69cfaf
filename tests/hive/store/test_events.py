"""The feed of events: in commit order, in pages, filtered; the audit log apart."""

import pytest

from hive.projections import EventDraft
from hive.store import events
from tests.hive import reported
from tests.hive.reported import NODE, NOW_MS, OTHER, uid
from tests.hive.store.open_hive import OpenHive


@pytest.mark.asyncio
async def test_events_are_read_both_ways(hive: OpenHive):
    """Newest first for people, or what follows a number for those who catch up."""
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.attempt(), reported.execution())
    found = await hive.read(events.list_events, limit=3)
    assert [event.no for event in found] == sorted((event.no for event in found), reverse=True)
    older = await hive.read(events.list_events, before=found[-1].no)
    assert older[0].no < found[-1].no
    after = await hive.read(events.list_events, after=older[0].no)
    assert [event.no for event in after] == [event.no for event in reversed(found)]


@pytest.mark.asyncio
async def test_events_are_narrowed(hive: OpenHive):
    """By attempt, node and kind; audit alone."""
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.attempt(10), reported.attempt(11))
    of_attempt = await hive.read(events.list_events, attempt_id=uid(11))
    assert {event.kind for event in of_attempt} == {"attempt_created"}
    of_kind = await hive.read(events.list_events, kind="node_joined", node_id=OTHER)
    assert [event.node_id for event in of_kind] == [OTHER]
    audit = await hive.read(events.list_events, audit=True)
    assert {event.kind for event in audit} == {"node_joined"}
    assert all(event.audit for event in audit)


@pytest.mark.asyncio
async def test_an_event_keeps_who_and_why(hive: OpenHive):
    """All that was said of it is read back; a node that acts is named by its id."""
    draft = EventDraft(
        kind="notice", what="node", what_id=NODE, why="because", node_id=NODE, details={"a": [1]}
    )
    number = await hive.write(events.record, draft, NOW_MS)
    [event] = await hive.read(events.list_events, limit=1)
    assert (event.no, event.actor, event.why, event.details) == (
        number,
        NODE,
        "because",
        {"a": [1]},
    )
