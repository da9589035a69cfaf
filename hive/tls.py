"""TLS for nodes and viewers on the one port: 1.2 or newer, with the operator's own certificate."""

import ssl
from pathlib import Path

from hive.config import ConfigError


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """Return what the hive's port speaks. Raises ConfigError for files that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    for path, flag in ((cert, "--tls-cert"), (key, "--tls-key")):
        if not path.is_file():
            raise ConfigError(f"there is no file {path}", where=flag, hint="Give a PEM file.")
    try:
        # A key behind a passphrase would make a start wait for a person who is not there.
        context.load_cert_chain(cert, key, password=_no_passphrase)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"cannot use {cert} with {key}: {error}",
            where="--tls-cert",
            hint="Give a certificate with its chain and its own key, in PEM, without passphrase.",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"cannot read {cert} and {key}: {error}",
            where="--tls-cert",
            hint="Let the user that runs the hive read both.",
        ) from error
    return context


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")
