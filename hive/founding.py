"""Founding a hive: its folder, its id, its signing key, the first admin's token, or another one.

Must not run with a hive in the same folder; `server` takes over from here.
"""

import uuid
from pathlib import Path
from typing import Final

import msgspec

from hive.api.context import now_ms
from hive.config import HiveConfig
from hive.store.credentials import TokenRow, create_token
from hive.store.folder_lock import FolderLock
from hive.store.identity import found_hive
from hive.store.ids import new_id
from hive.store.signing_key import load_or_make_signing_key
from hive.store.sqlite import SqliteDatabase
from protocol.errors import ErrorCode, SkepError
from protocol.operations import Role

ADMIN: Final = "admin"
#: Who makes a token with no hive to ask: whoever may write its data folder.
OWNER: Final = "owner of the data folder"


class Founded(msgspec.Struct, frozen=True, kw_only=True):
    """What a founder has to keep."""

    hive_id: str
    admin_token: str


async def found(config: HiveConfig) -> Founded:
    """Found a hive in the data folder. Raises EXISTS where there is one, INVALID where not."""
    if config.database.exists():
        raise SkepError(
            ErrorCode.EXISTS,
            f"there is a hive in {config.data_dir} already",
            hint="hive serve starts it; another --data makes another.",
            data_dir=str(config.data_dir),
        )
    try:
        config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Made under another name: a founding that fails half-way leaves no half a hive.
        fresh = config.database.with_name(f".founding-{uuid.uuid4().hex}.db")
        load_or_make_signing_key(config.signing_key)
        try:
            founded = await _founded(fresh)
            fresh.rename(config.database)
        finally:
            for left in config.data_dir.glob(f"{fresh.name}*"):
                left.unlink()
    except OSError as error:
        raise SkepError(
            ErrorCode.INVALID,
            f"cannot make a hive in {config.data_dir}: {error}",
            hint="Give a folder you may write to, by --data.",
        ) from error
    return founded


async def _founded(path: Path) -> Founded:
    database = await SqliteDatabase.open(path)
    try:
        now = now_ms()
        row = await database.write(found_hive, new_id(now), now)
        secret, _ = await database.write(
            create_token, name=ADMIN, role=Role.ADMIN, actor=ADMIN, ttl_ms=None, now_ms=now
        )
    finally:
        await database.close()
    return Founded(hive_id=row.hive_id, admin_token=secret)


async def make_token(
    config: HiveConfig, *, name: str, role: Role, ttl_ms: int | None
) -> tuple[str, TokenRow]:
    """Make a token in the store itself, where no admin's is left to ask with.

    Raises NOT_FOUND where there is no hive, CONFLICT where it runs.
    """
    if not config.database.exists():
        raise SkepError(
            ErrorCode.NOT_FOUND,
            f"there is no hive in {config.data_dir}",
            hint=f"Set one up: hive init --data {config.data_dir}",
        )
    with FolderLock(config.lock):
        database = await SqliteDatabase.open(config.database)
        try:
            return await database.write(
                create_token, name=name, role=role, actor=OWNER, ttl_ms=ttl_ms, now_ms=now_ms()
            )
        finally:
            await database.close()
