"""The Unix socket that serves the node's API to the people of this machine.

Owns who may speak: the user who runs the agent, and root, by the kernel's word; never a web page.
What speaks for an attempt is marked so.
Never served on TCP: `direct` is, and answers others.
"""

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import web

from node_agent.api.exchange import ApiReply, ApiRequest, reply_error
from node_agent.callers import (
    ATTEMPT_HEADER,
    ATTEMPT_VARIABLE,
    NODE_HEADER,
    NODE_VARIABLE,
    UNPLACED,
    attempt_behind,
    attempt_in,
)
from node_agent.failpoints import failpoint
from protocol.errors import ErrorCode, OperationError, SkepError

log = logging.getLogger(__name__)

#: Answers a method, a path and what came with them; raises SkepError.
Answerer = Callable[[str, str, ApiRequest], Awaitable[ApiReply]]

_BODY_BYTES_MAX: Final = 4 * 1024 * 1024
#: What is still being answered at the end: a follower of a log would never let go by itself.
_SHUTDOWN_S: Final = 1.0
#: Rounds of the loop in which a connection begins to be one, or lets go of its socket.
_CLOSING_ROUNDS: Final = 5
_HOSTS: Final = frozenset({"localhost", ""})
_PEER: Final = struct.Struct("3i")


class LocalApi:
    """Serves the API on one Unix socket, from `start` to `close`."""

    def __init__(self, path: Path, answerer: Answerer, *, node_id: str) -> None:
        self._path = path
        self._node_id = node_id
        self._answerer = answerer
        app = web.Application(client_max_size=_BODY_BYTES_MAX)
        # All of it, line ends too: a file may be named so.
        app.router.add_route("*", "/{path:(?s:.*)}", self._handle)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_S
        )

    async def start(self) -> None:
        """Listen. The caller holds the data folder's lock, so a socket left there is stale."""
        await self._runner.setup()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Closed to others from its first moment: the mode is set before anyone can connect.
            listener.bind(str(self._path))
            self._path.chmod(0o600)
            listener.setblocking(False)
            await web.SockSite(self._runner, listener).start()
        except OSError:
            listener.close()
            raise

    async def close(self) -> None:
        """Stop listening and end what is being answered."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        # Whoever was accepted just now becomes a connection in the loop's next rounds; only those
        # are known to the runner. And closed ones let go of their sockets in some rounds more.
        await _some_rounds()
        await self._runner.cleanup()
        await _some_rounds()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            _check_caller(request)
            asked = ApiRequest(
                query=dict(request.query),
                body=await request.read(),
                key=request.headers.get("Idempotency-Key"),
                expected_head=request.headers.get("Expected-Head"),
                from_attempt=self._attempt_of(request),
            )
            reply = await self._answerer(request.method, request.raw_path.split("?")[0], asked)
        except SkepError as error:
            reply = reply_error(error)
        except web.HTTPRequestEntityTooLarge:
            reply = reply_error(OperationError(ErrorCode.TOO_LARGE, "the request is too large"))
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            reply = reply_error(
                OperationError(
                    ErrorCode.INTERNAL, "the agent failed", hint="Its log says where and why."
                )
            )
        failpoint("node.api.before_reply")
        return await send_reply(request, reply)

    def _attempt_of(self, request: web.Request) -> str | None:
        """Return the attempt whose program asks: by the kernel's word, else by its own."""
        peer = _peer(request)
        if peer is not None and peer.pid:
            found = attempt_behind(peer.pid, self._node_id)
            # What root does may be hidden from us; no attempt is root's unless we are.
            hidden = found == UNPLACED and peer.user == 0 != os.geteuid()
            if found is not None and not hidden:
                return found
        said = {
            NODE_VARIABLE: request.headers.get(NODE_HEADER, ""),
            ATTEMPT_VARIABLE: request.headers.get(ATTEMPT_HEADER, ""),
        }
        return attempt_in(said, self._node_id)


async def _some_rounds() -> None:
    for _ in range(_CLOSING_ROUNDS):
        await asyncio.sleep(0)


async def send_reply(request: web.Request, reply: ApiReply) -> web.StreamResponse:
    """Send a reply, whole or as it comes."""
    if reply.pieces is None:
        return web.Response(
            status=reply.status,
            body=reply.body,
            content_type=reply.media_type.partition(";")[0],
            headers=reply.headers,
        )
    return await _stream(request, reply)


async def _stream(request: web.Request, reply: ApiReply) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_type = reply.media_type.partition(";")[0]
    pieces = reply.pieces
    assert pieces is not None  # noqa: S101  told apart by the caller
    try:
        await response.prepare(request)
        async for piece in pieces:
            await response.write(piece)
        await response.write_eof()
    except (SkepError, OSError) as error:
        # The head is out: only a broken transfer can say that the body is not whole.
        log.warning("an answer to %s broke off: %s", request.path, error)
        if request.transport is not None:
            request.transport.abort()
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await asyncio.shield(close())
    return response


def _check_caller(request: web.Request) -> None:
    """Refuse other users of this machine, and anything a browser was talked into."""
    if "Origin" in request.headers or request.host.partition(":")[0] not in _HOSTS:
        raise OperationError(
            ErrorCode.FORBIDDEN, "this socket is for the node-agent command, not for web pages"
        )
    peer = _peer(request)
    if peer is not None and peer.user not in {os.geteuid(), 0}:
        raise OperationError(
            ErrorCode.UNAUTHENTICATED,
            "this node agent belongs to another user",
            hint="Run the command as the user who runs the agent.",
        )


class _Peer(NamedTuple):
    """The process that connected, 0 where we cannot see it, and its user."""

    pid: int
    user: int


def _peer(request: web.Request) -> _Peer | None:
    """Return who is at the other end, as the kernel noted it; None where it keeps no note."""
    if not hasattr(socket, "SO_PEERCRED") or request.transport is None:
        # There the socket's mode alone decides.
        return None
    peer = request.transport.get_extra_info("socket")
    pid, user, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return _Peer(pid, user)
