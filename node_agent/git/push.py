"""An attempt's commits pushed to its branch at the remote, and what stands there.

A branch that has commits of others is overwritten only where it is at the very commit the caller
saw. Hooks, prompts and programs that a repository names for a transport are off.
"""

from dataclasses import dataclass
from typing import Final

from node_agent.git.branch_errors import (
    ExpectedHeadMoved,
    ForcePushRequired,
    NoRemote,
    PushRejected,
    RemoteRefusesUser,
)
from node_agent.git.command import LONG_TIMEOUT_S
from node_agent.git.errors import GitFailed, redacted
from node_agent.git.repository import Repository

DEFAULT_REMOTE: Final = "origin"
_LOOK_TIMEOUT_S: Final = 60.0
#: Words of ssh's, of git's over HTTP, and of common servers (LC_ALL=C).
_REFUSALS: Final = (
    "Permission denied",
    "Authentication failed",
    "could not read Username",
    "could not read Password",
    "terminal prompts disabled",
    "Host key verification failed",
    "returned error: 401",
    "returned error: 403",
    "access denied",
    "Access denied",
)
#: A remote's own setting could name any program here.
_RECEIVE: Final = "--receive-pack=git-receive-pack"
_UPLOAD: Final = "--upload-pack=git-upload-pack"


@dataclass(frozen=True)
class Remote:
    """A remote by name, and where pushes to it go; `url` holds no credentials."""

    name: str
    url: str
    #: As git is to be told; it may hold credentials.
    address: str


@dataclass(frozen=True)
class PushPlan:
    """What a push will do: the remote's branch, where it stands, where it is to stand."""

    ref: str
    before: str | None
    after: str
    force: bool


async def remote_of(repository: Repository, branch: str) -> Remote:
    """Return the remote a branch is pushed to. Raises NoRemote."""
    name = (
        await repository.setting(f"branch.{branch}.pushRemote")
        or await repository.setting("remote.pushDefault")
        or await repository.setting(f"branch.{branch}.remote")
        or DEFAULT_REMOTE
    )
    return await named_remote(repository, name)


async def named_remote(repository: Repository, name: str = DEFAULT_REMOTE) -> Remote:
    """Return a remote by its name. Raises NoRemote."""
    if name.startswith("-") or name == ".":
        raise NoRemote(str(repository.path), name)
    found = await repository.git("remote", "get-url", "--push", "--", name, exit_codes=(0, 2, 128))
    address = found.line.decode("utf-8", "surrogateescape")
    if found.exit_code or not address:
        raise NoRemote(str(repository.path), name)
    return Remote(name, redacted(address), address)


async def remote_head(
    repository: Repository, remote: Remote, ref: str, *, timeout_s: float = _LOOK_TIMEOUT_S
) -> str | None:
    """Ask the remote where its branch stands; None where it has none of that name."""
    try:
        said = await repository.git(
            "ls-remote", _UPLOAD, "--refs", "--", remote.address, ref, timeout_s=timeout_s
        )
    except GitFailed as error:
        raise _explained(remote, error) from error
    for line in said.stdout.splitlines():
        commit, _, name = line.partition(b"\t")
        # A pattern of ls-remote's also finds names that only end so.
        if name == ref.encode("utf-8", "surrogateescape"):
            return commit.decode()
    return None


async def check_push(
    repository: Repository, plan: PushPlan, *, expected_remote_head: str | None
) -> None:
    """Raise what the push would, as far as it can be told beforehand."""
    if expected_remote_head is not None and plan.before != expected_remote_head:
        raise ExpectedHeadMoved(f"{plan.ref} of the remote", expected_remote_head, plan.before)
    if plan.before is None or plan.force:
        return
    ancestor = await repository.git(
        "merge-base", "--is-ancestor", plan.before, plan.after, exit_codes=(0, 1, 128)
    )
    # 128: we do not have the commit, so it is not among ours.
    if ancestor.exit_code:
        raise ForcePushRequired(plan.ref, plan.before)


async def push(
    repository: Repository, remote: Remote, plan: PushPlan, *, timeout_s: float = LONG_TIMEOUT_S
) -> None:
    """Push. Raises ForcePushRequired, ExpectedHeadMoved, PushRejected, RemoteRefusesUser."""
    lease = [f"--force-with-lease={plan.ref}:{plan.before or ''}"] if plan.force else []
    try:
        said = await repository.git(
            "push",
            "--porcelain",
            "--no-verify",
            "--no-follow-tags",
            "--no-signed",
            "--no-recurse-submodules",
            "--quiet",
            _RECEIVE,
            *lease,
            "--",
            remote.name,
            f"{plan.after}:{plan.ref}",
            timeout_s=timeout_s,
            exit_codes=(0, 1),
        )
    except GitFailed as error:
        raise _explained(remote, error) from error
    if said.exit_code:
        await _raise_refused(repository, remote, plan, said.stdout, said.stderr)


async def _raise_refused(
    repository: Repository, remote: Remote, plan: PushPlan, said: bytes, complained: bytes
) -> None:
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.startswith("!")]
    if not lines:
        raise _explained(remote, GitFailed(["git", "push", remote.name], 1, complained))
    why = lines[0].rsplit("\t", 1)[-1]
    if why.startswith("[remote rejected]"):
        raise PushRejected(plan.ref, why, complained.decode("utf-8", "replace"))
    found = await remote_head(repository, remote, plan.ref)
    if plan.force:
        raise ExpectedHeadMoved(f"{plan.ref} of the remote", plan.before or "nothing", found)
    raise ForcePushRequired(plan.ref, found)


def _explained(remote: Remote, error: GitFailed) -> GitFailed | RemoteRefusesUser:
    if any(words in error.stderr for words in _REFUSALS):
        return RemoteRefusesUser(remote.url, error)
    return error
