"""What holds for every request: who asks, from where, and one shape for all that goes wrong.

Owns authentication by bearer token, the Host and Origin checks, the roles of `access`, and the
headers that keep a browser safe. Must not know any noun.
"""

import asyncio
import ipaddress
import logging
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from hive.access import ROUTES, Need, Principal, allows, least_role, role_lacking
from hive.config import LOOPBACK_NAMES, HiveConfig
from protocol.errors import ErrorBody, ErrorCode, SkepError

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
#: Finds the holder of a token; None where there is no such token, or no more.
Authenticate = Callable[[str], Awaitable[Principal | None]]

#: Who is calling; not there where nobody had to say.
PRINCIPAL: Final = web.RequestKey("PRINCIPAL", Principal)
REQUEST_ID: Final = web.RequestKey("REQUEST_ID", str)
_ENCODER: Final = msgspec.json.Encoder()

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; font-src 'self'; worker-src 'self'; manifest-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
SAFE_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_STRICT_TRANSPORT: Final = "max-age=31536000"
#: What aiohttp itself refuses, in our words.
_CODES_OF_STATUS: Final = {
    400: ErrorCode.INVALID,
    403: ErrorCode.FORBIDDEN,
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.INVALID,
    413: ErrorCode.TOO_LARGE,
    503: ErrorCode.DRAINING,
}


def principal_of(request: web.Request) -> Principal:
    """Return who is calling. Raises UNAUTHENTICATED on a route that let nobody in particular in."""
    principal: Principal | None = request.get(PRINCIPAL)
    if principal is None:
        raise _unauthenticated(given=False)
    return principal


def error_response(body: ErrorBody, status: int) -> web.Response:
    """Return an error in the one shape."""
    response = web.Response(
        body=_ENCODER.encode({"error": body}), status=status, content_type="application/json"
    )
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="skep"'
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        response.headers["Retry-After"] = str(body.details.get("retry_after_s", 60))
    return response


