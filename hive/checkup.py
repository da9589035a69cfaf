"""A hive's health from its files: store, permissions, room, backups, certificate.

Must not change anything, and works with the hive running or stopped.
"""

import shutil
import ssl
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from hive.config import ConfigError, HiveConfig, check_exposure
from hive.store.backups import is_hidden, list_backups, verify
from hive.store.inspection import Inspection, inspect, may_be_used
from hive.tls import server_context
from protocol.errors import SkepError

_ROOM_BYTES_MIN: Final = 512 * 1024 * 1024
_BACKUP_OLD_MS: Final = 2 * 86_400_000
_CERTIFICATE_SOON_S: Final = 21 * 86_400


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at. `level`: ok, warning, error."""

    name: str
    level: str
    message: str
    hint: str = ""


def examine(config: HiveConfig) -> Iterator[Finding]:
    """Yield what was looked at, and how it is."""
    if not config.database.exists():
        yield Finding(
            name="store",
            level="error",
            message=f"there is no hive in {config.data_dir}",
            hint=f"Set one up: hive init --data {config.data_dir}",
        )
        return
    yield from _store(config.database)
    yield from _permissions(config)
    yield _room(config.data_dir)
    yield from _backups(config)
    yield from _address(config)


def _store(database: Path) -> Iterator[Finding]:
    try:
        found = inspect(database)
    except SkepError as error:
        yield Finding(name="store", level="error", message=error.message, hint=error.hint)
        return
    yield _integrity(found)
    if found.ops_dead:
        yield Finding(
            name="ops",
            level="warning",
            message=f"{found.ops_dead} ops of nodes could not be applied and were kept aside",
            hint="hive events shows which; report it with the hive's version.",
        )
    if found.ops_unknown:
        yield Finding(
            name="ops",
            level="warning",
            message=f"{found.ops_unknown} ops are of a newer release and wait for an upgrade",
            hint="Upgrade the hive.",
        )
    for name in found.quarantined:
        yield Finding(
            name="nodes",
            level="warning",
            message=f"the node {name} is in quarantine: two processes hold its identity",
            hint=f"hive nodes show {name}, then hive nodes release {name} --instance I",
        )
    if found.attempts_partial:
        yield Finding(
            name="sync",
            level="ok",
            message=f"{found.attempts_partial} attempts are not complete here yet",
            hint="They are fetched by themselves while their nodes are online.",
        )


def _integrity(found: Inspection) -> Finding:
    if found.integrity == "ok":
        return Finding(
            name="store", level="ok", message=f"whole, schema {found.schema}, hive {found.hive_id}"
        )
    return Finding(
        name="store",
        level="error",
        message=f"the database is damaged: {found.integrity}",
        hint="Stop the hive and restore the newest whole backup: hive restore FILE --force",
    )


def _permissions(config: HiveConfig) -> Iterator[Finding]:
    if not may_be_used(config.database):
        yield Finding(
            name="permissions",
            level="error",
            message=f"{config.data_dir}, or the store in it, cannot be written by this user",
            hint="Run hive as the user who owns it; if it is mounted read-only, mount it writable.",
        )
    for path in (config.database, config.signing_key):
        if not path.exists():
            yield Finding(
                name="key",
                level="warning",
                message=f"{path.name} is missing",
                hint="A new one is made at the next start; nodes learn it when they connect.",
            )
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            yield Finding(
                name="permissions",
                level="error",
                message=f"{path} can be read by other users of this machine",
                hint=f"chmod 600 {path}",
            )


def _room(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    shown = f"{free // (1024 * 1024)} MiB are free for {folder}"
    if free >= _ROOM_BYTES_MIN:
        return Finding(name="room", level="ok", message=shown)
    return Finding(
        name="room",
        level="warning",
        message=shown,
        hint="Without room the hive stops taking logs; nodes keep theirs until there is some.",
    )


def _backups(config: HiveConfig) -> Iterator[Finding]:
    try:
        records = list_backups(config.backups)
    except OSError as error:
        yield Finding(
            name="backups",
            level="error",
            message=f"the list of them cannot be read: {error}",
            hint=f"Have it belong to the hive's user: chown it as {config.data_dir}.",
        )
        return
    if not records:
        yield Finding(
            name="backups",
            level="warning",
            message="there is none; nodes then delete acknowledged logs by age",
            hint="hive backup FILE, from a timer, onto another disk",
        )
        return
    # Old copies are removed as people like; what is left of them says how it stands.
    left = [one for one in records if is_hidden(Path(one.path)) or Path(one.path).exists()]
    if not left:
        yield Finding(
            name="backups",
            level="warning",
            message=f"none of the {len(records)} that were made is where it was",
            hint="Make another: hive backup FILE",
        )
        return
    whole = 0
    for record in left:
        try:
            verify(Path(record.path))
            whole += 1
        except SkepError as error:
            yield Finding(name="backups", level="warning", message=error.message, hint=error.hint)
    newest = max(record.at_ms for record in left)
    old = time.time() * 1000 - newest > _BACKUP_OLD_MS
    yield Finding(
        name="backups",
        level="warning" if old or not whole else "ok",
        message=f"{whole} of {len(left)} are whole"
        + (", the newest is older than two days" if old else ""),
        hint="Make another: hive backup FILE" if old or not whole else "",
    )


def _address(config: HiveConfig) -> Iterator[Finding]:
    try:
        message = check_exposure(config)
    except ConfigError as error:
        yield Finding(name="address", level="error", message=error.message, hint=error.hint)
        return
    level = "warning" if config.plain_http and not config.loopback and not config.tls else "ok"
    yield Finding(name="address", level=level, message=message)
    if config.tls_cert is not None and config.tls_key is not None:
        yield certificate(config.tls_cert, config.tls_key)


def certificate(cert: Path, key: Path) -> Finding:
    """Look at the hive's certificate: whether it can be used, and for how long."""
    from cryptography import x509

    try:
        server_context(cert, key)
        until = x509.load_pem_x509_certificate(cert.read_bytes()).not_valid_after_utc
    except (SkepError, ValueError, OSError, ssl.SSLError) as error:
        hint = error.hint if isinstance(error, SkepError) else ""
        return Finding(name="certificate", level="error", message=str(error), hint=hint)
    left_s = until.timestamp() - time.time()
    if left_s > _CERTIFICATE_SOON_S:
        return Finding(name="certificate", level="ok", message=f"good until {until:%Y-%m-%d}")
    return Finding(
        name="certificate",
        level="error" if left_s <= 0 else "warning",
        message=f"{'it expired' if left_s <= 0 else 'it expires'} on {until:%Y-%m-%d %H:%M} UTC",
        hint="Renew it, then restart the hive.",
    )
