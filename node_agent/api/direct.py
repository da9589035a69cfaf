"""The node's own listener: the table's operations for clients that come with the hive's word.

Owns who may speak: bearers of a token of a stream, to read its one attempt, or of a capability, for
the one call it names. There is no other way in: no cookie, no address and no user is trusted, and
the local API is not served here. What is done with a request is the dispatcher's.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from node_agent.api.attempts import show_attempt
from node_agent.api.exchange import ApiReply, ApiRequest, reply_error, reply_json
from node_agent.api.operations import request_of, whole_answer
from node_agent.api.router import Route, find_route
from node_agent.api.server import send_reply
from node_agent.config import ConfigError
from node_agent.direct_exposure import DirectExposure, direct_names, direct_tls
from node_agent.identity import HiveWord
from node_agent.local_node import LocalNode
from node_agent.operations.asking import Asking, Streamed
from node_agent.store import requests, sessions
from protocol import limits
from protocol.conversation import AgentRequest, Session
from protocol.errors import (
    ErrorCode,
    OperationError,
    RemoteProtocolError,
    SkepError,
    operation_error,
)
from protocol.messages import Call, Result
from protocol.operation_values import ROOTS
from protocol.operations import OPERATIONS, Operation, Role
from protocol.stream_tokens import StreamToken, check_stream_token
from protocol.tokens import body_hash

log = logging.getLogger(__name__)

_BODY_BYTES_MAX: Final = 1024 * 1024
_HEADER_BYTES_MAX: Final = 16 * 1024
#: For a caller to say what it wants.
_BODY_S_MAX: Final = 15.0
#: Requests at a time, so that callers cannot take the agent's work from it.
REQUESTS_MAX: Final = 64
#: Between requests, and for the line and headers of one to be whole: nothing sent prolongs it.
_IDLE_S_MAX: Final = 30.0
_SHUTDOWN_S: Final = 1.0
_ATTEMPT_HEADER: Final = "Skep-Attempt-Id"
_SAFE_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "sandbox; default-src 'none'",
}
#: Those of the operations' routes.
_METHODS: Final = "GET, POST, PUT, PATCH, DELETE"
_ALLOWED_HEADERS: Final = "Authorization, Content-Type, Idempotency-Key, Expected-Head"


class DirectListener:
    """Serves clients on one TCP port, from `start` to `close`."""

    def __init__(
        self,
        exposure: DirectExposure,
        *,
        node: Callable[[], LocalNode],
        word: Callable[[], HiveWord | None],
        origins: Callable[[], set[str]],
    ) -> None:
        self._exposure = exposure
        self._names = direct_names(exposure)
        self._node = node
        self._word = word
        self._origins = origins
        self._requests = 0
        app = web.Application(client_max_size=_BODY_BYTES_MAX)
        # All of it, line ends too: a file may be named so.
        app.router.add_route("*", "/{path:(?s:.*)}", self._handle)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=_IDLE_S_MAX,
            max_line_size=_HEADER_BYTES_MAX,
            max_field_size=_HEADER_BYTES_MAX,
            shutdown_timeout=_SHUTDOWN_S,
        )

    async def start(self) -> None:
        """Listen. Raises ConfigError where that cannot be."""
        exposure = self._exposure
        tls = direct_tls(exposure)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, exposure.host, exposure.port, ssl_context=tls)
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"cannot listen on {exposure.host} port {exposure.port}: {error.strerror or error}",
                where="direct_listen",
                hint="Is something else using it? Choose another.",
            ) from error
        log.info("direct connections at %s (%s)", ", ".join(exposure.urls), exposure.says)

    async def close(self) -> None:
        """Stop listening and end what is being answered."""
        await self._runner.cleanup()

    # --- one request --------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        crossing: dict[str, str] = {}
        try:
            crossing = self._check_origin(request)
            if request.method == "OPTIONS":
                return web.Response(status=204, headers=crossing)
            self._check_room()
            self._requests += 1
            try:
                reply, lives_s = await self._answer(request)
                reply = replace(reply, headers={**reply.headers, **_SAFE_HEADERS, **crossing})
                # Also a reader that takes nothing is let go of when its right ends.
                async with asyncio.timeout(lives_s):
                    return await send_reply(request, reply)
            finally:
                self._requests -= 1
        except SkepError as error:
            reply = reply_error(error)
        except web.HTTPRequestEntityTooLarge:
            reply = reply_error(OperationError(ErrorCode.TOO_LARGE, "the request is too large"))
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            reply = reply_error(OperationError(ErrorCode.DEADLINE_PASSED, "that took too long"))
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            reply = reply_error(OperationError(ErrorCode.NODE_FAILED, "the node agent failed"))
        reply = replace(reply, headers={**_SAFE_HEADERS, **crossing})
        return await send_reply(request, reply)

    def _check_room(self) -> None:
        if self._requests >= REQUESTS_MAX:
            raise OperationError(
                ErrorCode.SLOW_DOWN,
                f"{REQUESTS_MAX} requests are under way here",
                hint="Take the way through the hive, or try again.",
            )

    async def _answer(self, request: web.Request) -> tuple[ApiReply, float]:
        """Return the reply, and for how long the caller may take it."""
        word = self._word()
        if word is None:
            raise _unauthenticated("this node has joined no hive")
        bearer = _bearer_of(request)
        route, names = find_route(ROUTES, request.method, request.raw_path.split("?")[0])
        async with asyncio.timeout(_BODY_S_MAX):
            body = await request.read()
        asked = ApiRequest(
            path=names,
            query=dict(request.query),
            body=body,
            key=request.headers.get("Idempotency-Key"),
            expected_head=request.headers.get("Expected-Head"),
        )
        caller = _Caller(self._node(), word, bearer)
        reply = await route.handler(caller, asked)
        return reply, caller.lives_s

    def _check_origin(self, request: web.Request) -> dict[str, str]:
        """Refuse names that are not ours and pages that may not; return what a page must see."""
        host = request.headers.get("Host", "")
        if not self._knows(host):
            raise OperationError(
                ErrorCode.FORBIDDEN,
                f"this node is not called {host[:200]!r}",
                hint="Where that is its address, add it to the setting direct_urls.",
            )
        origin = request.headers.get("Origin")
        if origin is None:
            return {}
        if origin.lower() not in {one.rstrip("/").lower() for one in self._origins()}:
            raise OperationError(
                ErrorCode.FORBIDDEN,
                f"requests of the page at {origin[:200]!r} are not taken",
                hint="Its address would have to be in the setting direct_origins.",
            )
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
            "Access-Control-Expose-Headers": f"{_ATTEMPT_HEADER}, Skep-Source, Skep-File-Size",
            "Access-Control-Max-Age": "600",
            "Vary": "Origin",
        }

    def _knows(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            # An address is no name: nobody can point it elsewhere.
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


# --- who asks -------------------------------------------------------------------------------------


class _Caller:
    """One request's bearer: what it shows, and what that allows."""

    def __init__(self, node: LocalNode, word: HiveWord, bearer: str) -> None:
        self.node = node
        self.lives_s: float = limits.STREAM_TOKEN_TTL_S + limits.TOKEN_LEEWAY_S
        self._word = word
        self._bearer = bearer

    def read(self, role: Role, named: str | None) -> StreamToken:
        """Return the token of a stream if it allows reading this attempt. Raises OperationError."""
        word = self._word
        try:
            token = check_stream_token(
                self._bearer,
                keys=word.hive.keys,
                hive_id=word.hive.hive_id,
                generation=word.hive.generation,
                node_id=self.node.record().node_id,
                now_s=word.now_s,
            )
        except RemoteProtocolError as error:
            raise _unauthenticated(error.message) from error
        if named not in {None, token.attempt_id}:
            raise OperationError(
                ErrorCode.FORBIDDEN,
                "the token is for another attempt",
                hint="Ask the hive for one of this attempt: its stream-connection-info.",
            )
        if _role(token.role) < role:
            raise OperationError(ErrorCode.FORBIDDEN, f"this needs the role {role.name.lower()}")
        self.lives_s = max(0.0, token.expires_at_s + limits.TOKEN_LEEWAY_S - word.now_s)
        return token

    async def change(self, operation: Operation, asked: ApiRequest) -> bytes:
        """Have the dispatcher judge and carry out one call, as one that came by the link.

        Of a request of an agent, `asked` names the attempt by now: see `_route`.
        """
        request = request_of(operation, asked)
        if not asked.key:
            raise OperationError(
                ErrorCode.INVALID,
                f"{operation.name} needs an Idempotency-Key",
                hint="The key the hive was told when it gave the capability.",
                field="Idempotency-Key",
            )
        call = Call(
            call_id="direct",
            operation=operation.name,
            attempt_id=asked.path.get("attempt_id", ""),
            body=msgspec.msgpack.encode(request),
            capability=self._bearer,
            time_left_ms=int(operation.deadline_s * 1000),
            idempotency_key=asked.key,
            expected_head=asked.expected_head,
        )
        word = self._word
        answers = self.node.dispatcher.run_call(call, now_s=word.now_s, hive=word.hive, direct=True)
        answer = await anext(answers)
        await answers.aclose()
        assert isinstance(answer, Result)  # noqa: S101  what changes answers whole
        if answer.error is not None:
            raise operation_error(answer.error)
        return answer.body


