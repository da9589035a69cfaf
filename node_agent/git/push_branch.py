"""Bring a branch to its remote at one commit: made there, or moved forward, never forced."""

from node_agent.git.command import LONG_TIMEOUT_S
from node_agent.git.errors import GitError, GitFailed, redacted, shown
from node_agent.git.refs import branch_ref
from node_agent.git.repository import Repository
from protocol.errors import ErrorCode

_AUTH_WORDS = (
    "Permission denied",
    "could not read Username",
    "could not read Password",
    "Authentication failed",
    "Host key verification failed",
    "The requested URL returned error: 403",
    "Write access to repository not granted",
)


class ForcePushRequired(GitError):  # noqa: N818  names what is wrong, as all our errors do
    """The remote's branch has commits that ours has not."""

    def __init__(self, branch: str) -> None:
        super().__init__(
            ErrorCode.FORCE_PUSH_REQUIRED,
            f"the remote's branch {shown(branch)} has commits that the attempt's branch has not",
            hint="See what they are, then rebase onto them, or push with force.",
            branch=shown(branch),
        )


class PushNotAllowed(GitError):  # noqa: N818  names what is wrong, as all our errors do
    """The remote does not take what this node's user pushes."""

    def __init__(self, said: str) -> None:
        super().__init__(
            ErrorCode.AUTH,
            f"the remote does not let this node push: {shown(said)}",
            hint="Give the node agent's user a key or a git credential helper the remote accepts"
            " (for GitHub: gh auth setup-git).",
        )


async def push_branch(
    repository: Repository, branch: str, commit: str, *, timeout_s: float = LONG_TIMEOUT_S
) -> None:
    """Have origin's branch stand at `commit`, if it is not there or is behind.

    Raises ForcePushRequired, PushNotAllowed, and GitFailed for what else the remote refuses.
    """
    try:
        pushed = await repository.git(
            "push",
            "--porcelain",
            "--no-verify",
            "--no-follow-tags",
            "--recurse-submodules=no",
            "--end-of-options",
            "origin",
            f"{commit}:{branch_ref(branch)}",
            timeout_s=timeout_s,
            exit_codes=(0, 1),
        )
    except GitFailed as error:
        if any(word in error.stderr for word in _AUTH_WORDS):
            raise PushNotAllowed(error.stderr.rsplit("\n", 1)[-1]) from error
        raise
    if pushed.exit_code == 0:
        return
    refused = next(
        (line for line in pushed.stdout.decode("utf-8", "replace").split("\n") if line[:1] == "!"),
        "",
    )
    if "(non-fast-forward)" in refused or "(fetch first)" in refused:
        raise ForcePushRequired(branch)
    said = redacted(pushed.stderr.decode("utf-8", "replace").strip())
    if any(word in said for word in _AUTH_WORDS):
        raise PushNotAllowed(said.rsplit("\n", 1)[-1])
    raise GitFailed(["git", "push", branch], pushed.exit_code, (refused or said).encode())
