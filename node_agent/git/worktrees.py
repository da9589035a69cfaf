"""Attempts' worktrees: made, found and listed under one root of the node.

A worktree is known by what the repository itself registers and by a mark of ours beside it, never
by the `.git` file within it, which an agent can rewrite. The user's own checkout is never switched
or written to. Submodules are left as empty folders, as git leaves them; a setup script fills them.
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from node_agent.git.command import LONG_TIMEOUT_S, GitResult, run_git
from node_agent.git.errors import (
    BranchInUse,
    GitFailed,
    InvalidInput,
    NoCommits,
    WorktreeExists,
    WorktreeGone,
)
from node_agent.git.folders import remove_folder, write_whole
from node_agent.git.locks import repository_lock
from node_agent.git.refs import branch_ref, check_attempt_id, check_branch_name
from node_agent.git.repository import Repository

#: Beside git's own files of a worktree; there once the worktree is complete.
MARK_FILE: Final = "skep-attempt"
#: Where a worktree goes before its files are deleted, so that a half-deleted one is never found.
REMOVED_PREFIX: Final = ".removed-"
#: A file beside the worktree while it is being made: what stands there then is ours to take away.
MAKING_PREFIX: Final = ".making-"
_MARK_BYTES_MAX: Final = 64 * 1024
_LOCK_REASON: Final = b"the worktree of a skep attempt\n"


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What we note about a finished worktree."""

    attempt_id: str
    branch: str
    base: str


@dataclass(frozen=True)
class Worktree:
    """An attempt's worktree: its files at `path`, git's side of it at `git_dir`."""

    path: Path
    git_dir: Path
    common_dir: Path
    attempt_id: str
    #: The attempt's branch. An agent may have left it for another; see `BranchStatusReply.head`.
    branch: str
    #: The commit the branch started from.
    base: str

    @property
    def environment(self) -> dict[str, str]:
        """What keeps git to this worktree, whatever its `.git` says."""
        return {"GIT_DIR": str(self.git_dir), "GIT_WORK_TREE": str(self.path)}

    @property
    def index(self) -> Path:
        return self.git_dir / "index"

    def check_there(self) -> None:
        """Raise WorktreeGone unless its folder is there, and is a folder of its own."""
        if not _is_own_folder(self.path):
            raise WorktreeGone(str(self.path))

    async def git(
        self, *args: str | bytes, env: Mapping[str, str] | None = None, **options: Any
    ) -> GitResult:
        """Run git in this worktree; options as of `run_git`."""
        self.check_there()
        return await run_git(self.path, *args, env=self.environment | dict(env or {}), **options)

    async def commit_of(self, ref: str) -> str | None:
        """Return the commit a full ref, or another expression of ours, stands for here."""
        found = await self.git(
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            f"{ref}^{{commit}}",
            exit_codes=(0, 1, 128),
        )
        return found.line.decode() if found.exit_code == 0 else None


def check_root(repository: Repository, root: Path) -> Path:
    """Return the resolved root; InvalidInput where it lies within the user's checkout."""
    root = root.resolve()
    for place in (repository.path, repository.git_dir, repository.common_dir):
        if root.is_relative_to(place.resolve()):
            raise InvalidInput(
                "data_dir",
                str(root),
                f"Worktrees would lie within the checkout {repository.path}; give the node agent"
                " a data folder elsewhere.",
            )
    return root


async def create_worktree(
    repository: Repository,
    root: Path,
    *,
    attempt_id: str,
    branch: str,
    base: str,
    branch_now: Callable[[], Awaitable[str]] | None = None,
) -> Worktree:
    """Make the worktree of an attempt, on its branch; made before, it is returned as it is.

    `base` is the commit a new branch starts from (see `resolve_base`); a branch that is there
    already is kept, so that a worktree removed earlier comes back with the attempt's commits. What
    a crash left half made is made anew. `branch_now` is asked under the repository's lock, where
    the branch may have been renamed. Raises InvalidRefName, BranchInUse, WorktreeExists.
    """
    check_attempt_id(attempt_id)
    check_branch_name("branch", branch)
    root = check_root(repository, root)
    path = root / attempt_id
    async with repository_lock(repository.common_dir):
        await asyncio.to_thread(root.mkdir, mode=0o700, parents=True, exist_ok=True)
        found = await asyncio.to_thread(cleared, repository.common_dir, path)
        if found is not None:
            await asyncio.to_thread(_mend_link, found)
            return found
        if branch_now is not None:
            branch = check_branch_name("branch", await branch_now())
        await asyncio.to_thread(write_whole, making_file(path), b"")
        return await _make(repository, path, Mark(attempt_id=attempt_id, branch=branch, base=base))


async def find_worktree(repository: Repository, root: Path, attempt_id: str) -> Worktree | None:
    """Return the attempt's worktree, or None where it is gone or was never finished."""
    check_attempt_id(attempt_id)

    def found() -> Worktree | None:
        return _finished_at(repository.common_dir, root.resolve() / attempt_id)

    return await asyncio.to_thread(found)


