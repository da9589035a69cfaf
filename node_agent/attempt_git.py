"""What one attempt on its way wants of git: its repository, worktree, head and last commit.

A worktree or head that cannot be looked at is none, and is told in the log. Must not make or
remove worktrees.
"""

import logging
from typing import Final

from node_agent.attempt_standing import Standing
from node_agent.attempt_worktree import repository_of
from node_agent.git.commit_identity import CommitIdentity, commit_identity
from node_agent.git.copied_files import copy_files
from node_agent.git.leftovers import commit_all
from node_agent.git.repository import Repository
from node_agent.git.worktrees import Worktree, find_worktree
from node_agent.run_context import RunContext
from protocol.errors import SkepError
from protocol.states import ExecutionKind

LOG: Final = logging.getLogger(__name__)


class AttemptGit:
    """The git of one attempt, whose repository is opened once."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._opened: Repository | None = None

    async def repository(self, standing: Standing) -> Repository:
        """Return the checkout's repository, opened once: opening it asks git many questions."""
        if self._opened is None:
            self._opened = await repository_of(self._context.database, standing.attempt)
        return self._opened

    async def worktree(self, standing: Standing) -> Worktree | None:
        """Return the attempt's worktree; None where it is gone or cannot be looked at."""
        try:
            return await find_worktree(
                await self.repository(standing), self._context.worktrees_dir, standing.attempt.id
            )
        except (SkepError, OSError) as error:
            LOG.warning("the worktree of %s cannot be looked at: %s", standing.attempt.id, error)
            return None

    async def head(self, standing: Standing) -> str | None:
        """Return where the attempt's work stands: its worktree's HEAD, else its branch."""
        try:
            worktree = await self.worktree(standing)
            if worktree is not None:
                return await worktree.commit_of("HEAD")
            repository = await self.repository(standing)
            return await repository.commit_of(f"refs/heads/{standing.attempt.branch}")
        except (SkepError, OSError) as error:
            LOG.warning("the head of %s cannot be read: %s", standing.attempt.id, error)
            return None

    async def copy_files(
        self, standing: Standing, repository: Repository, worktree: Worktree
    ) -> None:
        """Copy what the attempt takes along of its checkout, before its first program."""
        patterns = standing.plan.request.copy_files
        if not patterns or any(one.kind is ExecutionKind.SETUP for one in standing.executions):
            return
        copied = await copy_files(repository, worktree, patterns)
        for path, why in copied.skipped:
            LOG.warning("attempt %s: %s was not copied: %s", standing.attempt.id, path, why)

    async def commit_leftovers(self, standing: Standing, worktree: Worktree) -> None:
        """Commit what the agent left uncommitted. Raises SkepError where git does not."""
        message = (
            f"{standing.attempt.task_title}\n\nLeft uncommitted by {standing.attempt.executor}."
        )
        await commit_all(worktree, message, await self.identity(standing))

    async def identity(self, standing: Standing) -> CommitIdentity:
        """Return whose name commits of the attempt bear."""
        return await commit_identity(
            await self.repository(standing),
            setting=self._context.git_identity,
            node_name=self._context.node_name,
        )
