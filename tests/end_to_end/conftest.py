"""The installation most end-to-end tests run on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.installation import Installation, make_repository


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
