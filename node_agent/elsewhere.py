"""Attempts of other nodes, for this node's operator: straight where possible, else by the hive.

Owns which way a request takes, and the tokens of streams in use. It asks as the person who signed
in (`hive_login`), never as the node. What only reads goes straight to the other node within 2 s,
else through the hive; what changes something goes through the hive, which keeps its key.
"""

import asyncio
import contextlib
import hashlib
import ssl
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from node_agent.api.exchange import ApiReply, ApiRequest, reply_json
from node_agent.hive_login import read_login
from node_agent.identity import Enrolment
from node_agent.join import tls_context
from protocol.errors import ErrorBody, ErrorCode, OperationError, SkepError, operation_error

#: What a reply says of the way it came.
WAY_HEADER: Final = "Skep-Way"
DIRECT_S_MAX: Final = 2.0
_CONNECT_S_MAX: Final = 10.0
#: Longer than any wait for a line, and than three signs of life of a stream.
_SILENT_S_MAX: Final = 45.0
_RETRY_S: Final = 30.0
_TOKEN_LEFT_S_MIN: Final = 30.0
#: Attempts whose way is remembered, and executions whose attempt is.
_REMEMBERED_MAX: Final = 1_000
_REPLY_BYTES_MAX: Final = 64 * 1024 * 1024
#: The hive is not asked to wait for a change that it may not see at once.
_HIVE_WAIT_S_MAX: Final = 2.0


class _ErrorReply(msgspec.Struct, frozen=True):
    error: ErrorBody


@dataclass(frozen=True, kw_only=True)
class _Way:
    """A way to an attempt's node: its own address, or None for the relay, and until when."""

    url: str | None
    token: str
    until_s: float


@dataclass(frozen=True, kw_only=True)
class _Hive:
    """The joined hive, and the person who asks."""

    url: str
    token: str
    tls: ssl.SSLContext | None


