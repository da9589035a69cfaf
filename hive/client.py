"""The command line's way to a hive: plain blocking HTTP, from the standard library alone.

Owns one connection, the reading of errors in the one shape, and of Server-Sent Events. Must not
print, and must start quickly: nothing here imports aiohttp.
"""

import http.client
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, Self
from urllib.parse import SplitResult, quote, urlencode, urlsplit

import msgspec

from protocol.errors import ErrorBody, ErrorCode, SkepError, operation_error

_CONNECT_S_MAX: Final = 10.0
_REPLY_BYTES_MAX: Final = 64 * 1024 * 1024
_EVENT_LINE_BYTES_MAX: Final = 1024 * 1024
_PIECE_BYTES: Final = 64 * 1024

#: By OpenSSL's X509_V_ERR numbers; for all others the authority is the likely reason.
_ANOTHER_NAME: Final = "Use a name of the hive that stands in its certificate."
_CERTIFICATE_HINTS: Final = {
    9: "Check this machine's clock.",
    10: "The hive's admin must renew it; check this machine's clock too.",
    62: _ANOTHER_NAME,
    64: _ANOTHER_NAME,
}

#: What a proxy says whose hive is just being started, or is too slow for it.
_HIVE_AWAY_BEHIND_PROXY: Final = frozenset({502, 503, 504})


class _ErrorReply(msgspec.Struct, frozen=True):
    error: ErrorBody


#: What an agent is just writing.
_PIECE: Final = "message.delta"


class Event(NamedTuple):
    """One live event; `id` resumes after it."""

    id: str
    name: str
    fields: dict[str, Any]


