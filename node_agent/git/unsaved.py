"""What a worktree holds that its branch does not: named before anything of it is taken away."""

from typing import Final

from node_agent.git.errors import UnsavedChanges
from node_agent.git.path_text import to_text
from node_agent.git.saved_work import branch_has_head
from node_agent.git.uncommitted import uncommitted
from node_agent.git.untracked import copied_paths
from node_agent.git.worktrees import Worktree

#: Paths that a refusal names; there are rarely more than a screen of them.
_NAMED_MAX: Final = 100


async def check_nothing_unsaved(worktree: Worktree) -> None:
    """Raise UnsavedChanges, naming them, where there are uncommitted or untracked changes.

    Commits that the attempt's branch does not have count as well. Files we copied in do not.
    """
    copied = copied_paths(worktree)
    named: list[str] = []
    count = 0
    async with uncommitted(worktree) as found:
        async for _, path in found:
            if path in copied:
                continue
            count += 1
            if len(named) < _NAMED_MAX:
                named.append(to_text(path))
    off_branch = not await branch_has_head(worktree)
    if count or off_branch:
        raise UnsavedChanges(str(worktree.path), named, count, off_branch=off_branch)