class Elsewhere:
    """Asks about attempts of other nodes."""

    def __init__(self, data_dir: Path, enrolment: Callable[[], Enrolment | None]) -> None:
        self._data_dir = data_dir
        self._enrolment = enrolment
        self._session: aiohttp.ClientSession | None = None
        self._ways: OrderedDict[str, _Way] = OrderedDict()
        self._attempts: OrderedDict[str, str] = OrderedDict()
        #: Whose token the ways were found with.
        self._person = ""

    def signed_in(self) -> bool:
        """Whether someone is signed in at the joined hive."""
        return self._hive_or_none() is not None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, method: str, path: str, asked: ApiRequest) -> ApiReply:
        """Answer a request below `/api/v1/` as the other node or the hive does."""
        hive = self._hive_or_none()
        if hive is None:
            raise OperationError(
                ErrorCode.UNAUTHENTICATED,
                "nobody is signed in at the hive here",
                hint="Sign in with your own token: node-agent login",
            )
        if hive.token != self._person:
            # What the hive gave to someone else is not shown for this one.
            self._ways.clear()
            self._person = hive.token
        parts = path.split("/")
        if parts[0] == "attempts" and len(parts) == 2 and method == "GET":
            return await self._attempt(hive, parts[1], asked)
        query = {name: value for name, value in asked.query.items() if name != "all"}
        if method == "GET" and len(parts) > 2 and parts[0] in {"attempts", "executions"}:
            attempt_id = await self._attempt_of(hive, parts[0], parts[1])
            if parts[0] == "attempts":
                path = "/".join(["attempts", attempt_id, *parts[2:]])
            direct = await self._direct(hive, attempt_id)
            if direct is not None:
                try:
                    return await self._send(direct, method, path, query, asked, way="direct")
                except SkepError as error:
                    # Whatever it was, the hive may know better; but the way may be as good as ever.
                    self._heard_on_the_way(attempt_id, error)
        return await self._send(hive, method, path, query, asked, way="relay")

    # --- one attempt --------------------------------------------------------------------------

    async def _attempt(self, hive: _Hive, named: str, asked: ApiRequest) -> ApiReply:
        """Show an attempt with a `version`, and wait for another one, as the local API does."""
        wait_s = min(asked.number("wait_ms", 0, at_most=30_000) / 1000, _HIVE_WAIT_S_MAX)
        shown = await self._json(hive, f"attempts/{named}")
        seen = asked.query.get("version")
        if seen is not None and wait_s and _version(shown) == seen:
            shown = await self._json(hive, f"attempts/{named}", wait_ended_s=wait_s)
        for execution in shown["executions"]:
            _keep(self._attempts, execution["id"], shown["id"])
        return reply_json({**shown, "version": _version(shown)})

    async def _attempt_of(self, hive: _Hive, noun: str, named: str) -> str:
        if noun == "executions":
            if named in self._attempts:
                return self._attempts[named]
            attempt_id = (await self._json(hive, f"executions/{named}"))["attempt_id"]
        elif named in self._ways:
            return named
        else:
            attempt_id = (await self._json(hive, f"attempts/{named}"))["id"]
        if noun == "executions":
            _keep(self._attempts, named, attempt_id)
        return str(attempt_id)

    async def _direct(self, hive: _Hive, attempt_id: str) -> _Hive | None:
        """Return the node's own address with the token for it, where it can be reached."""
        way = self._ways.get(attempt_id)
        if way is None or way.until_s < time.monotonic():
            way = await self._way(hive, attempt_id)
            self._remember(attempt_id, way)
        if way.url is None:
            return None
        return _Hive(url=way.url, token=way.token, tls=self._tls_of(way.url, hive))

    async def _way(self, hive: _Hive, attempt_id: str) -> _Way:
        info = await self._json(hive, f"attempts/{attempt_id}/stream-connection-info")
        lives_s = info["expires_at_ms"] / 1000 - time.time() - _TOKEN_LEFT_S_MIN
        for url in info["direct_urls"]:
            node = _Hive(url=url, token=info["token"], tls=self._tls_of(url, hive))
            with contextlib.suppress(SkepError, TimeoutError):
                async with asyncio.timeout(DIRECT_S_MAX / len(info["direct_urls"])):
                    await self._json(node, f"attempts/{attempt_id}")
                return _Way(url=url, token=info["token"], until_s=time.monotonic() + lives_s)
        return _Way(url=None, token="", until_s=_soon())

    def _heard_on_the_way(self, attempt_id: str, error: SkepError) -> None:
        """Take the relay for a while where the node was not reached; a new token if need be."""
        if error.code is ErrorCode.HIVE_OFFLINE:
            self._remember(attempt_id, _Way(url=None, token="", until_s=_soon()))
        elif error.code in {ErrorCode.UNAUTHENTICATED, ErrorCode.FORBIDDEN}:
            self._ways.pop(attempt_id, None)

    def _remember(self, attempt_id: str, way: _Way) -> None:
        _keep(self._ways, attempt_id, way)

    # --- one exchange -------------------------------------------------------------------------

    async def _json(self, where: _Hive, path: str, **query: Any) -> Any:
        reply = await self._send(where, "GET", path, query, ApiRequest(), way="")
        assert reply.pieces is not None  # noqa: S101  `_send` always streams
        content = bytearray()
        async with contextlib.aclosing(reply.pieces) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                content += piece
                if len(content) > _REPLY_BYTES_MAX:
                    raise OperationError(ErrorCode.TOO_LARGE, "the hive's reply is too large")
        return msgspec.json.decode(content)

    async def _send(
        self,
        where: _Hive,
        method: str,
        path: str,
        query: Mapping[str, Any],
        asked: ApiRequest,
        *,
        way: str,
    ) -> ApiReply:
        headers = {"Authorization": f"Bearer {where.token}", "Accept": "application/json"}
        if asked.key:
            headers["Idempotency-Key"] = asked.key
        if asked.expected_head:
            headers["Expected-Head"] = asked.expected_head
        if asked.body:
            headers["Content-Type"] = "application/json"
        if self._session is None:
            # No cookies, no proxy of the environment: as for the link.
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        try:
            response = await self._session.request(
                method,
                f"{where.url}/api/v1/{path}",
                params={name: str(value) for name, value in query.items()},
                data=asked.body or None,
                headers=headers,
                ssl=where.tls if where.tls is not None else True,
                # A redirect would carry the token to an address nobody named.
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=_CONNECT_S_MAX, sock_read=_SILENT_S_MAX
                ),
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _lost(method, asked.key, error) from error
        if response.status >= 300:
            await _raise_told(response)
        told = {WAY_HEADER: way} if way else {}
        return ApiReply(
            status=response.status,
            media_type=response.content_type,
            headers=told,
            pieces=_pieces(response),
        )

    def _hive_or_none(self) -> _Hive | None:
        enrolment = self._enrolment()
        login = None if enrolment is None else read_login(self._data_dir, enrolment.hive_id)
        if enrolment is None or login is None:
            return None
        tls = tls_context(enrolment, self._data_dir)
        return _Hive(url=enrolment.url.rstrip("/"), token=login.token, tls=tls)

    def _tls_of(self, url: str, hive: _Hive) -> ssl.SSLContext | None:
        """What another node's certificate is verified with: the hive's authority, as the hive."""
        if not url.startswith("https:"):
            return None
        return hive.tls or ssl.create_default_context()


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for piece in response.content.iter_any():
            yield piece
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise OperationError(ErrorCode.HIVE_OFFLINE, "the reply broke off") from error
    finally:
        response.close()


async def _raise_told(response: aiohttp.ClientResponse) -> None:
    async with response:
        content = await response.content.read(1024 * 1024)
    try:
        said = msgspec.json.decode(content, type=_ErrorReply)
    except msgspec.DecodeError as error:
        raise OperationError(
            ErrorCode.HIVE_OFFLINE, f"what answers there is no hive (HTTP {response.status})"
        ) from error
    raise operation_error(said.error)


def _lost(method: str, key: str | None, error: Exception) -> OperationError:
    why = str(error) or type(error).__name__
    if method == "GET" or isinstance(error, aiohttp.ClientConnectorError):
        return OperationError(
            ErrorCode.HIVE_OFFLINE,
            f"no answer from the hive: {why}",
            hint="This node works on; ask again when the hive is back.",
        )
    return OperationError(
        ErrorCode.UNKNOWN_OUTCOME,
        f"the connection to the hive broke before an answer came: {why}",
        hint="Send the same again with the same key; it is done once only.",
        key=key,
    )


def _version(shown: Mapping[str, Any]) -> str:
    return hashlib.blake2b(msgspec.json.encode(shown), digest_size=8).hexdigest()


def _keep(kept: OrderedDict[str, Any], name: str, value: Any) -> None:
    kept[name] = value
    kept.move_to_end(name)
    while len(kept) > _REMEMBERED_MAX:
        kept.popitem(last=False)


def _soon() -> float:
    return time.monotonic() + _RETRY_S
