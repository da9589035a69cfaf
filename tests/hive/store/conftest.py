"""An open store for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.hive.store.open_hive import OpenHive, opened


@pytest_asyncio.fixture
async def hive(tmp_path: Path) -> AsyncIterator[OpenHive]:
    """A store with two nodes enrolled."""
    async with opened(tmp_path) as open_hive:
        yield open_hive
