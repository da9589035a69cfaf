"""A TCP proxy that misbehaves on demand: refuses, cuts, delays, goes silent, resets after N bytes.

Runs on a thread of its own, so that tests stay plain functions. Must not look at what it carries.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

T = TypeVar("T")

_PIECE_BYTES = 64 * 1024
_CALL_S_MAX = 20.0
#: The direction a fault is for, as the one who dials sees it.
TO_HIVE, FROM_HIVE = "to hive", "from hive"


class FaultProxy:
    """Carries connections to one port; every fault holds for those there are and those to come."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._pipes: set[_Pipe] = set()
        self._open: dict[str, asyncio.Event] = {}
        self._delay_s = 0.0
        self._refusing = False
        self._reset_after: int | None = None
        self.port = 0
        #: Connections that were carried, and bytes that went each way.
        self.connections = 0
        self.carried: dict[str, int] = {TO_HIVE: 0, FROM_HIVE: 0}

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *exc: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_S_MAX)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # --- faults -------------------------------------------------------------------------------

    def cut(self) -> None:
        """Reset every connection, and refuse new ones until `heal`."""
        self._call(self._set_cut())

    def blackhole(self, *directions: str) -> None:
        """Carry nothing that way, without a word to either end; what is sent waits, as in TCP."""
        self._call(self._set_open(dict.fromkeys(directions, False)))

    def delay(self, seconds: float) -> None:
        """Carry every piece that much later."""
        self._delay_s = seconds

    def reset_after(self, nbytes: int | None) -> None:
        """Reset each new connection once it carried so many bytes to the hive."""
        self._reset_after = nbytes

    def heal(self) -> None:
        """End every fault; what waited goes on its way."""
        self._refusing = False
        self._delay_s = 0.0
        self._reset_after = None
        self._call(self._set_open({TO_HIVE: True, FROM_HIVE: True}))

    # --- on the proxy's own loop --------------------------------------------------------------

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_S_MAX)

    async def _listen(self) -> None:
        for direction in (TO_HIVE, FROM_HIVE):
            self._open[direction] = asyncio.Event()
            self._open[direction].set()
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for pipe in list(self._pipes):
            pipe.reset()
        while self._pipes:
            await asyncio.sleep(0.01)
        await self._server.wait_closed()

    async def _set_cut(self) -> None:
        self._refusing = True
        for pipe in list(self._pipes):
            pipe.reset()

    async def _set_open(self, states: dict[str, bool]) -> None:
        for direction, is_open in states.items():
            if is_open:
                self._open[direction].set()
            else:
                self._open[direction].clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            _reset(writer)
            return
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            _reset(writer)
            return
        self.connections += 1
        pipe = _Pipe(self, (reader, writer), there)
        self._pipes.add(pipe)
        try:
            await pipe.run(self._reset_after)
        finally:
            self._pipes.discard(pipe)

    async def pass_on(self, direction: str, piece: bytes) -> None:
        """Wait for as long as the faults of this direction ask."""
        await self._open[direction].wait()
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        self.carried[direction] += len(piece)


class _Pipe:
    """One connection and the one behind it."""

    def __init__(
        self,
        proxy: FaultProxy,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._near, self._far = near, far
        self._tasks: list[asyncio.Task[None]] = []

    def reset(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def run(self, reset_after: int | None) -> None:
        self._tasks = [
            asyncio.create_task(self._pump(TO_HIVE, self._near[0], self._far[1], reset_after)),
            asyncio.create_task(self._pump(FROM_HIVE, self._far[0], self._near[1], None)),
        ]
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        self.reset()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _, writer in (self._near, self._far):
            _reset(writer)

    async def _pump(
        self,
        direction: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        reset_after: int | None,
    ) -> None:
        left = reset_after
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(_PIECE_BYTES):
                await self._proxy.pass_on(direction, piece)
                if left is not None:
                    piece = piece[:left]
                    left -= len(piece)
                writer.write(piece)
                await writer.drain()
                if left == 0:
                    return


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, as a broken network looks: what is buffered is lost."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
