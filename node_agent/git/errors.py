"""What can go wrong with git and a worktree's files, as types.

One tree under `GitError`; the codes are those of the table of operations, so that an error raised
here travels to the caller as it is. Must not run git, nor look at files.
"""

# ruff: noqa: N818  each name is a sentence's end: "git failed", "no commits"
import re
from collections.abc import Sequence
from typing import Any, Final

from protocol.errors import ErrorCode, OperationError

#: Of a failed program's last words, what an error carries.
STDERR_TAIL_BYTES_MAX: Final = 4096
#: Of an argument or a name, what an error carries.
_SHOWN_CHARACTERS_MAX: Final = 300
_ARGUMENTS_SHOWN_MAX: Final = 40
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/@\s]+@")

#: Words of git's own (LC_ALL=C) and what the person who reads them can do.
_HINTS: Final = (
    (
        "dubious ownership",
        "Another user owns it; allow it with git config --global --add safe.directory PATH",
    ),
    (
        ".lock': File exists",
        "Another git process works there, or was killed. When none runs, remove the lock file.",
    ),
    ("No space left on device", "Free space on the disk that holds the repository."),
    ("Permission denied (publickey", "Give the node agent's user a key the server accepts."),
    ("could not read Username", "Set up a git credential helper for the node agent's user."),
    ("Authentication failed", "Renew the credentials of the node agent's user."),
    (
        "not a git repository",
        "Name a clone's folder, or make one: git init, git clone. Where it was moved, add it anew.",
    ),
    ("unable to read tree", "The repository is damaged; see what `git fsck` says in it."),
    ("bad object", "The repository is damaged; see what `git fsck` says in it."),
    ("is corrupt", "The repository is damaged; see what `git fsck` says in it."),
)


def redacted(text: str) -> str:
    """Return `text` with no user names and passwords in its URLs."""
    return _USERINFO.sub(r"\1***@", text)


def shown(text: str) -> str:
    """Return `text` as an error may carry it: of bounded length, and encodable."""
    # Cut first: looking for credentials in one long word takes the square of its length.
    text = redacted(text[:STDERR_TAIL_BYTES_MAX]).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else f"{text[:_SHOWN_CHARACTERS_MAX]}..."


class GitError(OperationError):
    """Root of what this package raises on purpose."""


class GitFailed(GitError):
    """The git program ended with an error; `argv` and `stderr` have no credentials in them."""

    def __init__(self, argv: Sequence[str], exit_code: int, stderr: bytes) -> None:
        self.argv = tuple(shown(argument) for argument in argv[:_ARGUMENTS_SHOWN_MAX])
        self.exit_code = exit_code
        tail = stderr[-STDERR_TAIL_BYTES_MAX:].decode("utf-8", "replace").strip()
        self.stderr = redacted(tail)
        last = self.stderr.rsplit("\n", 1)[-1] or "it said nothing"
        super().__init__(
            ErrorCode.GIT_FAILED,
            f"git {_verb(self.argv)} failed (exit code {exit_code}): {last}",
            hint=next((hint for words, hint in _HINTS if words in tail), ""),
            argv=list(self.argv),
            exit_code=exit_code,
            stderr=self.stderr,
        )


class GitTimedOut(GitError):
    """Git took too long and was ended."""

    def __init__(self, argv: Sequence[str], timeout_s: float) -> None:
        self.argv = tuple(shown(argument) for argument in argv[:_ARGUMENTS_SHOWN_MAX])
        super().__init__(
            ErrorCode.GIT_FAILED,
            f"git {_verb(self.argv)} was ended after {timeout_s:g} s",
            hint="The disk or a remote may be slow, or a filter of the repository may hang.",
            argv=list(self.argv),
            timeout_s=timeout_s,
        )


class GitMissing(GitError):
    """There is no git program on this machine."""

    def __init__(self, program: str) -> None:
        super().__init__(
            ErrorCode.NOT_AVAILABLE,
            f"the program {program} is not to be found",
            hint="Install git where the node agent's PATH leads.",
        )


class OutputTooLarge(GitError):
    """Git wrote more than the caller was ready to hold."""

    def __init__(self, argv: Sequence[str], output_bytes_max: int) -> None:
        self.argv = tuple(shown(argument) for argument in argv[:_ARGUMENTS_SHOWN_MAX])
        super().__init__(
            ErrorCode.TOO_LARGE,
            f"git {_verb(self.argv)} wrote more than {output_bytes_max} bytes",
            hint="Ask for less: one folder, or one file.",
            output_bytes_max=output_bytes_max,
        )


class InvalidRefName(GitError):
    """A name cannot be a branch, tag or commit; `field` says which input it was."""

    def __init__(self, field: str, value: str, hint: str) -> None:
        self.field = field
        self.value = value
        super().__init__(
            ErrorCode.INVALID,
            f"{field}: {shown(value)!r} cannot be used as the name of a branch",
            hint=hint,
            field=field,
            value=shown(value),
        )


class InvalidInput(GitError):
    """Another input that cannot be used; `field` says which."""

    def __init__(self, field: str, value: str, hint: str) -> None:
        self.field = field
        super().__init__(
            ErrorCode.INVALID,
            f"{field}: {shown(value)!r} cannot be used",
            hint=hint,
            field=field,
            value=shown(value),
        )


class NotARepository(GitError):
    """The path is no git repository git can open."""

    def __init__(self, path: str, why: str, hint: str = "") -> None:
        super().__init__(
            ErrorCode.NOT_A_REPOSITORY,
            f"{shown(path)} is not a git repository: {redacted(why)}",
            hint=hint or "Name the folder of a checkout, or make one with git init or git clone.",
            path=shown(path),
        )


