"""The hive's calls under way on one link: each its own task, streamed replies within credit.

Owns when a piece of a reply may go. Must not know what an operation does: the dispatcher does.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Final, Protocol

from node_agent.failpoints import failpoint
from node_agent.identity import HiveIdentity
from protocol import limits
from protocol.errors import ErrorCode, SkepError
from protocol.messages import Call, End, Opened, Part, PartCredit, Result
from protocol.operations import OPERATIONS

#: Parts waiting for the socket in all; each call waits for its turn.
_PARTS_WAITING_MAX: Final = 4

Reply = Result | Opened | Part | End


class Dispatcher(Protocol):
    """Runs the hive's calls."""

    def run_call(
        self, call: Call, *, now_s: float, hive: HiveIdentity
    ) -> AsyncGenerator[Reply, None]: ...


class LinkCalls:
    """Runs calls: `control` takes replies for the fast lane, `parts` those for the slow one."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        control: Callable[[Reply], None],
        wake: Callable[[], None],
        detached: set[asyncio.Task[None]],
    ) -> None:
        self.parts: asyncio.Queue[Part | End] = asyncio.Queue(_PARTS_WAITING_MAX)
        self._dispatcher = dispatcher
        self._control = control
        self._wake = wake
        self._detached = detached
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._credit: dict[str, _PartWindow] = {}
        self._changing: set[str] = set()

    def start(self, call: Call, *, now_s: float, hive: HiveIdentity) -> None:
        """Run a call in a task of its own."""
        if len(self._tasks) >= limits.CALLS_OPEN_MAX or call.call_id in self._tasks:
            error = SkepError(
                ErrorCode.SLOW_DOWN,
                "too many operations are under way",
                hint="Ask again in a few seconds.",
            )
            self._control(Result(call_id=call.call_id, error=error.body()))
            return
        operation = OPERATIONS.get(call.operation)
        if operation is not None and operation.changing:
            self._changing.add(call.call_id)
        self._credit[call.call_id] = _PartWindow()
        task = asyncio.create_task(
            self._run(call, now_s=now_s, hive=hive), name=f"call {call.operation}"
        )
        self._tasks[call.call_id] = task
        task.add_done_callback(lambda _: self._ended(call.call_id))

    def cancel(self, call_id: str) -> None:
        """The caller is gone: end a reading call. What changes something is carried to its end."""
        task = self._tasks.get(call_id)
        if task is not None and call_id not in self._changing:
            task.cancel()

    def grant(self, credit: PartCredit) -> None:
        """Let more of a streamed reply go."""
        window = self._credit.get(credit.call_id)
        if window is not None:
            window.grant(credit.total)

    async def close(self) -> None:
        """The link is gone: end the reading calls, let the changing ones finish on their own."""
        reading = []
        for call_id, task in self._tasks.items():
            if call_id in self._changing:
                self._detached.add(task)
                task.add_done_callback(self._detached.discard)
            else:
                task.cancel()
                reading.append(task)
        await asyncio.gather(*reading, return_exceptions=True)

    def _ended(self, call_id: str) -> None:
        self._tasks.pop(call_id, None)
        self._credit.pop(call_id, None)
        self._changing.discard(call_id)

    async def _run(self, call: Call, *, now_s: float, hive: HiveIdentity) -> None:
        window = self._credit[call.call_id]
        streaming = False
        replies = self._dispatcher.run_call(call, now_s=now_s, hive=hive)
        async with contextlib.aclosing(replies):
            async for reply in replies:
                failpoint("node.link.before_reply")
                if isinstance(reply, Part):
                    await window.take(len(reply.data))
                    await self.parts.put(reply)
                elif isinstance(reply, End) and streaming:
                    # Behind its own parts, which went the slow lane.
                    await self.parts.put(reply)
                else:
                    streaming = isinstance(reply, Opened)
                    self._control(reply)
                self._wake()


class _PartWindow:
    """How many bytes of one streamed reply may be on their way."""

    def __init__(self) -> None:
        self.total = limits.PART_WINDOW_BYTES_FIRST
        self.sent = 0
        self._granted = asyncio.Event()

    def grant(self, total: int) -> None:
        self.total = max(self.total, total)
        self._granted.set()

    async def take(self, nbytes: int) -> None:
        """Wait until `nbytes` may go."""
        while self.sent + nbytes > self.total:
            self._granted.clear()
            await self._granted.wait()
        self.sent += nbytes
