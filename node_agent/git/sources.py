"""Where an attempt's work is to be read: its worktree, else what was saved, else its branch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from node_agent.git.errors import WorktreeGone
from node_agent.git.refs import branch_ref
from node_agent.git.repository import Repository
from node_agent.git.saved_work import find_saved_work
from node_agent.git.worktrees import Worktree, find_worktree

Kind = Literal["worktree", "saved", "branch"]


@dataclass(frozen=True)
class Source:
    """One place to read an attempt from; replies name its `kind` as their `source`."""

    kind: Kind
    repository: Repository
    branch: str
    #: There where `kind` is worktree, and only then.
    worktree: Worktree | None
    #: The last commit of the work; None in a worktree whose HEAD has none yet.
    head: str | None
    #: The commit whose files are the work: the saved one where there is one; else `head`.
    commit: str | None

    @property
    def place(self) -> Repository | Worktree:
        """Where git is to run."""
        return self.worktree or self.repository


async def find_source(
    repository: Repository, root: Path, *, attempt_id: str, branch: str
) -> Source:
    """Return where the attempt's work is; WorktreeGone where nothing of it is left."""
    worktree = await find_worktree(repository, root, attempt_id)
    if worktree is not None:
        head = await worktree.commit_of("HEAD")
        return Source("worktree", repository, branch, worktree, head, head)
    tip = await repository.commit_of(branch_ref(branch))
    saved = await find_saved_work(repository, attempt_id)
    if saved is not None and (tip is None or await _holds(repository, saved.commit, tip)):
        return Source("saved", repository, branch, None, tip or saved.head, saved.commit)
    if tip is None:
        raise WorktreeGone(str(root / attempt_id))
    return Source("branch", repository, branch, None, tip, tip)


async def _holds(repository: Repository, saved: str, tip: str) -> bool:
    """Whether saved work stands on the branch as it is now, and not on what it once was."""
    found = await repository.git("merge-base", "--is-ancestor", tip, saved, exit_codes=(0, 1))
    return found.exit_code == 0
