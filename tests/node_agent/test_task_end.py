"""Tasks end with their owner, also the one that did not hear it the first time."""

import asyncio
import contextlib

import pytest

from node_agent import task_end


@pytest.mark.asyncio
async def test_a_task_that_misses_its_cancel_is_told_again(monkeypatch: pytest.MonkeyPatch):
    """It waits for something else after what it was cancelled in, and would for ever."""
    monkeypatch.setattr(task_end, "_CLEAN_UP_S", 0.1)

    async def deaf() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def broken() -> None:
        raise OSError("of its own")

    tasks = [asyncio.create_task(one()) for one in (deaf, deaf, broken)]
    await asyncio.sleep(0)
    await asyncio.wait_for(task_end.cancel_all(tasks), 30)
    assert [task.cancelled() for task in tasks] == [True, True, False]
    await task_end.cancel_all([])
