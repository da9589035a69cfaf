"""What stands half done in a worktree: a rebase, a merge and their like, and files in conflict.

Only looks. Git says it by files in a worktree's git folder.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from node_agent.git.path_text import to_text
from node_agent.git.repository import Repository
from node_agent.git.worktrees import Worktree, registrations

#: In the order they are looked for: a rebase picks commits, and so leaves other signs as well.
_SIGNS: Final = (
    ("rebase", "rebase-merge"),
    ("am", "rebase-apply/applying"),
    ("rebase", "rebase-apply"),
    ("merge", "MERGE_HEAD"),
    ("cherry_pick", "CHERRY_PICK_HEAD"),
    ("revert", "REVERT_HEAD"),
    ("bisect", "BISECT_LOG"),
)
#: Where a rebase keeps the name of the branch it will move at its end.
_HEAD_NAMES: Final = ("rebase-merge/head-name", "rebase-apply/head-name")
_SEQUENCE: Final = "sequencer/todo"
_NAME_BYTES_MAX: Final = 4096


def unfinished(git_dir: Path) -> str | None:
    """Return what stands half done there; None where nothing does."""
    for what, sign in _SIGNS:
        if (git_dir / sign).exists():
            return what
    first = _beginning(git_dir / _SEQUENCE)
    if first is None:
        return None
    return "revert" if first.startswith(b"revert") else "cherry_pick"


def rebased_branches(common_dir: Path) -> Iterator[tuple[bytes, Path]]:
    """Yield the full names of branches that an unfinished rebase will move, and where it stands."""
    for folder in (common_dir, *(folder for folder, _ in registrations(common_dir))):
        for name in _HEAD_NAMES:
            if (ref := _beginning(folder / name)) is not None:
                yield ref.strip(), folder


async def unmerged_paths(place: Repository | Worktree) -> list[str]:
    """Return the files that are in conflict, in git's order."""
    listing = await place.git("ls-files", "--unmerged", "-z")
    names = (entry.partition(b"\t")[2] for entry in listing.stdout.split(b"\0") if entry)
    return [to_text(name) for name in dict.fromkeys(names)]


def _beginning(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(_NAME_BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError):
        return None
