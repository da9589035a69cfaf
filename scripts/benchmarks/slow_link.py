"""A link of a given speed between a node and its hive: bytes pass at that rate, in small bites."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

#: A bite and the sockets' buffers: what a network card and a cheap router hold.
_BITE_BYTES = 4 * 1024
_BUFFER_BYTES = 16 * 1024


class SlowLink:
    """Passes connections on to the hive, from node to hive at `bits_per_s`; in its own thread."""

    def __init__(self, bits_per_s: float) -> None:
        self._bytes_per_s = bits_per_s / 8
        self._behind = ("", 0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def between(self) -> Callable[[str], str]:
        """Return what turns the hive's address into the one that the node dials."""

        def address(url: str) -> str:
            parts = urlsplit(url)
            self._behind = (parts.hostname or "", parts.port or 80)
            self._thread.start()
            started = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
            return f"http://127.0.0.1:{started.result(10)}"

        return address

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    async def _listen(self) -> int:
        listener = socket.socket()
        # Before `listen`, so that accepted sockets have it from their first byte.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        listener.bind(("127.0.0.1", 0))
        await asyncio.start_server(self._pass, sock=listener, limit=_BITE_BYTES)
        port: int = listener.getsockname()[1]
        return port

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._behind)
        await asyncio.gather(
            self._copy(reader, back, self._bytes_per_s),
            self._copy(there, writer, None),
            return_exceptions=True,
        )

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bytes_per_s: float | None
    ) -> None:
        free_at_s = self._loop.time()
        with contextlib.suppress(OSError):
            while bite := await reader.read(_BITE_BYTES):
                if bytes_per_s is not None:
                    free_at_s = max(free_at_s, self._loop.time()) + len(bite) / bytes_per_s
                    await asyncio.sleep(max(0.0, free_at_s - self._loop.time()))
                writer.write(bite)
                await writer.drain()
        writer.close()
