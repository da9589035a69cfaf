"""Bring a branch to its origin at one commit: made there, or moved forward, never forced."""

from node_agent.git.command import LONG_TIMEOUT_S
from node_agent.git.push import PushPlan, named_remote, push
from node_agent.git.refs import branch_ref
from node_agent.git.repository import Repository


async def push_branch(
    repository: Repository, branch: str, commit: str, *, timeout_s: float = LONG_TIMEOUT_S
) -> None:
    """Have origin's branch stand at `commit`, if it is not there or is behind.

    Raises NoRemote, ForcePushRequired, PushRejected, RemoteRefusesUser, and GitFailed for what else
    goes wrong.
    """
    plan = PushPlan(ref=branch_ref(branch), before=None, after=commit, force=False)
    await push(repository, await named_remote(repository), plan, timeout_s=timeout_s)
