"""Stashes of an attempt, as git has them; the operations have tests of their own."""

from pathlib import Path

import pytest

from node_agent.git.errors import GitFailed
from node_agent.git.stash import make_stash, move_stash_ref, stash_depth, stash_ref
from tests.node_agent.git.attempts import make_worktree, write
from tests.node_agent.git.repositories import ATTEMPT, Sample


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.asyncio
async def test_the_ref_moves_from_what_was_found(
    tmp_path: Path, root: Path, object_format: str
) -> None:
    """From none to a stash and back, however long a commit's id is; never over another stash."""
    sample = Sample.make(tmp_path / "project", object_format=object_format)
    repository, worktree = await make_worktree(sample, root)
    write(worktree, "README", "changed\n")
    stash = await make_stash(repository, worktree, sample.head, "put aside")
    await move_stash_ref(repository, ATTEMPT, None, stash)
    assert await stash_depth(repository, ATTEMPT) == 1
    with pytest.raises(GitFailed):
        await move_stash_ref(repository, ATTEMPT, None, sample.head)
    assert sample.git("rev-parse", stash_ref(ATTEMPT)) == stash
    await move_stash_ref(repository, ATTEMPT, stash, None)
    assert await stash_depth(repository, ATTEMPT) == 0
