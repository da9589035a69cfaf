"""Founding a hive: whole or not at all."""

from pathlib import Path

import pytest

from hive import founding
from hive.config import load
from hive.founding import found
from protocol.errors import ErrorCode, SkepError


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
