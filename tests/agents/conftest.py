"""The real agents, a stub of their models, and an installation that runs them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.agents.installed_agents import NotToBeHad, agents_bin
from tests.agents.model_server import ModelServer
from tests.end_to_end.installation import Installation, make_repository


@pytest.fixture(scope="session")
def real_agents(could_not_get: Callable[[str, str], NoReturn]) -> Path:
    """The folder with the agents' programs; skips, and says so, where npm is out of reach."""
    try:
        return agents_bin()
    except NotToBeHad as error:
        could_not_get("real agents from npm", str(error))


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """The stub of the models."""
    server = ModelServer()
    server.start()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository of the user's, named `project`."""
    return make_repository(tmp_path / "project")


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """A hive that serves; nodes are added by the test."""
    made = Installation(tmp_path)
    try:
        made.found()
        yield made
    finally:
        made.close()
