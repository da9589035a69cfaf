"""What an attempt changed, file by file, as it streams out of git.

A worktree is compared with all that is in it, new files too, through a copy of its index: nothing
is written to it, and no lock of it taken. A patch is text to be read: bytes that are not UTF-8
stand in it as U+FFFD. Names of files are written as `path_text` says.
"""

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from node_agent.git.beneath import path_parts
from node_agent.git.command import stream_git
from node_agent.git.diff_format import ChangedFile, FilesReader, patch_sections
from node_agent.git.errors import GitFailed, InvalidInput, PathNotFound
from node_agent.git.path_text import to_text
from node_agent.git.sources import Source
from node_agent.git.temporary_index import temporary_index
from node_agent.git.untracked import untracked_paths
from node_agent.git.worktrees import Worktree
from protocol.work_requests import FileDiff

#: Of one file's patch; what is longer is stated as too large, and its counts still stand.
PATCH_BYTES_MAX: Final = 1024 * 1024
CONTEXT_LINES_MAX: Final = 100_000
#: A file larger than this is not compared line by line, whatever is in it.
COMPARED_BYTES_MAX: Final = 32 * 1024 * 1024
#: Paths given to git as arguments; beyond it the folder that was asked for is given instead.
_PATHSPECS_MAX: Final = 200
#: A file that goes away while it is being listed has git start over.
_TRIES_MAX: Final = 3
_OPTIONS: Final = (
    "--raw",
    "--numstat",
    "-z",
    "-r",
    "--full-index",
    "--find-renames",
    "--find-copies",
    "-l1000",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    # Only another commit of a submodule; to look further git would run in it, by its settings.
    "--ignore-submodules=dirty",
    "--submodule=short",
)


