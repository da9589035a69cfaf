"""Joining a hive: check the address, register the public key, keep what the hive answers.

Owns the one HTTP exchange of enrolment. TLS is verified always; the private key stays here, only
a proof of holding it travels.
"""

import base64
import http.client
import ipaddress
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from node_agent.identity import (
    CA_FILE,
    Enrolment,
    NodeIdentity,
    NodeRecord,
    read_record,
    write_record,
)
from node_agent.private_files import write_private
from protocol.errors import ErrorBody, ErrorCode, SkepError, operation_error
from protocol.tokens import enrol_bytes

_PATH: Final = "/v1/enrol"
_REPLY_BYTES_MAX: Final = 1024 * 1024
_TRIES_MAX: Final = 5
_EXCHANGE_S_MAX: Final = 20.0
_HTTP_STATUS_TRANSIENT: Final = frozenset({502, 503, 504})
# OpenSSL's X509_V_ERR numbers, as SSLCertVerificationError.verify_code gives them.
_NOT_YET_VALID, _EXPIRED, _HOST_MISMATCH, _ADDRESS_MISMATCH = 9, 10, 62, 64
_UNKNOWN_ISSUER: Final = frozenset({2, 18, 19, 20, 21})


class JoinError(SkepError):
    """The node could not join; nothing was changed here."""


class HiveAwayError(JoinError):
    """The hive did not answer just now; trying again may help."""


class EnrolReply(msgspec.Struct, frozen=True, kw_only=True):
    """What a hive answers to an enrolment. `keys` are raw public keys in base64, by key id."""

    node_id: str
    name: str
    hive_id: str
    keys: dict[str, bytes] = {}


@dataclass(frozen=True)
class HiveAddress:
    """Where a hive is: scheme, host and port, and the path it is served under, if any."""

    scheme: str
    host: str
    port: int | None
    path: str

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        return f"{self.scheme}://{host}{port}{self.path}"

    @property
    def loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost" or self.host.endswith(".localhost")


