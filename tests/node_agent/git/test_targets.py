"""What a diff starts from."""

from pathlib import Path

import pytest

from node_agent.git.errors import BranchMissing
from node_agent.git.sources import find_source
from node_agent.git.targets import diff_base
from tests.node_agent.git.attempts import commit, make_worktree
from tests.node_agent.git.repositories import ATTEMPT, Sample, git


@pytest.mark.asyncio
async def test_base_is_where_work_and_target_parted(sample: Sample, root: Path) -> None:
    """Commits the target gained meanwhile are not the attempt's; what it merged is the target's."""
    repository, worktree = await make_worktree(sample, root)
    began = sample.head
    commit(worktree, "work", {"a": "a"})
    theirs = sample.commit("theirs", {"b": "b"})
    source = await find_source(repository, root, attempt_id=ATTEMPT, branch=worktree.branch)
    options = {"target_branch": "main", "base_commit": began}
    assert await diff_base(source, against="target", **options) == began
    git(worktree.path, "merge", "-q", "-m", "merge", "main")
    source = await find_source(repository, root, attempt_id=ATTEMPT, branch=worktree.branch)
    assert await diff_base(source, against="target", **options) == theirs
    assert await diff_base(source, against="base", **options) == began


@pytest.mark.asyncio
async def test_base_stands_in_for_a_target_that_is_gone(sample: Sample, root: Path) -> None:
    """Without a target, and with one that shares no history, the base is used; else it is said."""
    repository, worktree = await make_worktree(sample, root)
    began = sample.head
    sample.git("checkout", "-q", "--orphan", "other")
    other = sample.commit("unrelated", {"c": "c"})
    source = await find_source(repository, root, attempt_id=ATTEMPT, branch=worktree.branch)
    for target in (None, "nowhere", "other"):
        found = await diff_base(source, against="target", target_branch=target, base_commit=began)
        assert found == began
    found = await diff_base(source, against="target", target_branch="other", base_commit=None)
    assert found == other
    sample.git("update-ref", "refs/remotes/up/side", began)
    found = await diff_base(source, against="target", target_branch="up/side", base_commit=None)
    assert found == began
    with pytest.raises(BranchMissing):
        await diff_base(source, against="target", target_branch="nowhere", base_commit="1" * 40)
