"""The worktrees that stand on a branch, the user's own among them, and bringing one along.

Owns that a worktree is written to only where it is clean, and that no file in it is lost: neither
untracked nor ignored ones are overwritten. Must not move the branch.
"""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node_agent.git.branch_errors import CheckoutDirty, RebaseInProgress
from node_agent.git.command import LONG_TIMEOUT_S, GitResult, run_git
from node_agent.git.path_text import to_text
from node_agent.git.repository import Repository
from node_agent.git.uncommitted import WORDS_BEFORE_PATH
from node_agent.git.unfinished import rebased_branches, unfinished
from node_agent.git.worktrees import registrations

#: How `git status` begins a record of one: a commit of its own is checked out, nothing is staged.
_SUBMODULE_ELSEWHERE: Final = b"1 .M SC"


@dataclass(frozen=True)
class CheckedOut:
    """A worktree that stands on a branch: its files, and git's side of it."""

    path: Path
    git_dir: Path

    async def git(self, *args: str | bytes, **options: object) -> GitResult:
        """Run git in it."""
        env = {"GIT_DIR": str(self.git_dir), "GIT_WORK_TREE": str(self.path)}
        return await run_git(self.path, *args, env=env, **options)  # type: ignore[arg-type]

    async def check_can_follow(self, before: str, after: str) -> None:
        """Raise unless it is clean, and nothing untracked would be overwritten."""
        if not await asyncio.to_thread(self.path.is_dir):
            raise CheckoutDirty(
                str(self.path),
                "stands on the branch and cannot be looked at: the folder is not there",
                hint="If it is gone for good, run git worktree prune in the repository.",
            )
        if (what := await asyncio.to_thread(unfinished, self.git_dir)) is not None:
            raise RebaseInProgress(str(self.path), what)
        # Nothing here writes to a submodule, nor takes one away.
        changed = await self.changed(but_submodules=True)
        if changed:
            raise CheckoutDirty(
                str(self.path), "stands on the branch and has uncommitted changes", changed
            )
        files = await self.in_the_way(before, after)
        if files:
            raise CheckoutDirty(
                str(self.path),
                "has files git does not know that would be overwritten",
                files,
                hint="Move them away, then ask again.",
            )

    async def changed(self, *, but_submodules: bool = False) -> list[str]:
        """Return the tracked files that differ from the commit it stands on.

        `but_submodules`: not those that stand on another commit than it names, of which nothing is
        staged. So they all do once one was brought along, until their user updates them.
        """
        said = await self.git(
            "status",
            "--porcelain=v2",
            "-z",
            "--untracked-files=no",
            "--no-renames",
            # A submodule with changes of its own would have git run in it, by its own settings.
            "--ignore-submodules=dirty",
        )
        records = [record for record in said.stdout.split(b"\0") if record]
        return [
            to_text(record.split(b" ", words)[words])
            for record in records
            if (words := WORDS_BEFORE_PATH.get(record[:2])) is not None
            and not (but_submodules and record.startswith(_SUBMODULE_ELSEWHERE))
        ]

    async def in_the_way(self, before: str, after: str) -> list[str]:
        """Return untracked files, ignored ones too, at paths that `after` has and `before` not."""
        listing = await self.git(
            "diff-tree", "-r", "-z", "--no-renames", "--diff-filter=A", "--name-only", before, after
        )
        added = [path for path in listing.stdout.split(b"\0") if path]
        found = await asyncio.to_thread(lambda: list(dict.fromkeys(_standing(self.path, added))))
        return [to_text(path) for path in found if await self._untracked(path, before)]

    async def _untracked(self, path: bytes, before: str) -> bool:
        """Whether there is anything at a path that is not the commit's own."""
        if await asyncio.to_thread(_is_folder, self.path / os.fsdecode(path)):
            others = await self.git("ls-files", "--others", "-z", "--", path)
            return bool(others.stdout)
        known = await self.git("ls-tree", "-z", "--name-only", before, "--", path)
        return not known.stdout

    async def bring(self, before: str, after: str) -> None:
        """Change its files and index from one commit to another; all of it, or nothing."""
        # By content: a file that was only touched is not one that was changed.
        await self.git("update-index", "-q", "--refresh", exit_codes=(0, 1))
        # Not into submodules, whatever the user's own setting says of that.
        await self.git(
            "read-tree",
            "--no-recurse-submodules",
            "-m",
            "-u",
            before,
            after,
            timeout_s=LONG_TIMEOUT_S,
        )

    async def stands_at(self, commit: str) -> bool:
        """Whether its files and index are those of a commit, whatever HEAD says."""
        index = await self.git("diff-index", "--cached", "--quiet", commit, exit_codes=(0, 1))
        if index.exit_code:
            return False
        await self.git("update-index", "-q", "--refresh", exit_codes=(0, 1))
        files = await self.git(
            "diff-files", "--quiet", "--ignore-submodules=all", exit_codes=(0, 1)
        )
        return files.exit_code == 0


async def checked_out(repository: Repository, ref: str) -> list[CheckedOut]:
    """Return the worktrees that stand on a branch, given by its full name.

    Raises RebaseInProgress where a rebase of it is not finished: its end would move the branch.
    """
    for name, folder in await asyncio.to_thread(
        lambda: list(rebased_branches(repository.common_dir))
    ):
        if name == ref.encode("utf-8", "surrogateescape"):
            raise RebaseInProgress(str(folder), "rebase")
    main = await _main(repository)
    return await asyncio.to_thread(lambda: list(_on_branch(repository.common_dir, main, ref)))


async def _main(repository: Repository) -> Path | None:
    """The checkout that the repository came with; None where it is bare."""
    if repository.bare:
        return None
    if repository.git_dir == repository.common_dir:
        return repository.path
    env = {"GIT_DIR": str(repository.common_dir)}
    bare = await run_git(repository.common_dir, "rev-parse", "--is-bare-repository", env=env)
    return None if bare.line == b"true" else repository.common_dir.parent


def _on_branch(common_dir: Path, main: Path | None, ref: str) -> Iterator[CheckedOut]:
    places = [] if main is None else [CheckedOut(main, common_dir)]
    places += [CheckedOut(path, folder) for folder, path in registrations(common_dir)]
    wanted = b"ref: " + ref.encode("utf-8", "surrogateescape")
    for place in places:
        try:
            head = (place.git_dir / "HEAD").read_bytes()
        except OSError:
            continue
        if head.rstrip(b"\n") == wanted:
            yield place


def _standing(top: Path, paths: list[bytes]) -> Iterator[bytes]:
    """The paths at which something stands, or a part of which is no folder."""
    looked_at: set[bytes] = set()
    for path in paths:
        parts = path.split(b"/")
        for end in range(1, len(parts) + 1):
            part = b"/".join(parts[:end])
            if part in looked_at:
                continue
            looked_at.add(part)
            place = os.fsencode(top) + b"/" + part
            if not os.path.lexists(place):
                break
            if end == len(parts) or not _is_folder(Path(os.fsdecode(place))):
                yield part


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