def parse_address(url: str, *, plain_http: bool) -> HiveAddress:
    """Take a hive's address apart; raise JoinError for one that must not or cannot be dialled."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _not_an_address(url) from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _not_an_address(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise JoinError(
            ErrorCode.INVALID,
            "the hive's address holds more than scheme, host, port and path",
            hint="Give it as https://HOST[:PORT].",
            field="HIVE_URL",
        )
    address = HiveAddress(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))
    if address.scheme == "http" and not address.loopback and not plain_http:
        raise JoinError(
            ErrorCode.INVALID,
            f"{address.url} is plain http to another machine: anyone between could read it all",
            hint="Use https://, or add --plain-http where the network itself is private.",
            field="HIVE_URL",
        )
    return address


def _not_an_address(url: str) -> JoinError:
    return JoinError(
        ErrorCode.INVALID,
        f"{url!r} is not the address of a hive",
        hint="Give it as https://HOST[:PORT], as `hive nodes join-token` prints it.",
        field="HIVE_URL",
    )


def join_hive(
    data_dir: Path,
    identity: NodeIdentity,
    *,
    url: str,
    join_token: str,
    name: str,
    slots: int | None = None,
    ca: Path | None = None,
    plain_http: bool = False,
) -> NodeRecord:
    """Enrol at the hive and write down that it is joined; returns what was written.

    Raises JoinError, or the hive's own error, with a hint for the operator.
    """
    address = parse_address(url, plain_http=plain_http)
    before = read_record(data_dir) or NodeRecord(node_id=identity.node_id)
    # Asked before the token is spent. The same address again is how a node joins a hive that
    # lost it, whatever that hive's id is by now.
    if before.hive and before.hive.url != address.url:
        raise JoinError(
            ErrorCode.CONFLICT,
            f"this node has joined the hive at {before.hive.url}",
            hint="Run `node-agent leave` first, or use another --data folder.",
            hive_id=before.hive.hive_id,
        )
    authority = _read_ca(ca) if ca else None
    reply = _enrol(address, identity, join_token, name, _tls(address, authority))
    if authority is not None:
        write_private(data_dir / CA_FILE, authority)
    record = msgspec.structs.replace(
        before,
        node_id=reply.node_id,
        name=reply.name or name,
        slots=slots if slots is not None else before.slots,
        hive=Enrolment(
            url=address.url,
            hive_id=reply.hive_id,
            keys=reply.keys,
            own_ca=authority is not None,
            plain_http=plain_http,
        ),
    )
    write_record(data_dir, record)
    return record


def leave_hive(data_dir: Path) -> NodeRecord:
    """Drop the enrolment; key, data and id stay. Raises JoinError where no hive is joined."""
    record = read_record(data_dir)
    if record is None or record.hive is None:
        raise JoinError(
            ErrorCode.NOT_FOUND,
            "this node has joined no hive",
            hint="Join one with `node-agent join HIVE_URL JOIN_TOKEN`.",
        )
    left = msgspec.structs.replace(record, hive=None)
    write_record(data_dir, left)
    (data_dir / CA_FILE).unlink(missing_ok=True)
    return left


def tls_context(enrolment: Enrolment, data_dir: Path) -> ssl.SSLContext | None:
    """Return what a connection to the joined hive is verified with; None for plain http.

    As of now: whoever joined again with another authority is heard at the next connection. Raises
    JoinError where the authority's certificate cannot be used.
    """
    if not enrolment.url.startswith("https:"):
        return None
    path = data_dir / CA_FILE
    try:
        return _client_context(path.read_bytes() if enrolment.own_ca else None)
    except (OSError, ValueError) as error:
        # What OpenSSL cannot read is an OSError too.
        raise JoinError(
            ErrorCode.INVALID,
            f"the certificate of the hive's authority, {path}, cannot be used: {error}",
            hint="Join again with --ca FILE.",
        ) from error


def _client_context(authority: bytes | None) -> ssl.SSLContext:
    if authority is not None and not authority.strip():
        # Python would trust all public ones in its place.
        raise ValueError("it is empty")
    # With an authority of its own, no public one is trusted for this hive.
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _tls(address: HiveAddress, authority: bytes | None) -> ssl.SSLContext | None:
    if address.scheme != "https":
        return None
    try:
        return _client_context(authority)
    except (ssl.SSLError, ValueError) as error:
        raise JoinError(
            ErrorCode.INVALID,
            "the file given as --ca holds no certificate in PEM form",
            hint="Give the certificate of the authority that signed the hive's certificate.",
            field="--ca",
        ) from error


def _read_ca(path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise JoinError(
            ErrorCode.INVALID,
            f"cannot read {path}: {error.strerror}",
            hint="Give --ca the file with the certificate of the hive's authority.",
            field="--ca",
        ) from error


def _enrol(
    address: HiveAddress,
    identity: NodeIdentity,
    join_token: str,
    name: str,
    context: ssl.SSLContext | None,
) -> EnrolReply:
    import tenacity

    proof = identity.sign(enrol_bytes(join_token, identity.public_key))
    body = msgspec.json.encode(
        {
            "join_token": join_token,
            "public_key": base64.b64encode(identity.public_key).decode(),
            "proof": base64.b64encode(proof).decode(),
            "name": name,
        }
    )
    # The same token with the same key gives the same node, so trying again is safe.
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(HiveAwayError),
        wait=tenacity.wait_random_exponential(multiplier=0.3, max=4),
        stop=tenacity.stop_after_attempt(_TRIES_MAX),
        reraise=True,
    )
    return retrying(_exchange, address, body, context)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the join token to an address the operator did not name."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _exchange(address: HiveAddress, body: bytes, context: ssl.SSLContext | None) -> EnrolReply:
    request = urllib.request.Request(  # noqa: S310  parse_address let only http and https through
        address.url + _PATH,
        data=body,
        headers={"Content-Type": "application/json", "Accept": "application/json"},
        method="POST",
    )
    # No proxy, as for the link: a join that works where the link cannot would mislead.
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect(), urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(request, timeout=_EXCHANGE_S_MAX) as reply:
            content = reply.read(_REPLY_BYTES_MAX)
    except urllib.error.HTTPError as error:
        with error:
            _raise_refused(address, error, error.read(_REPLY_BYTES_MAX))
    except urllib.error.URLError as error:
        _raise_unreachable(address, error.reason)
    except (OSError, UnicodeError, http.client.HTTPException) as error:
        # A name that no host can have is no UnicodeError of ours.
        _raise_unreachable(address, error)
    try:
        return msgspec.json.decode(content, type=EnrolReply)
    except msgspec.DecodeError as error:
        raise _not_a_hive(address, str(error)) from error


def _raise_refused(address: HiveAddress, error: urllib.error.HTTPError, content: bytes) -> NoReturn:
    if error.code in _HTTP_STATUS_TRANSIENT:
        raise HiveAwayError(
            ErrorCode.HIVE_OFFLINE,
            f"the hive at {address.url} is not ready (HTTP {error.code})",
            hint="Look at the hive's own log, then join again with the same token.",
        ) from error
    if 300 <= error.code < 400:
        raise JoinError(
            ErrorCode.INVALID,
            f"{address.url} redirects to {error.headers.get('Location', 'elsewhere')}",
            hint="Join with the address it redirects to, if that is your hive.",
            field="HIVE_URL",
        ) from error
    try:
        said = msgspec.json.decode(content, type=_ErrorReply)
    except msgspec.DecodeError:
        raise _not_a_hive(address, f"HTTP {error.code}") from error
    raise operation_error(said.error) from error


class _ErrorReply(msgspec.Struct, frozen=True):
    error: ErrorBody


def _not_a_hive(address: HiveAddress, why: str) -> JoinError:
    return JoinError(
        ErrorCode.INVALID,
        f"what answers at {address.url} is not a hive",
        hint="Check the address; `hive nodes join-token` prints the whole command.",
        answered=why[:200],
    )


def _raise_unreachable(address: HiveAddress, reason: object) -> NoReturn:
    if isinstance(reason, ssl.SSLCertVerificationError):
        raise _certificate_refused(address, reason) from reason
    cause = reason if isinstance(reason, BaseException) else None
    if isinstance(reason, ssl.SSLError):
        raise JoinError(
            ErrorCode.INVALID,
            f"{address.url} does not speak TLS as expected ({reason.reason or 'no reason given'})",
            hint="Is it an http:// address, or another program's port?",
        ) from cause
    if isinstance(reason, socket.gaierror | UnicodeError):
        raise HiveAwayError(
            ErrorCode.HIVE_OFFLINE,
            f"the name {address.host} is not known here",
            hint="Check the spelling, or this machine's name service.",
        ) from cause
    raise HiveAwayError(
        ErrorCode.HIVE_OFFLINE,
        f"no answer from {address.url}: {reason}",
        hint="Is the hive running there, and may this machine reach that port?",
    ) from cause


def _certificate_refused(address: HiveAddress, error: ssl.SSLCertVerificationError) -> JoinError:
    code = error.verify_code
    if code in {_HOST_MISMATCH, _ADDRESS_MISMATCH}:
        message = f"the hive's certificate is not for {address.host}"
        hint = "Join by a name that stands in the certificate, or have the hive get one for this."
    elif code == _EXPIRED:
        message = f"the certificate of {address.host} has expired"
        hint = "The hive's admin must renew it; check this machine's clock too."
    elif code == _NOT_YET_VALID:
        message = f"the certificate of {address.host} is not valid yet"
        hint = "Check this machine's clock."
    elif code in _UNKNOWN_ISSUER:
        message = f"the certificate of {address.host} is signed by an authority not known here"
        hint = "Where the hive has its own authority, give its certificate with --ca FILE."
    else:
        message = f"the certificate of {address.host} does not verify: {error.verify_message}"
        hint = "The hive's admin must mend it."
    return JoinError(ErrorCode.AUTHENTICATION_FAILED, message, hint=hint, verify_code=code)
