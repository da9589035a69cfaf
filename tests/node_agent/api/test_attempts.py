"""Attempts over the local API: pages, names people type, and waiting for a change."""

import asyncio

import msgspec
import pytest

from node_agent.store import attempts
from protocol.states import AttemptOutcome, AttemptPhase
from tests.node_agent.api.conftest import Ask
from tests.node_agent.operations.conftest import EXECUTION, StoredNode


async def more_attempts(stored: StoredNode, count: int, *, ended: int = 0) -> list[str]:
    """Add attempts, the newest last, some of which have failed."""
    ids = []
    for number in range(1, count + 1):
        one = msgspec.structs.replace(
            stored.attempt,
            id=f"01920000-0000-7000-8000-{number:012x}",
            executions=[],
            created_at_ms=number,
        )
        phases = [AttemptPhase.CREATED]
        if number <= ended:
            phases += [AttemptPhase.FINISHING, AttemptPhase.ENDED]
        for phase in phases:
            outcome = AttemptOutcome.FAILED if phase is AttemptPhase.ENDED else None
            changed = msgspec.structs.replace(one, phase=phase, outcome=outcome)
            await stored.stores.database.write(attempts.save, changed, 1)
        ids.append(one.id)
    return ids


@pytest.mark.asyncio
async def test_pages_hold_each_attempt_once(ask: Ask, stored: StoredNode) -> None:
    """Pages of any size are newest first, without gap or repeat, and end with no cursor."""
    ids = [*reversed(await more_attempts(stored, 7)), stored.attempt.id]
    for limit in (1, 2, 4, 8, 200):
        found: list[str] = []
        cursor = None
        while True:
            query = {"limit": limit} | ({"cursor": cursor} if cursor else {})
            _, page = await ask("GET", "attempts", **query)
            assert 0 < len(page["items"]) <= limit
            found += [one["id"] for one in page["items"]]
            cursor = page["next"]
            if cursor is None:
                break
        assert found == ids


@pytest.mark.asyncio
async def test_lists_by_status(ask: Ask, stored: StoredNode) -> None:
    """A list may be of one phase or one outcome, also where those are far down."""
    ids = await more_attempts(stored, 9, ended=3)
    _, page = await ask("GET", "attempts", status="failed", limit=2)
    assert [one["id"] for one in page["items"]] == [ids[2], ids[1]]
    _, rest = await ask("GET", "attempts", status="failed", limit=2, cursor=page["next"])
    assert ([one["id"] for one in rest["items"]], rest["next"]) == ([ids[0]], None)
    _, page = await ask("GET", "attempts", status="created", task="t1")
    assert len(page["items"]) == 7
    for wrong in ({"status": "flying"}, {"cursor": "x"}, {"limit": "x"}):
        status, answer = await ask("GET", "attempts", **wrong)
        assert (status, answer["error"]["details"]["field"]) == (422, next(iter(wrong)))


@pytest.mark.asyncio
async def test_one_attempt_by_what_people_type(ask: Ask, stored: StoredNode) -> None:
    """An attempt is found by its id, its beginning or its last digits, executions in full."""
    for text in (stored.attempt.id, stored.attempt.id[:13], stored.attempt.id[-8:]):
        status, one = await ask("GET", f"attempts/{text}")
        assert (status, one["id"]) == (200, stored.attempt.id)
    assert [execution["id"] for execution in one["executions"]] == [EXECUTION]
    assert (one["node_id"], one["reachable"]) == ("node-1", True)
    assert (await ask("GET", "attempts/deadbeef0"))[0] == 404
    await more_attempts(stored, 2)
    status, answer = await ask("GET", "attempts/01920000-0000")
    assert (status, answer["error"]["code"]) == (422, "invalid")


@pytest.mark.asyncio
async def test_waiting_for_a_change(ask: Ask, stored: StoredNode) -> None:
    """With the version seen, the answer comes when the attempt changed, not when others did."""
    path = f"attempts/{stored.attempt.id}"
    _, seen = await ask("GET", path)
    waiting = asyncio.create_task(ask("GET", path, version=seen["version"], wait_ms=20_000))
    await more_attempts(stored, 1)
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await stored.change(phase=AttemptPhase.PREPARING)
    _, changed = await asyncio.wait_for(waiting, 30)
    assert changed["phase"] == "preparing"
    assert changed["version"] != seen["version"]
    _, same = await ask("GET", path, version=changed["version"], wait_ms=30)
    assert same == changed
    _, at_once = await ask("GET", path, version=seen["version"], wait_ms=20_000)
    assert at_once == changed
