"""A forge that serves, and a client of it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.node_agent.forge.fake_forge import FakeForge, connect, make_bare, serving
from tests.node_agent.git.repositories import Sample

BRANCH = "skep/do-it-deadbeef"


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[FakeForge]:
    """A forge with one repository that has a main branch, and one with a commit more."""
    with serving(FakeForge(make_bare(tmp_path / "bare.git"))) as forge:
        sample = Sample.make(tmp_path / "somebody")
        connect(forge, sample.path)
        sample.git("checkout", "-q", "-b", BRANCH)
        sample.commit("work", {"work.txt": "done\n"})
        sample.git("push", "-q", "origin", BRANCH)
        yield forge


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A session as an operation opens one."""
    async with aiohttp.ClientSession() as session:
        yield session
