"""A hive and its command line."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.hive.api.running import RunningHive, running_hive
from tests.hive.commands.programs import Commands


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningHive]:
    """A hive of its own, served."""
    async with running_hive(tmp_path) as hive:
        yield hive


@pytest.fixture
def hive(tmp_path: Path, running: RunningHive) -> Commands:
    """The command line of that hive's admin."""
    return Commands(tmp_path, running)
