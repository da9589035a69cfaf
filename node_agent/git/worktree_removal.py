"""Worktrees taken away: never before their work is safe, and in steps that can be run again."""

import asyncio
from pathlib import Path

from node_agent.git.folders import remove_folder
from node_agent.git.locks import repository_lock
from node_agent.git.nested_repositories import check_nothing_nested
from node_agent.git.refs import check_attempt_id
from node_agent.git.repository import Repository
from node_agent.git.saved_work import SavedWork, save_lost_head, save_work
from node_agent.git.worktrees import (
    MARK_FILE,
    REMOVED_PREFIX,
    cleared,
    find_worktree,
    making_file,
    registrations,
)


async def remove_worktree(
    repository: Repository, root: Path, attempt_id: str, *, lose_nested: bool = False
) -> SavedWork | None:
    """Save what the worktree holds, then remove it; None where it is gone already.

    No process of the attempt may be left. Raises UnsavedWork where repositories within it hold
    work that is nowhere else, unless `lose_nested` says that it may be lost.
    """
    check_attempt_id(attempt_id)
    root = await asyncio.to_thread(root.resolve)
    saved = None
    worktree = await find_worktree(repository, root, attempt_id)
    if worktree is not None:
        if not lose_nested:
            await check_nothing_nested(worktree)
        saved = await save_work(worktree)
    async with repository_lock(repository.common_dir):
        if worktree is None:
            await _save_head_of_gone(repository, root, attempt_id)
        await asyncio.to_thread(_remove, repository.common_dir, root, attempt_id)
    return saved


async def prune_worktrees(repository: Repository, root: Path) -> list[str]:
    """Forget worktrees whose folder is gone; name their attempts. Delete what a crash left.

    Only what we made, under our root: the user's own worktrees are the user's.
    """
    root = await asyncio.to_thread(root.resolve)
    async with repository_lock(repository.common_dir):
        await asyncio.to_thread(_clear_unfinished, repository.common_dir, root)
        gone = await asyncio.to_thread(_gone, repository.common_dir, root)
        for path in gone:
            await _save_head_of_gone(repository, root, path.name)
            await asyncio.to_thread(_remove, repository.common_dir, root, path.name)
        await asyncio.to_thread(_sweep, root)
    return sorted(path.name for path in gone)


async def _save_head_of_gone(repository: Repository, root: Path, attempt_id: str) -> None:
    for folder, path in registrations(repository.common_dir):
        if path == root / attempt_id:
            await save_lost_head(repository, folder, attempt_id)


def _remove(common_dir: Path, root: Path, attempt_id: str) -> None:
    path = root / attempt_id
    aside = root / f"{REMOVED_PREFIX}{attempt_id}"
    remove_folder(aside)
    registered = [folder for folder, at in registrations(common_dir) if at == path]
    there = path.is_dir() and not path.is_symlink()
    made_by_us = making_file(path).exists() or any((at / MARK_FILE).exists() for at in registered)
    # A folder we did not make is not ours to delete; `create_worktree` says so too.
    if there and not (registered and made_by_us):
        return
    if there:
        path.rename(aside)
    for folder in registered:
        remove_folder(folder)
    remove_folder(aside)
    making_file(path).unlink(missing_ok=True)


def _gone(common_dir: Path, root: Path) -> list[Path]:
    """The paths of our worktrees whose folder is gone."""
    # With the root away, as an unmounted disk is, nothing can be said about what it holds.
    if not root.is_dir():
        return []
    return [
        path
        for folder, path in registrations(common_dir)
        if path.parent == root and (folder / MARK_FILE).exists() and not path.exists()
    ]


def _clear_unfinished(common_dir: Path, root: Path) -> None:
    """Take away what a crash left in the middle of making a worktree."""
    for _, path in list(registrations(common_dir)):
        if path.parent == root and making_file(path).exists():
            cleared(common_dir, path)


def _sweep(root: Path) -> None:
    """Delete what removals left that did not come to their end."""
    for aside in root.glob(f"{REMOVED_PREFIX}*"):
        remove_folder(aside)
