"""How a command reaches the node: the running agent's socket, or the stores themselves.

Standard library only at the top, so that a command answers at once. Must not know what any
request means.
"""

import http.client
import socket
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from node_agent.callers import ATTEMPT_HEADER, ATTEMPT_VARIABLE, NODE_HEADER, NODE_VARIABLE
from node_agent.config import NodeConfig, process_environment
from node_agent.data_folder import DataFolderBusyError, socket_to_call
from protocol.errors import ErrorBody, ErrorCode, OperationError, operation_error

#: An agent that is just starting holds the folder before it serves.
_STARTING_S_MAX: Final = 10.0
_RETRY_S: Final = 0.1
_ANSWER_S_MAX: Final = 130.0
_PIECE_BYTES: Final = 64 * 1024
_WAY_HEADER: Final = "Skep-Way"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over the agent's Unix socket."""

    def __init__(self, path: Path) -> None:
        # The host is what the agent's Host check expects; no name is ever looked up.
        super().__init__("localhost", timeout=_ANSWER_S_MAX)
        self._socket_path = path

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self.timeout)
            connection.connect(str(self._socket_path))
        except OSError:
            connection.close()
            raise
        self.sock = connection


class _ErrorReply(msgspec.Struct, frozen=True):
    error: ErrorBody


class LocalClient:
    """Asks the node of one data folder, whether its agent runs or not."""

    def __init__(self, config: NodeConfig, told: Callable[[str], None] = lambda _: None) -> None:
        self._config = config
        #: Hears which way an answer of another node came: `direct` or `relay`.
        self._told = told

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """Return the JSON of a GET."""
        return msgspec.json.decode(b"".join(self.stream("GET", path, query=query)))

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        key: str | None = None,
        expected_head: str | None = None,
    ) -> Any:
        """Return the JSON of a request that changes something."""
        content = b"" if body is None else msgspec.json.encode(body)
        pieces = self.stream(
            method, path, query=query, body=content, key=key, expected_head=expected_head
        )
        return msgspec.json.decode(b"".join(pieces))

    def stream(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: bytes = b"",
        key: str | None = None,
        expected_head: str | None = None,
    ) -> Iterator[bytes]:
        """Yield the bytes of a reply as they come; raises the error the node answered."""
        target, headers = f"/api/v1/{path}", _headers(key, expected_head)
        if query:
            said = {name: value for name, value in query.items() if value is not None}
            target += "?" + urllib.parse.urlencode(said)
        deadline_s = time.monotonic() + _STARTING_S_MAX
        while True:
            try:
                connection = self._connect()
            except (FileNotFoundError, ConnectionRefusedError):
                try:
                    yield from _ask_stores(self._config, method, target, body, key)
                except DataFolderBusyError:
                    if time.monotonic() > deadline_s:
                        raise
                    time.sleep(_RETRY_S)
                    continue
                return
            yield from _ask_agent(connection, method, target, body, headers, self._told)
            return

    def running(self) -> bool:
        """Whether an agent serves this data folder."""
        try:
            self._connect().close()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def _connect(self) -> _UnixConnection:
        path = socket_to_call(self._config.data_dir)
        connection = _UnixConnection(path)
        try:
            connection.connect()
        except PermissionError as error:
            raise OperationError(
                ErrorCode.FORBIDDEN,
                f"the agent's socket {path} is not yours",
                hint="Run the command as the user who runs the agent.",
            ) from error
        return connection


def _headers(key: str | None, expected_head: str | None) -> dict[str, str | bytes]:
    headers: dict[str, str | bytes] = {
        "Content-Type": "application/json",
        "Accept": "application/json",
    }
    own = process_environment()
    for header, name in ((NODE_HEADER, NODE_VARIABLE), (ATTEMPT_HEADER, ATTEMPT_VARIABLE)):
        if name in own:
            headers[header] = urllib.parse.quote(own[name], safe="")
    for header, value in (("Idempotency-Key", key), ("Expected-Head", expected_head)):
        if value and not value.isprintable():
            raise OperationError(
                ErrorCode.INVALID,
                f"{header}: it holds a line break, or another character that cannot be shown",
                hint="Give one line of plain text.",
                field=header,
            )
        if value:
            # As text it would go as Latin-1, which holds few of the letters there are.
            headers[header] = value.encode()
    return headers


def _ask_agent(
    connection: _UnixConnection,
    method: str,
    target: str,
    body: bytes,
    headers: dict[str, str | bytes],
    told: Callable[[str], None],
) -> Iterator[bytes]:
    sent = headers.get("Idempotency-Key")
    key = sent.decode() if isinstance(sent, bytes) else sent
    try:
        connection.request(method, target, body=body, headers=headers)
        reply = connection.getresponse()
        if reply.status >= 400:
            _raise_answered(reply.status, reply.read(1024 * 1024))
        if way := reply.getheader(_WAY_HEADER):
            told(way)
        while piece := reply.read1(_PIECE_BYTES):
            yield piece
        if reply.length:
            raise http.client.IncompleteRead(b"", reply.length)
    except (OSError, http.client.HTTPException) as error:
        raise OperationError(
            ErrorCode.UNKNOWN_OUTCOME if method != "GET" else ErrorCode.NODE_FAILED,
            "the node agent went away before it had answered",
            hint="Look at its log, then ask again"
            + (f"; the idempotency key was {key}." if key else "."),
            **({"key": key} if key else {}),
        ) from error
    finally:
        connection.close()


def _ask_stores(
    config: NodeConfig, method: str, target: str, body: bytes, key: str | None
) -> Iterator[bytes]:
    """Answer from the stores themselves, with no agent running."""
    from node_agent.alone import answer_alone

    status, content = answer_alone(config, method, target, body, key)
    if status >= 400:
        _raise_answered(status, content)
    yield content


def _raise_answered(status: int, content: bytes) -> NoReturn:
    try:
        said = msgspec.json.decode(content, type=_ErrorReply)
    except msgspec.DecodeError as error:
        raise OperationError(
            ErrorCode.NODE_FAILED,
            f"the node agent answered HTTP {status} with something unknown",
            hint="Is another release of the agent running? Restart it.",
        ) from error
    raise operation_error(said.error)