def json_response(value: Any, status: int = 200) -> web.Response:
    """Return a value as JSON."""
    return web.Response(
        body=_ENCODER.encode(value),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def finishing(handler: Handler) -> Handler:
    """Have a handler that changes something go on to its end, also when its caller leaves."""
    under_way: set[asyncio.Task[web.StreamResponse]] = set()

    async def finish(request: web.Request) -> web.StreamResponse:
        task = asyncio.ensure_future(handler(request))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        return await asyncio.shield(task)

    return finish


# --- one shape for errors -------------------------------------------------------------------------


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into the one shape."""
    request[REQUEST_ID] = secrets.token_hex(8)
    try:
        return await handler(request)
    except SkepError as error:
        return error_response(error.body(), error.meaning.http_status)
    except web.HTTPException as refused:
        if refused.status < 400:
            raise
        return _refused_by_library(request, refused)
    except web.RequestPayloadError:
        body = ErrorBody(
            code=ErrorCode.INVALID,
            message="the body is not what its headers say",
            hint="Look at Content-Encoding and Transfer-Encoding; plain JSON needs neither.",
        )
        return error_response(body, 400)
    except ConnectionResetError:
        raise
    except TimeoutError:
        late = SkepError(
            ErrorCode.DEADLINE_PASSED,
            "the hive took too long",
            hint="Ask for less at a time, or again later.",
        )
        return error_response(late.body(), late.meaning.http_status)
    except Exception:
        log.exception(
            "%s %s failed",
            request.method,
            request.path,
            extra={"request_id": request[REQUEST_ID]},
        )
        broken = ErrorBody(
            code=ErrorCode.INTERNAL,
            message="the hive failed at this request",
            hint="The hive's own log says more, under this request_id.",
            retryable=True,
            details={"request_id": request[REQUEST_ID]},
        )
        return error_response(broken, 500)


def _refused_by_library(request: web.Request, refused: web.HTTPException) -> web.Response:
    if refused.status == HTTPStatus.NOT_FOUND:
        body = ErrorBody(
            code=ErrorCode.NOT_FOUND,
            message=f"there is nothing at {request.path}",
            hint="See /api/docs for what there is.",
        )
        return error_response(body, 404)
    if isinstance(refused, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(refused.allowed_methods))
        body = ErrorBody(
            code=ErrorCode.INVALID,
            message=f"{request.method} is not for {request.path}",
            hint=f"It takes {allowed}.",
            details={"allowed": sorted(refused.allowed_methods)},
        )
        response = error_response(body, 405)
        response.headers["Allow"] = allowed
        return response
    code = _CODES_OF_STATUS.get(refused.status, ErrorCode.INVALID)
    message = "the body is too large" if refused.status == 413 else refused.reason
    return error_response(ErrorBody(code=code, message=message), refused.status)


# --- from where -----------------------------------------------------------------------------------


class Doorkeeper:
    """Knows by which names this hive may be called, and which page's requests it takes.

    A page of another site must not reach the hive through a name that its owner points here (DNS
    rebinding), nor by a request the browser sends in its name. An address is no name: nobody can
    rebind it.
    """

    def __init__(self, config: HiveConfig) -> None:
        self._names = set(LOOPBACK_NAMES)
        self._origins: set[str] = set()
        self._wildcard = config.host in {"", "0.0.0.0", "::"}  # noqa: S104  compared only
        self._names.add(config.host.lower())
        if not config.loopback:
            own = socket.gethostname().lower()
            self._names |= {own, f"{own.partition('.')[0]}.local"}
        for url in config.public_urls:
            parts = urlsplit(url)
            self._names.add((parts.hostname or "").lower())
            self._origins.add(_origin(parts.scheme, parts.netloc))

    def check(self, request: web.Request) -> None:
        """Raise SkepError unless host and origin are ours."""
        host = request.headers.get("Host", "")
        # Nodes prove themselves, and sign the name they dialled: no page can stand in for one.
        if not request.path.startswith("/v1/") and not self._knows(host):
            raise SkepError(
                ErrorCode.FORBIDDEN,
                f"this hive is not called {host[:200]!r}",
                hint="Where that is its address, start it with --public-url.",
            )
        origin = request.headers.get("Origin")
        if origin is None:
            return
        own = {_origin(scheme, host) for scheme in ("http", "https")}
        if origin.lower() not in own | self._origins:
            raise SkepError(
                ErrorCode.FORBIDDEN,
                f"requests of the page at {origin[:200]!r} are not taken",
                hint="Where that page is the hive's own, start it with --public-url.",
            )

    def _knows(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name in self._names or name.endswith(".localhost"):
            return True
        if not self._wildcard:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _origin(scheme: str, netloc: str) -> str:
    netloc = netloc.lower()
    standard = {"http": ":80", "https": ":443"}[scheme]
    return f"{scheme}://{netloc.removesuffix(standard)}"


def caller_address(request: web.Request, *, behind_proxy: bool) -> str:
    """Return the address a request came from; behind a proxy, as the proxy tells it."""
    if behind_proxy:
        forwarded = request.headers.get("X-Forwarded-For", "")
        # The last one is what our proxy saw; those before it are what the caller claims.
        last = forwarded.rpartition(",")[2].strip()
        if last:
            return last[:64]
    return request.remote or ""


# --- who ------------------------------------------------------------------------------------------


class TokenCache:
    """Remembers tokens found good for a few seconds, so that not every request reads the store."""

    _TOKENS_MAX = 4096

    def __init__(self, look_up: Authenticate, kept_s: float) -> None:
        self._look_up = look_up
        self._kept_s = kept_s
        self._found: dict[str, tuple[float, Principal]] = {}
        self._forgotten = 0

    async def find(self, token: str) -> Principal | None:
        """Return the holder of a token, None where there is none."""
        if not token.isascii():
            # None of ours; and a header's bytes that are no text cannot be looked up.
            return None
        kept = self._found.get(token)
        if kept is not None and kept[0] > time.monotonic():
            return kept[1]
        self._found.pop(token, None)
        forgotten = self._forgotten
        principal = await self._look_up(token)
        # What was read before a revocation may be what was revoked.
        if principal is not None and self._kept_s and forgotten == self._forgotten:
            if len(self._found) >= self._TOKENS_MAX:
                self._found.clear()
            self._found[token] = (time.monotonic() + self._kept_s, principal)
        return principal

    def forget(self) -> None:
        """Forget all: a token was revoked."""
        self._forgotten += 1
        self._found.clear()


def bearer_of(request: web.Request) -> str | None:
    """Return the token a request carries, if any."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def guard(config: HiveConfig, tokens: TokenCache) -> Any:
    """Return the middleware that checks host, origin, token and role, in this order."""
    doorkeeper = Doorkeeper(config)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        path = None if resource is None else resource.canonical
        method = "GET" if request.method == "HEAD" else request.method
        requirement = ROUTES.get(f"{method} {path}")
        if path not in {"/healthz", "/readyz"}:
            doorkeeper.check(request)
        if path is None:
            # No such route: the handler raises the 404 or 405.
            return await handler(request)
        token = bearer_of(request)
        principal = None if token is None else await tokens.find(token)
        if requirement is not Need.NOBODY and principal is None:
            raise _unauthenticated(given=token is not None)
        if requirement is None or not allows(requirement, principal):
            raise role_lacking("this", least_role(requirement), principal)
        if principal is not None:
            request[PRINCIPAL] = principal
        return await handler(request)

    return check


def _unauthenticated(*, given: bool) -> SkepError:
    if given:
        return SkepError(
            ErrorCode.UNAUTHENTICATED,
            "the token is not known here, has expired or was revoked",
            hint="Ask an admin of this hive for another: hive tokens create.",
        )
    return SkepError(
        ErrorCode.UNAUTHENTICATED,
        "a token is needed",
        hint="Send `Authorization: Bearer TOKEN`; `hive login URL` keeps one for the command line.",
    )


def safe_headers(
    config: HiveConfig,
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Return the signal that puts the headers on every response."""

    async def put(request: web.Request, response: web.StreamResponse) -> None:
        del request
        for name, value in SAFE_HEADERS.items():
            response.headers.setdefault(name, value)
        if config.tls:
            response.headers.setdefault("Strict-Transport-Security", _STRICT_TRANSPORT)

    return put
