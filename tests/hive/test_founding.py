"""Founding a hive: whole or not at all."""

from functools import partial
from pathlib import Path

import pytest

from hive import founding
from hive.config import load
from hive.founding import OWNER, found, make_token
from hive.store.credentials import find_token
from hive.store.events import list_events
from hive.store.folder_lock import FolderLock
from hive.store.sqlite import SqliteDatabase
from protocol.errors import ErrorCode, SkepError
from protocol.operations import Role


@pytest.mark.asyncio
async def test_a_founding_that_fails_leaves_no_half_a_hive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """After a failure half-way the same folder can be founded anew."""
    config = load(tmp_path / "hive", environment={})

    async def fail(*_args, **_more):
        raise SkepError(ErrorCode.STORE_FULL, "no room")

    with monkeypatch.context() as patched:
        patched.setattr(founding, "create_token", fail)
        with pytest.raises(SkepError):
            await found(config)
    assert not config.database.exists()
    assert not list(config.data_dir.glob(".founding*"))
    assert (await found(config)).admin_token.startswith("skep_")


@pytest.mark.asyncio
async def test_a_folder_one_may_not_write_to_is_told(tmp_path: Path):
    """Not a traceback: where, and what to give instead."""
    config = load(tmp_path / "file" / "hive", environment={})
    (tmp_path / "file").write_text("")
    with pytest.raises(SkepError) as caught:
        await found(config)
    assert caught.value.code is ErrorCode.INVALID
    assert "--data" in caught.value.hint


@pytest.mark.asyncio
async def test_a_token_where_none_is_left(tmp_path: Path):
    """Whoever may write the data folder may make one, once the hive is stopped; it is on record."""
    config = load(tmp_path / "hive", environment={})
    made = partial(make_token, config, name="ann", role=Role.ADMIN, ttl_ms=None)
    with pytest.raises(SkepError) as caught:
        await made()
    assert caught.value.code is ErrorCode.NOT_FOUND
    await found(config)
    with FolderLock(config.lock), pytest.raises(SkepError) as caught:
        await made()
    assert caught.value.code is ErrorCode.CONFLICT
    secret, row = await made()
    database = await SqliteDatabase.open(config.database)
    try:
        assert await database.read(find_token, secret, 1) == row
        newest = (await database.read(list_events, limit=1))[0]
    finally:
        await database.close()
    assert (newest.kind, newest.actor) == ("token_created", OWNER)