def registrations(common_dir: Path) -> Iterator[tuple[Path, Path]]:
    """Yield git's folder and the path of each worktree the repository has registered."""
    try:
        folders = sorted((common_dir / "worktrees").iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    for folder in folders:
        with contextlib.suppress(OSError, ValueError):
            link = (folder / "gitdir").read_bytes().removesuffix(b"\n")
            # Newer releases of git can write it relative to the folder it stands in.
            yield folder, Path(os.path.normpath(folder / os.fsdecode(link))).parent


async def _make(repository: Repository, path: Path, mark: Mark) -> Worktree:
    tip = await repository.commit_of(branch_ref(mark.branch))
    if tip is None and await repository.commit_of(mark.base) is None:
        raise NoCommits(str(repository.path))
    started = [mark.branch] if tip else [mark.base]
    options = [] if tip else ["-b", mark.branch]
    try:
        await repository.git(
            "worktree",
            "add",
            "--no-checkout",
            # Locked, so that no one's `git worktree prune` takes it while a disk is away.
            "--lock",
            *options,
            "--",
            str(path),
            *started,
        )
        worktree = _registered_at(repository.common_dir, path, mark)
        await worktree.git("reset", "--hard", "--quiet", timeout_s=LONG_TIMEOUT_S)
    except GitFailed as error:
        await asyncio.to_thread(cleared, repository.common_dir, path)
        if tip is None:
            # Only the branch just made, and only where it was made: on the base, unmoved.
            await repository.git(
                "update-ref", "-d", branch_ref(mark.branch), mark.base, exit_codes=(0, 1, 128)
            )
        raise _explained(error, mark.branch) from error
    await asyncio.to_thread(_finish, worktree, mark)
    return worktree


def _finish(worktree: Worktree, mark: Mark) -> None:
    write_whole(worktree.git_dir / "locked", _LOCK_REASON)
    write_whole(worktree.git_dir / MARK_FILE, msgspec.json.encode(mark) + b"\n")
    making_file(worktree.path).unlink(missing_ok=True)


def making_file(path: Path) -> Path:
    """Return the file that says that the worktree at `path` is being made."""
    return path.with_name(f"{MAKING_PREFIX}{path.name}")


def _explained(error: GitFailed, branch: str) -> Exception:
    """What git's refusal to make a worktree means."""
    said = error.stderr
    if "already checked out" in said or "already used by worktree" in said:
        return BranchInUse(branch, "is checked out elsewhere", "Leave it there, or use another.")
    if "cannot lock ref" in said and "exists; cannot create" in said:
        return BranchInUse(
            branch,
            "cannot stand beside a branch whose name is the beginning of its own",
            "Rename the branch that stands in its way, such as `skep`.",
        )
    return error


def _registered_at(common_dir: Path, path: Path, mark: Mark) -> Worktree:
    for git_dir, registered in registrations(common_dir):
        if registered == path:
            return Worktree(path, git_dir, common_dir, mark.attempt_id, mark.branch, mark.base)
    raise WorktreeGone(str(path))


def _finished_at(common_dir: Path, path: Path) -> Worktree | None:
    for git_dir, registered in registrations(common_dir):
        if registered != path or not _is_own_folder(path):
            continue
        mark = _read_mark(git_dir)
        if mark is not None and mark.attempt_id == path.name:
            return Worktree(path, git_dir, common_dir, mark.attempt_id, mark.branch, mark.base)
    return None


def _read_mark(git_dir: Path) -> Mark | None:
    try:
        with (git_dir / MARK_FILE).open("rb") as file:
            return msgspec.json.decode(file.read(_MARK_BYTES_MAX), type=Mark)
    except (OSError, msgspec.DecodeError):
        return None


def cleared(common_dir: Path, path: Path) -> Worktree | None:
    """Return the finished worktree at `path`; else take away what is left of one there.

    Under the repository's lock. Raises WorktreeExists for what is not ours to take away.
    """
    found = _finished_at(common_dir, path)
    if found is not None:
        return found
    registered = [folder for folder, at in registrations(common_dir) if at == path]
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise WorktreeExists(str(path), "it is not a folder")
    if path.exists() and any(path.iterdir()):
        # While it is being made no agent has run in it. Else it may be the last copy of someone's
        # work: a worktree of the user's, or one whose repository is gone.
        if not (registered and making_file(path).exists()):
            raise WorktreeExists(str(path), "there are files in it that are no attempt's")
        remove_folder(path)
    for folder in registered:
        remove_folder(folder)
    making_file(path).unlink(missing_ok=True)
    return None


def _mend_link(worktree: Worktree) -> None:
    """Write the worktree's `.git` again where it leads elsewhere, as after a move of the checkout.

    A `.git` folder is left alone: an agent made a repository of its own there.
    """
    link = worktree.path / ".git"
    wanted = b"gitdir: " + os.fsencode(worktree.git_dir) + b"\n"
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(link.lstat().st_mode) or link.read_bytes() == wanted:
            return
    write_whole(link, wanted)


def _is_own_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
