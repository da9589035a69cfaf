"""What the node's own listener exposes, to whom, and by which addresses: from the settings alone.

Nothing is exposed unless the operator says so; beyond this machine only with TLS, or where they say
in words that the network is trusted. Must not listen: `api.direct` does.
"""

import ipaddress
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from node_agent.config import ConfigError, NodeConfig
from protocol.direct_urls import is_direct_url, usable_direct_urls

_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class DirectExposure(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen, and what to tell clients. `says` is the exposure in words."""

    host: str
    port: int
    cert: Path | None
    key: Path | None
    urls: list[str]
    says: str


def direct_exposure(config: NodeConfig) -> DirectExposure | None:
    """Return what the settings expose, None for nothing; raise ConfigError where it is not safe."""
    if not config.direct_listen:
        return None
    host, port = _place(config.direct_listen)
    if (config.direct_tls_cert is None) != (config.direct_tls_key is None):
        raise _wrong(
            "TLS needs a certificate and its key", "Set both direct_tls_cert and direct_tls_key."
        )
    tls = config.direct_tls_cert is not None
    loopback = _is_loopback(host)
    if not (tls or loopback or config.direct_trusted_network):
        raise _wrong(
            f"direct_listen {config.direct_listen} can be reached from other machines, and there is"
            " no TLS",
            "Set direct_tls_cert and direct_tls_key; or direct_trusted_network where whoever is on"
            " that network may read it all.",
        )
    return DirectExposure(
        host=host,
        port=port,
        cert=config.direct_tls_cert,
        key=config.direct_tls_key,
        urls=_urls(config, host, port, tls=tls),
        says=_says(tls=tls, loopback=loopback),
    )


def direct_tls(exposure: DirectExposure) -> ssl.SSLContext | None:
    """Return what the listener speaks, None for plain http. Raises ConfigError."""
    if exposure.cert is None or exposure.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # A key behind a passphrase would make a start wait for a person who is not there.
        context.load_cert_chain(exposure.cert, exposure.key, password=_no_passphrase)
    except (OSError, ValueError) as error:
        raise _wrong(
            f"cannot use {exposure.cert} with {exposure.key}: {error}",
            "Give a certificate with its chain and its own key, in PEM, without passphrase.",
        ) from error
    return context


def direct_names(exposure: DirectExposure) -> frozenset[str]:
    """Return the names by which clients may call the listener, without ports."""
    hosts = {(urlsplit(url).hostname or "").lower() for url in exposure.urls}
    return frozenset(hosts | {exposure.host.lower()} | _LOOPBACK_NAMES)


def _place(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port or parts.path or parts.query or parts.username:
        raise _wrong(f"direct_listen {text[:100]!r} is no HOST:PORT", "Write it as 0.0.0.0:8701.")
    return host, port


def _urls(config: NodeConfig, host: str, port: int, *, tls: bool) -> list[str]:
    for url in (*config.direct_urls, *config.direct_origins):
        if not is_direct_url(url):
            raise _wrong(f"{url[:100]!r} is no address", "Write it as https://HOST[:PORT].")
    if config.direct_urls:
        return usable_direct_urls(config.direct_urls)
    if _is_wildcard(host):
        raise _wrong(
            f"direct_listen {config.direct_listen} says of no address that clients can reach it",
            "Set direct_urls to what they are to call, such as https://gpu1.example.org:8701.",
        )
    shown = f"[{host}]" if ":" in host else host
    return [f"{'https' if tls else 'http'}://{shown}:{port}"]


def _says(*, tls: bool, loopback: bool) -> str:
    if loopback:
        return "reachable from this machine only"
    if tls:
        return "reachable from other machines, with TLS"
    return "reachable from other machines WITHOUT TLS: whoever is on that network reads it all"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")


def _wrong(message: str, hint: str) -> ConfigError:
    return ConfigError(message, where="settings", hint=hint)
