"""The supervisor's socket: lines of JSON in, lines of JSON out, each request answered once.

Part of the supervisor: the standard library only. Must not know what the requests mean, nor let a
client make it wait, fail or grow.
"""

import contextlib
import json
import os
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from node_agent.run_folder import VERSION

#: One node agent holds one connection; more are people with a debugger.
_CLIENTS_MAX: Final = 16
#: A request carries at most this much, stdin's base64 included.
REQUEST_BYTES_MAX: Final = 1024 * 1024
#: A client that asks and never reads is let go.
_REPLIES_BYTES_MAX: Final = 1024 * 1024
_READ_BYTES: Final = 64 * 1024


class BadRequestError(Exception):
    """A request that cannot be carried out; `code` is for programs, the text for people."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Client:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.closed = False

    def reply(self, request_id: object, **fields: object) -> None:
        """Answer a request, at once or as soon as the client reads."""
        record = {"version": VERSION, "id": request_id, **fields}
        self.outbox += json.dumps(record).encode() + b"\n"
        self.flush()

    def refuse(self, request_id: object, error: BadRequestError) -> None:
        self.reply(request_id, ok=False, error=error.code, message=str(error))

    def flush(self) -> None:
        """Send what the client takes now."""
        try:
            while self.outbox:
                del self.outbox[: self.connection.send(self.outbox)]
        except BlockingIOError:
            if len(self.outbox) > _REPLIES_BYTES_MAX:
                self.close()
        except OSError:
            self.close()

    def close(self) -> None:
        self.closed = True
        self.connection.close()


class ControlSocket:
    """Listens in the present folder; hands each request, checked for its form, to `handle`."""

    def __init__(
        self, path: Path, handle: Callable[[Client, object, dict[str, Any]], None]
    ) -> None:
        self._path = path
        self._handle = handle
        self._clients: dict[int, Client] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        self._listener.bind(os.fspath(path))
        self._listener.listen(_CLIENTS_MAX)

    def interests(self) -> Iterator[tuple[int, int]]:
        """Yield (descriptor, poll events) of all there is to wait for."""
        yield self._listener.fileno(), select.POLLIN
        for fd, client in self._clients.items():
            yield fd, select.POLLIN | (select.POLLOUT if client.outbox else 0)

    def ready(self, fd: int) -> bool:
        """Serve a descriptor that is ready; False if it is none of ours."""
        if fd == self._listener.fileno():
            self._accept()
            return True
        client = self._clients.get(fd)
        if client is None:
            return False
        client.flush()
        if not client.closed:
            self._receive(client)
        if client.closed:
            del self._clients[fd]
        return True

    def close(self) -> None:
        """Let everyone go, with what they have not read yet if they read it soon."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        self._listener.close()
        for client in self._clients.values():
            if not client.closed:
                with contextlib.suppress(OSError):
                    client.connection.settimeout(1.0)
                    client.connection.sendall(client.outbox)
                client.close()
        self._clients.clear()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if len(self._clients) >= _CLIENTS_MAX:
            connection.close()
            return
        connection.setblocking(False)
        self._clients[connection.fileno()] = Client(connection)

    def _receive(self, client: Client) -> None:
        try:
            received = client.connection.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            client.close()
            return
        client.inbox += received
        *lines, rest = client.inbox.split(b"\n") if b"\n" in received else (client.inbox,)
        client.inbox = rest
        for line in lines:
            if not client.closed:
                self._serve(client, line)
        if len(rest) > REQUEST_BYTES_MAX and not client.closed:
            client.refuse(None, BadRequestError("too_large", "the request is too long"))
            client.close()

    def _serve(self, client: Client, line: bytearray) -> None:
        request_id: object = None
        try:
            request = json.loads(line)
            request_id = request.get("id") if isinstance(request, dict) else None
            self._handle(client, request_id, _checked(request))
        except BadRequestError as error:
            client.refuse(request_id, error)
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
            client.refuse(request_id, BadRequestError("invalid", f"bad request: {error}"))


def _checked(request: object) -> dict[str, Any]:
    if not isinstance(request, dict):
        raise BadRequestError("invalid", "a request is a JSON object")
    if request.get("version") != VERSION:
        raise BadRequestError("unsupported_version", f"this supervisor speaks {VERSION}")
    return request
