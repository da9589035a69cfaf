"""Opening a conversation: the last page of 10,000 messages beside the last page of 100.

Both are in one hive and asked for by turns over one connection, as a page that opens does: the
session, then its newest messages. Then the long one is paged back to its beginning. What comes is
checked by its numbers each time.
"""

import asyncio
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from scripts.benchmarks import figures
from scripts.benchmarks.stack import Stack

_LONG = 10_000
_SHORT = 100
_PER_REQUEST = 100
_PAGE = 50
_TEXT = "The shelves are sorted by the day on which they were last seen, as was asked for. " * 8


class WrongRun(Exception):  # noqa: N818  a fast wrong run is no run
    """A page held something else."""


def run(*, quick: bool) -> bool:
    """Run the benchmark; return whether every gate holds."""
    folder = Path(tempfile.mkdtemp(prefix="skep-bench-"))
    stack = Stack(folder)
    try:
        stack.start()
        found = asyncio.run(_measure(stack, rounds=2 if quick else 5, opened=40 if quick else 200))
    finally:
        stack.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return figures.report(f"chat: opening a conversation; {figures.machine()}", found)


async def _measure(stack: Stack, *, rounds: int, opened: int) -> list[figures.Figure]:
    headers = {"Authorization": f"Bearer {stack.token}"}
    async with aiohttp.ClientSession(f"{stack.url}/", headers=headers) as http:
        project = (await _get(http, "projects"))["items"][0]["id"]
        long = await _session(http, project, "long", _LONG)
        short = await _session(http, project, "short", _SHORT)
        ratios, long_ms, short_ms, back_ms = [], [], [], []
        for number in range(rounds):
            order = [(long, _LONG), (short, _SHORT)]
            if number % 2:
                order.reverse()
            times: dict[int, list[float]] = {_LONG: [], _SHORT: []}
            for _ in range(opened):
                for session, count in order:
                    times[count].append(await _open_ms(http, session, count))
            long_ms.append(statistics.median(times[_LONG]))
            short_ms.append(statistics.median(times[_SHORT]))
            ratios.append(long_ms[-1] / short_ms[-1])
            back_ms.append(await _page_back_ms(http, long))
    return [
        figures.Figure(
            name="C1",
            what=f"opening {_LONG:,} messages over opening {_SHORT}",
            values=ratios,
            gate_max=10,
            aim=2,
        ),
        figures.Figure(name="C1a", what=f"opening {_LONG:,} messages", values=long_ms, unit="ms"),
        figures.Figure(name="C1b", what=f"opening {_SHORT} messages", values=short_ms, unit="ms"),
        figures.Figure(
            name="C2", what=f"a page of 200 while paging {_LONG:,} back", values=back_ms, unit="ms"
        ),
    ]


async def _get(http: aiohttp.ClientSession, path: str, **query: Any) -> Any:
    async with http.get(f"api/v1/{path}", params=query) as response:
        response.raise_for_status()
        return await response.json()


async def _post(http: aiohttp.ClientSession, path: str, body: Any) -> Any:
    async with http.post(f"api/v1/{path}", json=body) as response:
        response.raise_for_status()
        return await response.json()


async def _session(http: aiohttp.ClientSession, project: str, name: str, count: int) -> str:
    """Make a session of so many messages; return its id."""
    task = await _post(http, "tasks", {"project": project, "title": name})
    made = await _post(http, "sessions", {"agent_session_id": name, "task_id": task["id"]})
    session = str(made["id"])
    for first in range(1, count + 1, _PER_REQUEST):
        messages = [
            {"id": str(number), "role": "assistant", "content": f"{number} {_TEXT}"}
            for number in range(first, first + _PER_REQUEST)
        ]
        sent = await _post(http, f"sessions/{session}/messages", {"messages": messages})
        if sent["persisted"] != _PER_REQUEST:
            raise WrongRun(f"{sent['persisted']} of {_PER_REQUEST} messages were kept")
    return session


async def _open_ms(http: aiohttp.ClientSession, session: str, count: int) -> float:
    started = time.perf_counter()
    shown = await _get(http, f"sessions/{session}")
    page = await _get(http, f"sessions/{session}/messages", limit=_PAGE)
    took_ms = (time.perf_counter() - started) * 1000
    wanted = list(range(count - _PAGE + 1, count + 1))
    if shown["message_count"] != count or [one["seq"] for one in page["items"]] != wanted:
        raise WrongRun("the last page is not the last page")
    return took_ms


async def _page_back_ms(http: aiohttp.ClientSession, session: str) -> float:
    """Read a long session back to its beginning; return what a page took, in the median."""
    times, seen, before = [], 0, _LONG + 1
    while before is not None:
        started = time.perf_counter()
        page = await _get(http, f"sessions/{session}/messages", limit=200, before=before)
        times.append((time.perf_counter() - started) * 1000)
        if [one["seq"] for one in page["items"]] != list(range(before - 200, before)):
            raise WrongRun(f"a page before {before} has a gap or a double")
        seen += len(page["items"])
        before = page["previous"]
    if seen != _LONG:
        raise WrongRun(f"{seen} of {_LONG} messages came")
    return statistics.median(times)