class NoCommits(GitError):
    """The repository has no commit yet, so there is nothing to branch from."""

    def __init__(self, path: str) -> None:
        super().__init__(
            ErrorCode.NO_COMMITS,
            f"the repository {shown(path)} has no commits yet",
            hint="Make a first commit there, then try again.",
            path=shown(path),
        )


class BranchMissing(GitError):
    """No branch, tag or commit has that name."""

    def __init__(self, field: str, name: str) -> None:
        self.field = field
        super().__init__(
            ErrorCode.BRANCH_MISSING,
            f"{field}: the repository has no branch, tag or commit {shown(name)!r}",
            hint="Name one that `git branch --all` shows at the node, or fetch it there first.",
            field=field,
            branch=shown(name),
        )


class BranchInUse(GitError):
    """The branch, or a name that stands in its way, is taken."""

    def __init__(self, branch: str, why: str, hint: str) -> None:
        super().__init__(
            ErrorCode.EXISTS, f"the branch {shown(branch)} {why}", hint=hint, branch=shown(branch)
        )


class WorktreeExists(GitError):
    """Something that is not the attempt's worktree stands where it should be made."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            ErrorCode.EXISTS,
            f"{shown(path)} cannot become a worktree: {why}",
            hint="Look at what is there, move it away, and try again.",
            path=shown(path),
        )


class WorktreeGone(GitError):
    """The attempt's worktree is no longer there."""

    def __init__(self, path: str) -> None:
        super().__init__(
            ErrorCode.WORKTREE_GONE,
            f"the worktree {shown(path)} is gone",
            hint="Its branch and saved work are still there; a follow-up makes it again.",
            path=shown(path),
        )


class UnsavedWork(GitError):
    """Removing the worktree would lose work that cannot be saved to a ref."""

    def __init__(self, path: str, repositories: Sequence[str]) -> None:
        self.repositories = list(repositories)
        super().__init__(
            ErrorCode.UNSAVED_WORK,
            f"{shown(path)} holds repositories of its own with work that is nowhere else:"
            f" {', '.join(shown(name) for name in self.repositories[:10])}",
            hint="Push or move what they hold, or clean up with the wish to lose it.",
            unsaved=[shown(name) for name in self.repositories[:100]],
        )


class UnsavedChanges(GitError):
    """Removing the worktree would lose work that a ref could keep."""

    def __init__(self, path: str, changed: Sequence[str], count: int, *, off_branch: bool) -> None:
        names = [shown(name) for name in changed[:100]]
        parts = []
        if count:
            more = f" and {count - 10} more" if count > 10 else ""
            parts.append(f"uncommitted work: {', '.join(names[:10])}{more}")
        if off_branch:
            parts.append("commits that its branch does not have")
        super().__init__(
            ErrorCode.UNSAVED_WORK,
            f"{shown(path)} holds {' and '.join(parts)}",
            hint="Commit it, or clean up with `save`: what it holds goes to a ref first.",
            unsaved=names,
            unsaved_count=count,
            commits_off_branch=off_branch,
        )


class ConflictsOpen(GitError):
    """A merge or rebase of the worktree is not finished."""

    def __init__(self, path: str, why: str, conflicts: Sequence[str] = ()) -> None:
        super().__init__(
            ErrorCode.CONFLICT,
            f"{shown(path)}: {why}",
            hint="Finish or abort it first.",
            conflicts=[shown(name) for name in conflicts[:1000]],
        )


# --- files ---------------------------------------------------------------------------------------


class FileError(GitError):
    """Root of the refusals of `files.py`; `path` is what was asked for."""

    def __init__(self, code: ErrorCode, path: str, message: str, hint: str, **details: Any) -> None:
        self.path = path
        super().__init__(code, f"{shown(path)!r} {message}", hint=hint, path=shown(path), **details)


class PathNotFound(FileError):
    """Nothing stands at that path, or nothing that may be shown."""

    def __init__(self, path: str, message: str = "is not there") -> None:
        super().__init__(ErrorCode.NOT_FOUND, path, message, "List its folder to see what is.")


class NotADirectory(FileError):
    """The path, or a part of it, is no folder."""

    def __init__(self, path: str) -> None:
        super().__init__(ErrorCode.NOT_A_DIRECTORY, path, "is not a folder", "Read it as a file.")


class NotAFile(FileError):
    """The path is a folder, a pipe, a device or a socket: nothing with bytes to show."""

    def __init__(self, path: str, kind: str) -> None:
        super().__init__(
            ErrorCode.NOT_FOUND, path, f"is not a regular file but a {kind}", "List its folder."
        )


class BinaryFile(FileError):
    """The file is not text, and text was asked for."""

    def __init__(self, path: str, size: int) -> None:
        super().__init__(
            ErrorCode.BINARY, path, "is not text", "Ask for its bytes instead.", size=size
        )


class FileTooLarge(FileError):
    """The file is larger than one reply may be."""

    def __init__(self, path: str, size: int, bytes_max: int) -> None:
        super().__init__(
            ErrorCode.TOO_LARGE,
            path,
            f"has {size} bytes, more than {bytes_max}",
            "Ask for a range of it.",
            size=size,
            bytes_max=bytes_max,
        )


class OutsideWorktree(FileError):
    """The path leads out of the worktree, or into git's own folder."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            ErrorCode.OUTSIDE, path, why, "Give a path relative to the worktree's top, within it."
        )


def _verb(argv: Sequence[str]) -> str:
    """The sub-command of a git command line, past git's own options."""
    words = iter(argv[1:])
    for word in words:
        if word == "-c":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""
