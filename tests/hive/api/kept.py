"""Nodes that are away and count what they are asked to stop, and waiting for what becomes of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from protocol.attempt_requests import AttemptReply
from protocol.entities import Attempt
from protocol.states import AttemptPhase
from tests.hive.api.running import FakeNode, RunningHive


def stops(node: FakeNode) -> list[Attempt]:
    """Have a node stop what it is asked to; returns what it stopped, each time."""
    stopped: list[Attempt] = []

    async def stop(call: Any) -> AttemptReply:
        attempt = node.attempt(id=call.attempt_id, phase=AttemptPhase.FINISHING)
        stopped.append(attempt)
        return AttemptReply(attempt=attempt)

    node.answers["stop"] = stop
    return stopped


async def settled(running: RunningHive, key: str, *statuses: str) -> dict[str, Any]:
    """Wait until an operation stands as one of `statuses`; return it."""

    async def look() -> dict[str, Any] | None:
        row = (await running.get(f"operations/{key}")).json
        return row if row["status"] in statuses else None

    return await until(look)


async def until(look: Callable[[], Awaitable[Any]]) -> Any:
    """Look until there is something, within a bound."""
    async with asyncio.timeout(30):
        while not (seen := await look()):
            await asyncio.sleep(0.01)
        return seen


async def away(running: RunningHive, name: str = "one") -> tuple[FakeNode, Attempt, list[Attempt]]:
    """A node that has a running attempt and is away; what it stops is counted."""
    node = await running.node(name)
    attempt = await node.has_attempt()
    stopped = stops(node)
    await node.leave()
    return node, attempt, stopped
