"""The node agent's end of a supervisor's socket.

Carries requests and answers; must not know what they mean, beyond yes and no.
"""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec

from node_agent.run_folder import SOCKET, VERSION
from protocol.errors import ErrorCode, SkepError

#: A supervisor answers within a millisecond, unless its machine or its disk is out of breath.
REPLY_S_MAX: Final = 15.0
#: A Unix socket's address holds no more than this on any system we know.
_SOCKET_PATH_BYTES_MAX: Final = 100


class SupervisorUnreachableError(SkepError):
    """The supervisor did not answer; the execution may be ending, or its machine overloaded."""

    def __init__(self, run_folder: Path) -> None:
        super().__init__(
            ErrorCode.NODE_FAILED,
            "the execution's supervisor does not answer",
            hint="It may just have ended; look at the execution again.",
        )
        self.run_folder = run_folder


class RequestRefusedError(SkepError):
    """The supervisor answered, and said no; `reason` is its code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(ErrorCode.CONFLICT, message, reason=reason)
        self.reason = reason


class SupervisorConnection:
    """Requests to one supervisor, several at a time; connects when first needed, and again."""

    def __init__(self, run_folder: Path) -> None:
        self._run_folder = run_folder
        self._next_id = 0
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._open = asyncio.Lock()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def request(
        self, do: str, *, reply_s_max: float | None = REPLY_S_MAX, **fields: object
    ) -> dict[str, Any]:
        """Ask, and return the answer's fields."""
        self._next_id += 1
        request_id = self._next_id
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        record = {"version": VERSION, "id": request_id, "do": do, **fields}
        try:
            async with asyncio.timeout(reply_s_max):
                async with self._open:
                    writer = await self._connected()
                    self._answers[request_id] = answer
                    writer.write(msgspec.json.encode(record) + b"\n")
                    await writer.drain()
                reply = await answer
        except (OSError, TimeoutError) as error:
            raise SupervisorUnreachableError(self._run_folder) from error
        finally:
            self._answers.pop(request_id, None)
        if not reply.get("ok"):
            raise RequestRefusedError(str(reply.get("error")), str(reply.get("message")))
        return reply

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            # Not awaited: who is cancelled meanwhile is to hear of it.
            await asyncio.wait({self._listening})
            self._listening = None

    async def _connected(self) -> asyncio.StreamWriter:
        if self._writer is None or self._listening is None or self._listening.done():
            async with _short_path(self._run_folder) as path:
                reader, self._writer = await asyncio.open_unix_connection(path)
            self._listening = asyncio.create_task(self._listen(reader, self._writer))
        return self._writer

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                reply = msgspec.json.decode(line)
                answer = self._answers.get(reply.get("id"))
                if answer is not None and not answer.done():
                    answer.set_result(reply)
        except (OSError, ValueError):
            # Gone, or not speaking our language: either way there is no answer to wait for.
            pass
        finally:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(ConnectionResetError("the supervisor hung up"))
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def _short_path(run_folder: Path) -> AsyncIterator[str]:
    """Yield a name for the socket that fits into a socket's address, while it is being used."""
    path = run_folder / SOCKET
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES_MAX:
        yield os.fspath(path)
        return
    with tempfile.TemporaryDirectory(prefix="skep-") as folder:
        yield _link(Path(folder, "run"), run_folder)


def _link(link: Path, run_folder: Path) -> str:
    link.symlink_to(run_folder.resolve(), target_is_directory=True)
    return os.fspath(link / SOCKET)
