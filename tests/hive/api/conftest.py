"""Hives for the tests of the API."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.hive.api.running import RunningHive, running_hive


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningHive]:
    """A hive of its own, served."""
    async with running_hive(tmp_path) as hive:
        yield hive