class DiffHead(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared: from the commit `base` to the work on top of `head`, read at `source`."""

    base: str
    head: str | None
    source: str


async def diff_pieces(
    source: Source,
    *,
    base: str,
    context: int = 3,
    path: str | None = None,
    stat: bool = False,
    patch_bytes_max: int = PATCH_BYTES_MAX,
) -> AsyncGenerator[DiffHead | FileDiff, None]:
    """Yield what is compared, then each changed file, in git's order.

    `base` is a commit (see `diff_base`). `path` keeps one file, or a folder's. At most one file's
    patch is held at a time. Close the iterator to stop early.
    """
    check_context(context)
    within = wanted_path(path)
    yield DiffHead(base=base, head=source.head, source=source.kind)
    async with comparison_of(source, base) as comparison:
        paths: Sequence[bytes] = ()
        if within is not None:
            files = await comparison.files()
            paths = _pathspecs(files, within)
            if not paths:
                return
        options = () if stat else ("--patch", f"--unified={context}")
        pieces = comparison.run(options, paths, patch_bytes_max)
        async with contextlib.aclosing(pieces):
            async for file in pieces:
                if within is None or is_within(file.file, within):
                    yield await comparison.described(file)


def check_context(context: int) -> None:
    """Raise InvalidInput for a number of context lines that git would not take."""
    if not 0 <= context <= CONTEXT_LINES_MAX:
        raise InvalidInput("context", str(context), f"Use 0 to {CONTEXT_LINES_MAX} lines.")


@dataclass(frozen=True)
class _Patched:
    """A changed file with its patch, as far as it may be held."""

    file: ChangedFile
    patch: bytes | None
    too_large: bool = False


class Comparison:
    """One git command that compares, and the environment it runs in. Made by `comparison_of`."""

    def __init__(self, source: Source, command: Sequence[str], env: dict[str, str]) -> None:
        self._source = source
        self._command = command
        self._env = source.place.environment | env

    @contextlib.asynccontextmanager
    async def _output(
        self, options: Sequence[str], paths: Sequence[bytes]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        if self._source.worktree is not None:
            self._source.worktree.check_there()
        async with stream_git(
            self._source.place.path,
            "-c",
            f"core.bigFileThreshold={COMPARED_BYTES_MAX}",
            self._command[0],
            *_OPTIONS,
            *options,
            *self._command[1:],
            "--",
            *paths,
            env=self._env,
        ) as pieces:
            yield pieces

    async def files(self) -> list[ChangedFile]:
        """All changed files, without their patches."""
        reader = FilesReader()
        async with self._output((), ()) as pieces:
            async for piece in pieces:
                reader.feed(piece)
        return reader.files

    async def patches_of(
        self, files: Sequence[ChangedFile], *, context: int
    ) -> AsyncGenerator[FileDiff, None]:
        """The given ones of the changed files with their patches, as far as they still are."""
        if not files:
            return
        wanted = {file.path for file in files}
        names = {name for file in files for name in (file.path, file.old_path) if name is not None}
        # Of very many, git reads all there are rather than a command line without end.
        paths = sorted(names) if len(names) <= _PATHSPECS_MAX else []
        pieces = self.run(("--patch", f"--unified={context}"), paths, PATCH_BYTES_MAX)
        async with contextlib.aclosing(pieces):
            async for one in pieces:
                if one.file.path in wanted:
                    yield await self.described(one)

    async def run(
        self, options: Sequence[str], paths: Sequence[bytes], patch_bytes_max: int
    ) -> AsyncGenerator[_Patched, None]:
        """The changed files one by one, each with its patch."""
        reader = FilesReader()
        async with self._output(options, paths) as pieces:
            async for piece in pieces:
                reader.feed(piece)
                if reader.rest is not None:
                    break
            files = [file for file in reader.files if not file.untouched]
            if not options:
                for file in files:
                    yield _Patched(file, None)
                return
            patched = _patched(files, patch_sections(reader.rest or b"", pieces), patch_bytes_max)
            async with contextlib.aclosing(patched):
                async for one in patched:
                    yield one

    async def described(self, patched: _Patched) -> FileDiff:
        """A file as callers see it."""
        file = patched.file
        too_large = patched.too_large or (file.binary and await self._is_huge(file))
        patch = patched.patch
        return FileDiff(
            path=to_text(file.path),
            old_path=None if file.old_path is None else to_text(file.old_path),
            kind="mode" if _only_mode(file, patch) else file.kind,
            additions=file.additions,
            deletions=file.deletions,
            binary=file.binary,
            patch=None if too_large or patch is None else patch.decode("utf-8", "replace"),
            too_large=too_large,
            old_mode=file.old_mode,
            new_mode=file.new_mode,
        )

    async def _is_huge(self, file: ChangedFile) -> bool:
        """Whether a file is called binary for its size alone."""
        sizes = []
        ids = [name for name in (file.old_id, file.new_id) if name.strip("0")]
        if ids:
            found = await self._source.repository.git(
                "cat-file",
                "--batch-check=%(objectsize)",
                stdin="".join(f"{name}\n" for name in ids).encode(),
            )
            sizes = [int(line) for line in found.stdout.split() if line.isdigit()]
        if self._source.worktree is not None:
            with contextlib.suppress(OSError):
                place = self._source.worktree.path / os.fsdecode(file.path)
                sizes.append(place.lstat().st_size)
        return max(sizes, default=0) > COMPARED_BYTES_MAX


@contextlib.asynccontextmanager
async def comparison_of(source: Source, base: str) -> AsyncIterator[Comparison]:
    """Prepare to compare the work at `source`, as it is now, with the commit `base`."""
    if source.worktree is None or source.kind != "worktree":
        yield Comparison(source, ("diff-tree", base, source.commit or base), {})
        return
    async with temporary_index(source.worktree, keep_objects=False) as env:
        await _note_new_files(source.worktree, env)
        yield Comparison(source, ("diff-index", base), env)


async def _note_new_files(worktree: Worktree, env: dict[str, str]) -> None:
    """Have the copied index know all files there are, with no content read or written."""
    unmerged = await worktree.git("ls-files", "--unmerged", "-z", env=env)
    conflicts = {entry.partition(b"\t")[2] for entry in unmerged.stdout.split(b"\0") if entry}
    if conflicts:
        # In conflict, a file is compared as it stands: as if it were new to the index.
        await worktree.git(
            "update-index", "--force-remove", "-z", "--stdin", stdin=_listed(conflicts), env=env
        )
    for tries_left in reversed(range(_TRIES_MAX)):
        files = (await untracked_paths(worktree)).files
        there = {path for path in conflicts if _is_file(worktree, path)}
        try:
            if there or files:
                await worktree.git(
                    "add",
                    "--intent-to-add",
                    "--sparse",
                    "--force",
                    "--pathspec-from-file=-",
                    "--pathspec-file-nul",
                    stdin=_listed({*files, *there}),
                    env=env,
                )
            break
        except GitFailed:
            if not tries_left:
                raise
    # Exit code 1: there are changes, which is what we are here for.
    await worktree.git("update-index", "-q", "--refresh", env=env, exit_codes=(0, 1))


async def _patched(
    files: list[ChangedFile], sections: AsyncIterator[tuple[bool, bytes]], patch_bytes_max: int
) -> AsyncGenerator[_Patched, None]:
    """Give each file its part of the patches; git writes them in the files' order."""
    at = -1
    text = bytearray()
    too_large = unknown = False
    async for begins, part in sections:
        # A file that changed its type has two patches: the old one's end, the new one's beginning.
        if begins and not (at >= 0 and files[at].beginning == part):
            following = next(
                (index for index in range(at + 1, len(files)) if files[index].beginning == part),
                None,
            )
            # No file we report: only its time had changed.
            unknown = following is None
            if following is not None:
                for index in range(max(at, 0), following):
                    own = index == at
                    yield _Patched(files[index], bytes(text) if own else b"", own and too_large)
                at, too_large = following, False
                text.clear()
        if unknown or too_large:
            continue
        text += part
        if len(text) > patch_bytes_max:
            too_large = True
            text.clear()
    for index in range(max(at, 0), len(files)):
        own = index == at
        yield _Patched(files[index], bytes(text) if own else b"", own and too_large)


def _only_mode(file: ChangedFile, patch: bytes | None) -> bool:
    """Whether a binary file changed its mode alone: then its patch names no contents."""
    return (
        file.letter == b"M"
        and file.binary
        and file.old_mode != file.new_mode
        and patch is not None
        and b"\nindex " not in patch
    )


def wanted_path(path: str | None) -> bytes | None:
    """Return the path a caller wants to see, from its text; None for all.

    Raises InvalidInput, and OutsideWorktree as reading a file there does.
    """
    if path is None:
        return None
    try:
        return b"/".join(path_parts(path)) or None
    except PathNotFound as error:
        raise InvalidInput("path", path, "Give a path as the diff itself names it.") from error


def is_within(file: ChangedFile, within: bytes) -> bool:
    """Whether a changed file is, or was, at a path or below it."""
    return any(_is_at(name, within) for name in (file.path, file.old_path))


def _is_at(name: bytes | None, within: bytes) -> bool:
    return name is not None and (name == within or name.startswith(within + b"/"))


def _pathspecs(files: Iterable[ChangedFile], within: bytes) -> list[bytes]:
    """What git must look at to show the files within a path as it does in the whole diff."""
    paths: dict[bytes, None] = {}
    for file in files:
        names = [name for name in (file.path, file.old_path) if name is not None]
        if any(_is_at(name, within) for name in names):
            paths.update(dict.fromkeys(names))
    if len(paths) <= _PATHSPECS_MAX:
        return list(paths)
    outside = [name for name in paths if not _is_at(name, within)]
    return [within, *outside[:_PATHSPECS_MAX]]


def _listed(paths: Iterable[bytes]) -> bytes:
    return b"".join(path + b"\0" for path in sorted(paths))


def _is_file(worktree: Worktree, path: bytes) -> bool:
    place = worktree.path / os.fsdecode(path)
    return place.is_symlink() or place.is_file()