class HiveAwayError(SkepError):
    """The hive did not answer; trying again may help."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            ErrorCode.HIVE_OFFLINE,
            f"no answer from the hive at {url}: {why}",
            hint="Is it running (hive serve), and is SKEP_HIVE_URL its address?",
            url=url,
        )


class HiveClient:
    """Speaks to one hive as one user. Not for several threads at a time."""

    def __init__(
        self, url: str, token: str, ca: str | None = None, *, connect_s: float = _CONNECT_S_MAX
    ) -> None:
        parts, self._host, self._port = _place(url)
        self.url = url.rstrip("/")
        self._path = parts.path.rstrip("/")
        self._token = token
        self._connect_s = connect_s
        self.ca = ca
        self._tls = _tls_context(ca) if parts.scheme == "https" else None
        self._kept: http.client.HTTPConnection | None = None

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- requests -----------------------------------------------------------------------------

    def get(self, path: str, /, *, timeout_s: float = 60.0, **query: Any) -> Any:
        return self.request("GET", path, query=query, timeout_s=timeout_s)

    def post(
        self, path: str, body: Any = None, *, key: str | None = None, timeout_s: float = 60.0
    ) -> Any:
        return self.request("POST", path, body=body, key=key, timeout_s=timeout_s)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> Any:
        """Return the decoded reply, None where there is none. Raises the error the hive told."""
        response = self._send(method, path, query, body, key, headers, timeout_s)
        try:
            content = response.read(_REPLY_BYTES_MAX + 1)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise _lost(self.url, method, key, _reason(error)) from error
        if len(content) > _REPLY_BYTES_MAX:
            self.close()
            raise SkepError(
                ErrorCode.TOO_LARGE,
                f"the reply is larger than {_REPLY_BYTES_MAX // 1024**2} MiB",
                hint="Ask for less at a time: a diff by --path or --stat, a list by --limit.",
            )
        if response.status >= 300:
            self._raise_error(response, content, method, key)
        if not content:
            return None
        try:
            return msgspec.json.decode(content)
        except msgspec.DecodeError as error:
            raise self._not_a_hive(f"HTTP {response.status}") from error

    def pieces(self, path: str, /, *, timeout_s: float = 120.0, **query: Any) -> Iterator[bytes]:
        """Yield the bytes of a reply as they come. Raises the error the hive told."""
        response = self._send("GET", path, query, None, None, None, timeout_s)
        if response.status >= 300:
            self._raise_error(response, response.read(_REPLY_BYTES_MAX))
        try:
            while piece := response.read1(_PIECE_BYTES):
                yield piece
        except (OSError, http.client.HTTPException) as error:
            raise HiveAwayError(self.url, "the reply broke off") from error
        finally:
            if not response.isclosed():
                self.close()

    def events(
        self, topics: str, *, last_event_id: str | None = None, silent_s_max: float = 45.0
    ) -> Iterator[Event | None]:
        """Yield live events as they come, None for a sign of life.

        Its own connection; raises HiveAwayError where the stream ends or falls silent.
        """
        headers = {**self._headers(), "Accept": "text/event-stream"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        connection = self._connect(silent_s_max)
        try:
            try:
                connection.request(
                    "GET", self._target("stream", {"topics": topics}), headers=headers
                )
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise HiveAwayError(self.url, str(error)) from error
            if response.status >= 300:
                self._raise_error(response, response.read(_REPLY_BYTES_MAX))
            for event in _read_events(response, self.url):
                # A piece for eyes alone changes nothing that could be read anew.
                yield None if event is not None and event.name == _PIECE else event
        finally:
            connection.close()

    # --- one exchange -------------------------------------------------------------------------

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        key: str | None,
        headers: Mapping[str, str] | None,
        timeout_s: float,
    ) -> http.client.HTTPResponse:
        sent: dict[str, str | bytes] = self._headers()
        content = None
        if body is not None:
            content = msgspec.json.encode(body)
            sent["Content-Type"] = "application/json"
        if key:
            sent["Idempotency-Key"] = _header("Idempotency-Key", key)
        sent |= {name: _header(name, value) for name, value in (headers or {}).items()}
        target = self._target(path, query or {})
        for kept in (True, False):
            connection = self._kept if kept else None
            if kept and connection is None:
                continue
            if connection is None:
                connection = self._kept = self._connect(timeout_s)
            elif connection.sock is not None:
                connection.sock.settimeout(timeout_s)
            try:
                connection.request(method, target, body=content, headers=sent)
                return connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                # A kept connection may have been closed in between: what only reads goes again.
                if not kept or method != "GET":
                    raise _lost(self.url, method, key, _reason(error)) from error
        raise AssertionError  # pragma: no cover  the second round returns or raises

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self._tls is not None:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._connect_s, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=self._connect_s)
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise _certificate_refused(self.url, error) from error
        except (OSError, UnicodeError) as error:
            raise HiveAwayError(self.url, _reason(error)) from error
        connection.sock.settimeout(timeout_s)
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _headers(self) -> dict[str, str | bytes]:
        # Its name, as it is refused by: what it holds is told to nobody.
        token = _header("token", self._token)
        return {"Authorization": b"Bearer " + token, "Accept": "application/json"}

    def _target(self, path: str, query: Mapping[str, Any]) -> str:
        given = {name: _as_text(value) for name, value in query.items() if value is not None}
        root = path if path.startswith("/") else f"/api/v1/{path}"
        return f"{self._path}{root}{'?' + urlencode(given) if given else ''}"

    def _raise_error(
        self,
        response: http.client.HTTPResponse,
        content: bytes,
        method: str = "GET",
        key: str | None = None,
    ) -> None:
        try:
            said = msgspec.json.decode(content, type=_ErrorReply).error
        except msgspec.DecodeError as error:
            if response.status in _HIVE_AWAY_BEHIND_PROXY:
                why = f"a proxy in front of it answered HTTP {response.status}"
                raise _lost(self.url, method, key, why) from error
            raise self._not_a_hive(f"HTTP {response.status}") from error
        raise operation_error(said)

    def _not_a_hive(self, answered: str) -> SkepError:
        return SkepError(
            ErrorCode.INVALID,
            f"what answers at {self.url} is not a hive",
            hint="Check the address.",
            answered=answered,
        )


def path_of(*parts: str) -> str:
    """Join parts of a path, each quoted, so that a name with a slash stays one part."""
    return "/".join(quote(part, safe="") for part in parts)


def _read_events(response: http.client.HTTPResponse, url: str) -> Iterator[Event | None]:
    event_id, name, lines = "", "message", list[bytes]()
    while True:
        try:
            line = response.readline(_EVENT_LINE_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise HiveAwayError(url, "the stream fell silent") from error
        if not line:
            raise HiveAwayError(url, "the stream ended")
        line = line.rstrip(b"\r\n")
        if not line:
            if lines:
                yield Event(event_id, name, msgspec.json.decode(b"\n".join(lines)))
            name, lines = "message", []
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not field:
            yield None
        elif field == b"id":
            event_id = value.decode()
        elif field == b"event":
            name = value.decode()
        elif field == b"data":
            lines.append(value)


def _tls_context(ca: str | None) -> ssl.SSLContext:
    try:
        # With an authority of its own, no public one is trusted for this hive.
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise SkepError(
            ErrorCode.INVALID,
            f"cannot use {ca} as a certificate authority: {error}",
            hint="Give a PEM file, by --ca or SKEP_CA.",
            field="ca",
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _certificate_refused(url: str, error: ssl.SSLCertVerificationError) -> SkepError:
    return SkepError(
        ErrorCode.AUTHENTICATION_FAILED,
        f"the certificate of {url} does not verify: {error.verify_message}",
        hint=_CERTIFICATE_HINTS.get(
            error.verify_code,
            "Where the hive has its own authority, give its certificate by --ca or SKEP_CA.",
        ),
        url=url,
    )


def _lost(url: str, method: str, key: str | None, why: str) -> SkepError:
    """Return what is known of a request that left and was not answered."""
    if method == "GET":
        return HiveAwayError(url, why)
    if key is None:
        return SkepError(
            ErrorCode.UNKNOWN_OUTCOME,
            f"the connection to the hive broke before an answer came: {why}",
            hint="It may have been done: look, before you ask again.",
            url=url,
        )
    return SkepError(
        ErrorCode.UNKNOWN_OUTCOME,
        f"the connection to the hive broke before an answer came: {why}",
        hint=f"Look the outcome up with `hive operations show {key}`, or send the same key again.",
        key=key,
    )


def _place(url: str) -> tuple[SplitResult, str, int | None]:
    """Take an address apart: all of it, its host, its port."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in {"http", "https"} or not host:
        raise SkepError(
            ErrorCode.INVALID,
            f"{url!r} is not the address of a hive",
            hint="Give it as https://HOST[:PORT].",
            field="url",
        )
    return parts, host, port


def _header(field: str, value: str) -> bytes:
    """Return the value of a header, which holds any letters, and nothing that would end it."""
    if not value.isprintable():
        raise SkepError(
            ErrorCode.INVALID,
            f"{field}: it holds a line break, or another character that cannot be shown",
            hint="Look at where it comes from: a file may end its lines with CR.",
            field=field,
        )
    return value.encode()


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value)
