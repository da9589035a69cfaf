"""A user's repository for every test that wants one, and a folder for worktrees."""

from pathlib import Path

import pytest

from tests.node_agent.git.repositories import Sample


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """A user's checkout with one commit on main, and a name to commit by."""
    return Sample.make(tmp_path / "project")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The node's folder for worktrees; it is not there yet."""
    return tmp_path / "node" / "worktrees"
