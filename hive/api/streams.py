"""Live events for viewers: Server-Sent Events, and the same over a WebSocket.

Owns how a stream starts, resumes and ends. An event says what changed; the viewer reads it anew.
Must not keep a viewer that takes nothing.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec
from aiohttp import WSMsgType, web

from hive.api.context import CONTEXT, HiveContext
from hive.api.decoding import InvalidInput, query_of
from hive.api.middleware import bearer_of
from hive.live_feed import Subscription
from hive.store.backend import Change
from hive.store.changes import changes_after, newest_change_id
from protocol.errors import ErrorCode, SkepError
from protocol.ids import is_id

#: A sign of life this often, so that proxies keep the stream and clients notice a dead one.
ALIVE_S: Final = 15.0
#: A revoked token is refused within 5 s, and so are the streams it opened.
RIGHT_CHECKED_S: Final = 3.0
TOPICS_MAX: Final = 100
_TOPIC_WORDS: Final = frozenset({"attempt", "project", "node", "task", "session"})
#: What a resuming viewer missed is read in pages; one who missed more than this reads anew.
_MISSED_PAGE: Final = 1000
_MISSED_PAGES_MAX: Final = 10
_ENCODER: Final = msgspec.json.Encoder()


class StreamQuery(msgspec.Struct, frozen=True, kw_only=True):
    """`topics`: attempt:ID, project:ID, task:ID, node:ID, session:ID, nodes; by commas."""

    topics: list[str]
    last_event_id: str | None = None


class Viewer(Protocol):
    """One who takes events, by either transport."""

    async def event(self, event_id: str, name: str, fields: dict[str, Any]) -> None: ...

    async def alive(self, event_id: str) -> None: ...


async def stream(request: web.Request) -> web.StreamResponse:
    """Serve live events until the viewer leaves or the hive stops."""
    context = request.app[CONTEXT]
    query = query_of(request, StreamQuery)
    topics = _checked_topics(query.topics)
    last_id = request.headers.get("Last-Event-ID") or query.last_event_id
    if context.feed.viewers >= context.config.viewers_max:
        raise SkepError(
            ErrorCode.SLOW_DOWN,
            "too many live streams are open",
            hint="Try again later; an admin can raise viewers_max.",
            retry_after_s=30,
        )
    for topic in topics:
        word, _, identifier = topic.partition(":")
        if word == "attempt":
            # Looking at an attempt is what asks for the parts of it that are not here yet.
            context.backfill.opened(identifier)
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await _over_websocket(request, context, topics, last_id)
    return await _over_http(request, context, topics, last_id)


async def _may_go_on(request: web.Request) -> bool:
    """Whether the caller still is who it was: a token revoked meanwhile ends its streams."""
    token = bearer_of(request)
    return token is not None and await request.app[CONTEXT].tokens.find(token) is not None


def _checked_topics(given: Sequence[str]) -> frozenset[str]:
    topics = frozenset(topic.strip() for topic in given if topic.strip())
    if not 1 <= len(topics) <= TOPICS_MAX:
        raise InvalidInput(f"topics: 1 to {TOPICS_MAX} are taken", field="topics")
    for topic in topics:
        word, _, identifier = topic.partition(":")
        if topic != "nodes" and not (word in _TOPIC_WORDS and is_id(identifier)):
            raise InvalidInput(
                f"topics: {topic[:100]!r} is none",
                field="topics",
                hint="Use nodes, or session:ID, attempt:ID, project:ID, task:ID, node:ID: whole"
                " ids.",
            )
    return topics


# --- what a viewer gets ---------------------------------------------------------------------------


async def serve(
    request: web.Request, viewer: Viewer, topics: frozenset[str], last_id: str | None
) -> None:
    """Send events until the feed closes; cancelled where the viewer leaves."""
    context = request.app[CONTEXT]
    with context.feed.subscribe(topics, live=True) as subscription:
        # Subscribed first and read second: what is committed in between comes twice, and is told
        # apart by its number.
        newest = await context.database.read(newest_change_id)
        if last_id:
            newest = await _send_missed(context, viewer, topics, last_id, newest)
        await viewer.alive(newest)
        await _send_new(request, viewer, subscription, newest)


async def _send_missed(
    context: HiveContext, viewer: Viewer, topics: frozenset[str], last_id: str, newest: str
) -> str:
    for _ in range(_MISSED_PAGES_MAX):
        missed = await context.database.read(changes_after, last_id, _MISSED_PAGE)
        if missed is None:
            break
        for change in missed:
            if not topics.isdisjoint(change.topics):
                await viewer.event(change.id, change.kind, _fields_of(change))
        if len(missed) < _MISSED_PAGE:
            return missed[-1].id if missed else last_id
        last_id = missed[-1].id
    await viewer.event(newest, "reset", {})
    return newest


async def _send_new(
    request: web.Request, viewer: Viewer, subscription: Subscription, newest: str
) -> None:
    sent = _position(newest)
    loop = asyncio.get_running_loop()
    checked = told = loop.time()
    while True:
        try:
            async with asyncio.timeout(RIGHT_CHECKED_S):
                taken = await subscription.take()
        except TimeoutError:
            if loop.time() - told >= ALIVE_S - RIGHT_CHECKED_S / 2:
                told = loop.time()
                await viewer.alive("")
            taken = ([], False)
        if loop.time() - checked >= RIGHT_CHECKED_S:
            checked = loop.time()
            if not await _may_go_on(request):
                return
        if taken is None:
            return
        changes, lost = taken
        # Before the changes: a piece of a message is not to come after the message.
        for piece in subscription.take_pieces():
            await viewer.event("", piece.kind, piece.fields)
        if lost and changes:
            await viewer.event(changes[0].id, "reset", {})
        for change in changes:
            position = (change.generation, change.change_no)
            if position > sent:
                sent = position
                await viewer.event(change.id, change.kind, _fields_of(change))


def _fields_of(change: Change) -> dict[str, Any]:
    return {f"{word}_id": identifier for word, identifier in change.ids.items()}


def _position(event_id: str) -> tuple[int, int]:
    generation, _, number = event_id.partition(".")
    return (int(generation), int(number))


# --- Server-Sent Events ---------------------------------------------------------------------------


class _HttpViewer:
    def __init__(self, response: web.StreamResponse, drain_s: float) -> None:
        self._response = response
        self._drain_s = drain_s

    async def event(self, event_id: str, name: str, fields: dict[str, Any]) -> None:
        # Without an id the client goes on from the one before: this is not to be resumed after.
        number = f"id: {event_id}\n" if event_id else ""
        said = f"{number}event: {name}\ndata: ".encode()
        await self._write(said + _ENCODER.encode(fields) + b"\n\n")

    async def alive(self, event_id: str) -> None:
        # An id without data is remembered by the client and shown to nobody.
        await self._write(f"id: {event_id}\n: alive\n\n".encode() if event_id else b": alive\n\n")

    async def _write(self, said: bytes) -> None:
        async with asyncio.timeout(self._drain_s):
            await self._response.write(said)


async def _over_http(
    request: web.Request, context: HiveContext, topics: frozenset[str], last_id: str | None
) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-store",
            # nginx would hold events back until its buffer is full.
            "X-Accel-Buffering": "no",
        }
    )
    await response.prepare(request)
    viewer = _HttpViewer(response, context.config.viewer_drain_s)
    try:
        await serve(request, viewer, topics, last_id)
    except (TimeoutError, ConnectionError):
        # It takes nothing, or is gone: nothing can be said to it any more.
        _drop(request)
    return response


def _drop(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


# --- WebSocket ------------------------------------------------------------------------------------


class _SocketViewer:
    def __init__(self, socket: web.WebSocketResponse, drain_s: float) -> None:
        self._socket = socket
        self._drain_s = drain_s

    async def event(self, event_id: str, name: str, fields: dict[str, Any]) -> None:
        number = {"id": event_id} if event_id else {}
        await self._send({**number, "event": name, "data": fields})

    async def alive(self, event_id: str) -> None:
        await self._send({"id": event_id, "event": "alive"} if event_id else {"event": "alive"})

    async def _send(self, said: dict[str, Any]) -> None:
        async with asyncio.timeout(self._drain_s):
            await self._socket.send_str(_ENCODER.encode(said).decode())


async def _over_websocket(
    request: web.Request, context: HiveContext, topics: frozenset[str], last_id: str | None
) -> web.StreamResponse:
    socket = web.WebSocketResponse(compress=False, max_msg_size=4096, timeout=2.0)
    await socket.prepare(request)
    viewer = _SocketViewer(socket, context.config.viewer_drain_s)
    sending = asyncio.create_task(serve(request, viewer, topics, last_id), name="viewer events")
    reading = asyncio.create_task(_read_until_closed(socket), name="viewer socket")
    try:
        await asyncio.wait({sending, reading}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done() and not sending.cancelled() and sending.exception() is not None:
            _drop(request)
    finally:
        for task in (sending, reading):
            task.cancel()
        await asyncio.gather(sending, reading, return_exceptions=True)
        with contextlib.suppress(ConnectionError, RuntimeError):
            await socket.close(code=1001 if context.stopping else 1000)
    return socket


async def _read_until_closed(socket: web.WebSocketResponse) -> None:
    while (await socket.receive()).type not in {
        WSMsgType.CLOSE,
        WSMsgType.CLOSING,
        WSMsgType.CLOSED,
        WSMsgType.ERROR,
    }:
        # A viewer has nothing to say here: what it wants stands in the address.
        pass
