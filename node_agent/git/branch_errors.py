"""What can go wrong with merging, pushing, rebasing and renaming, as types.

Beside `errors.py`, which has what every use of git shares. Must not run git, nor look at files.
"""

# ruff: noqa: N818  each name is a sentence's end: "target moved", "no remote"
from collections.abc import Sequence

from node_agent.git.errors import GitError, redacted, shown
from protocol.errors import ErrorCode

#: Files that an error names; there are rarely more than a screen of them.
FILES_SHOWN_MAX = 1000


def _shown_files(names: Sequence[str]) -> list[str]:
    return [shown(name) for name in names[:FILES_SHOWN_MAX]]


class ExpectedHeadMoved(GitError):
    """The head is another than the one the caller saw; `what` names whose head."""

    def __init__(self, what: str, expected: str, found: str | None) -> None:
        super().__init__(
            ErrorCode.EXPECTED_HEAD_MOVED,
            f"{what} is at {found[:12] if found else 'no commit'}, not at {shown(expected)[:12]}",
            hint="Look at what came since, then ask again with the head found.",
            expected=shown(expected),
            head=found,
        )


class Conflicts(GitError):
    """Two sides changed the same; nothing was changed, unless `left_open` says so."""

    def __init__(self, doing: str, files: Sequence[str], *, left_open: str | None = None) -> None:
        self.files = list(files)
        hint = (
            f"Resolve them in {left_open}, or abort with abort-conflicts."
            if left_open
            else "Rebase the attempt, resolve them there, then try again."
        )
        count = len(self.files)
        super().__init__(
            ErrorCode.CONFLICTS,
            f"{doing} meets conflicts in {count} file{'' if count == 1 else 's'}",
            hint=hint,
            conflicts=_shown_files(files),
            in_progress=left_open is not None,
        )


class TargetMoved(GitError):
    """A branch moved between the look at it and its change; nothing was changed."""

    def __init__(self, branch: str, expected: str, found: str | None) -> None:
        super().__init__(
            ErrorCode.TARGET_MOVED,
            f"the branch {shown(branch)} moved meanwhile",
            hint="Nothing was changed. Look at what came, then ask again.",
            branch=shown(branch),
            expected=expected,
            head=found,
        )


class RebaseInProgress(GitError):
    """A rebase, merge or the like stands half done; `what` names it, `path` where."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(
            ErrorCode.REBASE_IN_PROGRESS,
            f"a {what.replace('_', ' ')} stands half done in {shown(path)}",
            hint="Finish it there; in the attempt's worktree abort-conflicts gives it up.",
            in_progress=what,
            path=shown(path),
        )


class CheckoutDirty(GitError):
    """A worktree that would have to change holds something that would be lost or mixed up."""

    def __init__(self, path: str, why: str, files: Sequence[str] = (), *, hint: str = "") -> None:
        super().__init__(
            ErrorCode.CHECKOUT_DIRTY,
            f"{shown(path)} {why}",
            hint=hint or "Commit or stash what is there, then ask again.",
            path=shown(path),
            files=_shown_files(files),
        )


class NothingToMerge(GitError):
    """The target has all there is."""

    def __init__(self, target: str, head: str | None) -> None:
        super().__init__(
            ErrorCode.NOTHING_TO_MERGE,
            f"{shown(target)} has all commits of the attempt already",
            hint="Is there uncommitted work? It is not merged: commit it first.",
            target=shown(target),
            head=head,
        )


class NotOnItsBranch(GitError):
    """The attempt's worktree stands on no branch, or on another than its own."""

    def __init__(self, path: str, branch: str) -> None:
        super().__init__(
            ErrorCode.CONFLICT,
            f"{shown(path)} does not stand on its branch {shown(branch)}",
            hint="Check that branch out there, or bring its commits to it.",
            branch=shown(branch),
        )


class ForcePushRequired(GitError):
    """The remote branch has commits that this one has not."""

    def __init__(self, ref: str, remote_head: str | None) -> None:
        super().__init__(
            ErrorCode.FORCE_PUSH_REQUIRED,
            f"{shown(ref)} of the remote has commits that this branch has not",
            hint="Take them in, or force with this remote_head as the expected one.",
            ref=shown(ref),
            remote_head=remote_head,
        )


class PushRejected(GitError):
    """The remote refused, by a rule of its own."""

    def __init__(self, ref: str, why: str, stderr: str) -> None:
        super().__init__(
            ErrorCode.PUSH_REJECTED,
            f"the remote refused the push to {shown(ref)}: {shown(why)}",
            hint="The branch may be protected, or a hook of the remote says no.",
            ref=shown(ref),
            stderr=redacted(stderr),
        )


class NoRemote(GitError):
    """There is no remote of that name."""

    def __init__(self, path: str, remote: str) -> None:
        super().__init__(
            ErrorCode.NO_REMOTE,
            f"the repository {shown(path)} has no remote {shown(remote)!r}",
            hint=f"Add one on the node: git -C {shown(path)} remote add {shown(remote)} URL",
            remote=shown(remote),
        )


class RemoteRefusesUser(GitError):
    """The remote does not let the node agent's user in."""

    def __init__(self, url: str, error: GitError) -> None:
        super().__init__(
            ErrorCode.AUTH,
            f"{shown(url)} does not let the node agent's user in",
            hint=error.hint or "Give that user a key or a credential helper the server accepts.",
            url=shown(url),
            stderr=getattr(error, "stderr", ""),
        )


class NothingToAbort(GitError):
    """Nothing stands half done."""

    def __init__(self, path: str) -> None:
        super().__init__(
            ErrorCode.NOTHING_TO_ABORT,
            f"nothing stands half done in {shown(path)}",
            path=shown(path),
        )


class InvalidBranchName(GitError):
    """The new name cannot be a branch's."""

    def __init__(self, name: str, hint: str) -> None:
        super().__init__(
            ErrorCode.INVALID_NAME,
            f"branch: {shown(name)!r} cannot be the name of a branch",
            hint=hint,
            field="branch",
            value=shown(name),
        )


class NothingToStash(GitError):
    """Nothing uncommitted is there, or no stash."""

    def __init__(self, message: str, *, hint: str = "Ignored files stay out of it.") -> None:
        super().__init__(ErrorCode.NOTHING_TO_STASH, message, hint=hint)


class OpenPullRequest(GitError):
    """The branch is what an open pull request is of, by its name."""

    def __init__(self, branch: str, url: str) -> None:
        super().__init__(
            ErrorCode.OPEN_PR,
            f"{shown(branch)} has an open pull request, which goes by its name",
            hint="Close or merge the pull request first, and look at it with pr-state.",
            url=shown(url),
        )
