"""What the demo makes of the repository it is given, on real ones."""

from pathlib import Path

import pytest

from scripts.demonstration import repository
from scripts.demonstration.processes import DemoFolder
from tests.node_agent.git.repositories import Sample


@pytest.mark.parametrize("detached", [False, True])
def test_work_begins_where_the_checkout_stands(tmp_path: Path, *, detached: bool) -> None:
    """A detached checkout behind its branch names its commit; one on a branch goes by that."""
    sample = Sample.make(tmp_path / "project")
    first = sample.head
    sample.commit("second", {"a": "a\n"})
    if detached:
        sample.git("checkout", "-q", "--detach", first)
    folder = DemoFolder(tmp_path / "demo")
    repository.clone(folder, sample.path, tmp_path / "clone")
    state = repository.state_of(folder, tmp_path / "clone")
    assert state.base_words() == (["--base-branch", first] if detached else [])