def _bearer_of(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise _unauthenticated("a token is needed")
    return token.strip()


def _role(name: str) -> Role:
    try:
        return Role[name.upper()]
    except KeyError:
        return Role.AUDITOR


def _unauthenticated(why: str) -> OperationError:
    return OperationError(
        ErrorCode.UNAUTHENTICATED,
        why,
        hint="The hive gives one for each attempt: its stream-connection-info.",
    )


# --- routes ---------------------------------------------------------------------------------------


async def _show(caller: _Caller, asked: ApiRequest) -> ApiReply:
    """Show the attempt, as the local API does."""
    caller.read(Role.VIEWER, asked.path["attempt_id"])
    return await show_attempt(caller.node, asked)


def _route(operation: Operation) -> Route[_Caller]:
    path = operation.path.replace("{path}", "{path:rest}")
    if not path.startswith(ROOTS):
        path = f"attempts/{{attempt_id}}/{path}"

    async def handle(caller: _Caller, asked: ApiRequest) -> ApiReply:
        if "request_id" in asked.path or "session_id" in asked.path:
            asked = await _with_attempt(caller.node, asked)
        if operation.changing:
            answer: bytes | Streamed = await caller.change(operation, asked)
            attempt_id = asked.path.get("attempt_id", "")
        else:
            token = caller.read(operation.role, asked.path.get("attempt_id"))
            attempt_id = token.attempt_id
            request = request_of(operation, asked)
            answer = await caller.node.dispatcher.read(
                Asking(
                    operation=operation,
                    attempt_id=attempt_id,
                    request=request,
                    body_hash=body_hash(msgspec.msgpack.encode(request)),
                    actor=token.actor,
                    project_id=token.project_id,
                )
            )
        headers = {_ATTEMPT_HEADER: attempt_id}
        if isinstance(answer, Streamed):
            return _streamed(answer, headers)
        if operation.changing:
            reply = await whole_answer(caller.node, operation, answer)
            return replace(reply, headers=headers)
        said = msgspec.to_builtins(msgspec.msgpack.decode(answer, type=operation.reply))
        return replace(reply_json({**said, "attempt_id": attempt_id}), headers=headers)

    return Route(operation.method, path, handle)


async def _with_attempt(node: LocalNode, asked: ApiRequest) -> ApiRequest:
    """Name the attempt whose agent asks or speaks; of one unknown, none, which no call allows."""
    found: AgentRequest | Session | None
    if "session_id" in asked.path:
        found = await node.database.read(sessions.find, asked.path["session_id"])
    else:
        found = await node.database.read(requests.find, asked.path["request_id"])
    attempt_id = "" if found is None else found.attempt_id
    return replace(asked, path={**asked.path, "attempt_id": attempt_id})


def _streamed(answer: Streamed, headers: Mapping[str, str]) -> ApiReply:
    media_type = answer.head.media_type
    told = {**answer.head.headers, **headers}
    if not media_type.startswith(("application/json", "application/x-ndjson")):
        # A file of someone's worktree is shown by no browser as a page of ours.
        told["Content-Disposition"] = "attachment"
    return ApiReply(pieces=answer.pieces, media_type=media_type, headers=told)


#: What clients may ask straight: all that is asked of an attempt. A start is none: it makes one.
ROUTES: Final[tuple[Route[_Caller], ...]] = (
    Route("GET", "attempts/{attempt_id}", _show),
    *(
        _route(operation)
        for operation in OPERATIONS.values()
        if not operation.path.startswith("tasks/")
    ),
)
