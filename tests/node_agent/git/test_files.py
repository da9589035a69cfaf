"""Files listed and read, with the same outcome from a worktree and from a commit."""

import os
import stat
import threading
from pathlib import Path

import pytest
import pytest_asyncio

from node_agent.git.errors import (
    BinaryFile,
    FileError,
    FileTooLarge,
    InvalidInput,
    NotADirectory,
    NotAFile,
    OutsideWorktree,
    PathNotFound,
    WorktreeGone,
)
from node_agent.git.files import list_files, read_file
from node_agent.git.path_text import to_text
from node_agent.git.sources import Source, find_source
from node_agent.git.worktree_removal import remove_worktree
from tests.node_agent.git.attempts import commit, make_worktree, write
from tests.node_agent.git.repositories import ATTEMPT, Sample, git

ODD = [b"with space", b"new\nline", b"-dash", b"caf\xe9", b"\xc3\xbc", b"*", b"back\\slash", b":x"]
MIB = 1024 * 1024


@pytest_asyncio.fixture(params=["worktree", "branch", "saved"])
async def source(request: pytest.FixtureRequest, sample: Sample, root: Path) -> Source:
    """The same files, to be read from each place an attempt can be read from."""
    repository, worktree = await make_worktree(sample, root)
    files: dict[str, str | bytes] = {
        "src/deep/file": "deep\n",
        "binary": b"\0\1",
        "large": b"0123456789" * (MIB // 10 + 100),
        "exact": b"x" * MIB,
        "empty": "",
    }
    for name in ODD:
        write(worktree, b"odd/" + name, b"in " + name)
    (worktree.path / "link").symlink_to("src/deep/file")
    (worktree.path / "folder").symlink_to("src")
    (worktree.path / "src/up").symlink_to("../README")
    (worktree.path / "out").symlink_to("../../secret")
    (worktree.path / "absolute").symlink_to("/etc/passwd")
    (worktree.path / "loop").symlink_to("loop")
    (root / "secret").write_text("secret")
    if request.param == "saved":
        for name, content in files.items():
            write(worktree, name, content)
    else:
        commit(worktree, "work", files)
    if request.param != "worktree":
        await remove_worktree(repository, root, ATTEMPT)
    found = await find_source(repository, root, attempt_id=ATTEMPT, branch=worktree.branch)
    assert found.kind == request.param
    return found


@pytest.mark.asyncio
async def test_folders_are_listed(source: Source) -> None:
    """Names in order, with kind and size; git's own folder is not among them."""
    found = await list_files(source)
    assert [(entry.name, entry.kind, entry.size) for entry in found.entries] == [
        ("README", "file", 6),
        ("absolute", "symlink", None),
        ("binary", "file", 2),
        ("empty", "file", 0),
        ("exact", "file", MIB),
        ("folder", "symlink", None),
        ("large", "file", 10 * (MIB // 10 + 100)),
        ("link", "symlink", None),
        ("loop", "symlink", None),
        ("odd", "directory", None),
        ("out", "symlink", None),
        ("src", "directory", None),
    ]
    assert (found.source, found.next) == (source.kind, None)
    odd = await list_files(source, path="odd/")
    assert [entry.name for entry in odd.entries] == [to_text(name) for name in sorted(ODD)]
    within = await list_files(source, path="folder/deep")
    assert [entry.name for entry in within.entries] == ["file"]


@pytest.mark.asyncio
async def test_pages_continue_each_other(source: Source) -> None:
    """Page by page, every entry once, in order; names that are no text too."""
    names: list[str] = []
    after = None
    while True:
        page = await list_files(source, path="odd", after=after, limit=3)
        assert len(page.entries) <= 3
        names += [entry.name for entry in page.entries]
        after = page.next
        if after is None:
            break
    assert names == [to_text(name) for name in sorted(ODD)]
    with pytest.raises(InvalidInput):
        await list_files(source, limit=0)


@pytest.mark.asyncio
async def test_files_are_read(source: Source) -> None:
    """Bytes as they are, by every name, also by a link that stays within."""
    for name in ODD:
        found = await read_file(source, path=f"odd/{to_text(name)}")
        assert found.content == b"in " + name
    for path in ("link", "folder/deep/file", "src/deep/file"):
        found = await read_file(source, path=path)
        assert (found.content, found.size, found.whole) == (b"deep\n", 5, True)
        assert (found.binary, found.source) == (False, source.kind)
    assert (await read_file(source, path="src/up")).content == b"hello\n"
    assert (await read_file(source, path="empty")).content == b""


@pytest.mark.asyncio
async def test_ranges_and_limits(source: Source) -> None:
    """A whole file up to 1 MiB; of a larger one, ranges."""
    assert len((await read_file(source, path="exact")).content) == MIB
    with pytest.raises(FileTooLarge) as raised:
        await read_file(source, path="large")
    assert raised.value.code == "too_large"
    found = await read_file(source, path="large", first_byte=MIB - 5, bytes_max=12)
    start = (MIB - 5) % 10
    expected = (b"0123456789" * 3)[start : start + 12]
    assert (found.content, found.first_byte, found.whole) == (expected, MIB - 5, False)
    end = await read_file(source, path="large", first_byte=found.size - 3, bytes_max=100)
    assert end.content == b"789"
    assert (await read_file(source, path="empty", first_byte=10, bytes_max=5)).content == b""


@pytest.mark.asyncio
async def test_binary_files(source: Source) -> None:
    """What is no text is said, and refused where text was asked for."""
    found = await read_file(source, path="binary")
    assert (found.binary, found.media_type) == (True, "application/octet-stream")
    with pytest.raises(BinaryFile) as raised:
        await read_file(source, path="binary", text_only=True)
    assert raised.value.code == "binary"


@pytest.mark.parametrize(
    ("path", "error", "code"),
    [
        ("nowhere", PathNotFound, "not_found"),
        ("loop", PathNotFound, "not_found"),
        ("src/nowhere/x", PathNotFound, "not_found"),
        ("README/x", NotADirectory, "not_a_directory"),
        ("src", NotAFile, "not_found"),
        ("folder", NotAFile, "not_found"),
        ("", NotAFile, "not_found"),
        ("out", OutsideWorktree, "outside"),
        ("absolute", OutsideWorktree, "outside"),
        ("../secret", OutsideWorktree, "outside"),
        ("/etc/passwd", OutsideWorktree, "outside"),
        (".git", OutsideWorktree, "outside"),
        ("src/.GIT/config", OutsideWorktree, "outside"),
    ],
)
@pytest.mark.asyncio
async def test_refusals(source: Source, path: str, error: type[FileError], code: str) -> None:
    """Each way a path can be wrong has its type and its code."""
    with pytest.raises(error) as raised:
        await read_file(source, path=path)
    assert raised.value.code == code
    if code == "outside":
        with pytest.raises(error):
            await list_files(source, path=path)


@pytest.mark.asyncio
async def test_listing_a_file(source: Source) -> None:
    """A file is no folder."""
    for path in ("README", "link"):
        with pytest.raises(NotADirectory):
            await list_files(source, path=path)


@pytest.mark.asyncio
async def test_pipes_sockets_and_devices(sample: Sample, root: Path) -> None:
    """What is no file is listed as something else, and refused at once when read."""
    repository, worktree = await make_worktree(sample, root)
    os.mkfifo(worktree.path / "pipe")
    (worktree.path / "zero").symlink_to("/dev/zero")
    os.mknod(worktree.path / "socket", stat.S_IFSOCK | 0o600)
    source = await find_source(repository, root, attempt_id=ATTEMPT, branch=worktree.branch)
    kinds = {entry.name: entry.kind for entry in (await list_files(source)).entries}
    assert (kinds["pipe"], kinds["socket"], kinds["zero"]) == ("other", "other", "symlink")
    for path in ("pipe", "socket"):
        with pytest.raises(NotAFile):
            await read_file(source, path=path)
    with pytest.raises(OutsideWorktree):
        await read_file(source, path="zero")


@pytest.mark.asyncio
async def test_repositories_within(sample: Sample, root: Path, tmp_path: Path) -> None:
    """A submodule is called one; its files can be read where they are, its `.git` nowhere."""
    Sample.make(tmp_path / "library")
    sample.git("submodule", "add", "-q", str(tmp_path / "library"), "lib")
    sample.commit("submodule", {})
    repository, worktree = await make_worktree(sample, root)
    git(worktree.path, "submodule", "update", "-q", "--init")
    source = await find_source(repository, root, attempt_id=ATTEMPT, branch=worktree.branch)
    kinds = {entry.name: entry.kind for entry in (await list_files(source)).entries}
    assert kinds["lib"] == "submodule"
    assert (await read_file(source, path="lib/README")).content == b"hello\n"
    with pytest.raises(OutsideWorktree):
        await read_file(source, path="lib/.git")
    await remove_worktree(repository, root, ATTEMPT)
    source = await find_source(repository, root, attempt_id=ATTEMPT, branch=worktree.branch)
    kinds = {entry.name: entry.kind for entry in (await list_files(source)).entries}
    assert kinds["lib"] == "submodule"
    assert (await list_files(source, path="lib")).entries == []
    with pytest.raises(PathNotFound):
        await read_file(source, path="lib/README")


@pytest.mark.asyncio
async def test_file_swapped_while_it_is_read(sample: Sample, root: Path, tmp_path: Path) -> None:
    """Between a file and a link to a secret, a reader sees the file or a refusal."""
    repository, worktree = await make_worktree(sample, root)
    source = await find_source(repository, root, attempt_id=ATTEMPT, branch=worktree.branch)
    secret = tmp_path / "secret"
    secret.write_bytes(b"S" * 100_000)
    target = worktree.path / "file"
    stop = threading.Event()

    def swap() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            beside = worktree.path / "beside"
            if number % 2:
                beside.symlink_to(secret)
            else:
                beside.write_bytes(b"f" * 100_000)
            beside.rename(target)
            stop.wait(0.0002)  # let the reader in

    target.write_bytes(b"f" * 100_000)
    agent = threading.Thread(target=swap)
    agent.start()
    seen = set()
    try:
        for _ in range(200):
            try:
                seen.add((await read_file(source, path="file")).content[:1])
            except FileError as error:
                seen.add(error.code.encode())
    finally:
        stop.set()
        agent.join()
    assert seen <= {b"f", b"outside", b"not_found"}


@pytest.mark.asyncio
async def test_worktree_gone_while_it_is_looked_at(sample: Sample, root: Path) -> None:
    """A folder deleted between two calls is a typed error."""
    repository, worktree = await make_worktree(sample, root)
    source = await find_source(repository, root, attempt_id=ATTEMPT, branch=worktree.branch)
    worktree.path.rename(root / "elsewhere")
    (root / ATTEMPT).symlink_to("elsewhere")
    with pytest.raises(WorktreeGone):
        await list_files(source)


@pytest.mark.asyncio
async def test_large_folder_is_paged_in_bounded_memory(sample: Sample, root: Path) -> None:
    """Thousands of entries come in pages that follow each other."""
    repository, worktree = await make_worktree(sample, root)
    (worktree.path / "many").mkdir()
    for number in range(1500):
        (worktree.path / f"many/{number:05}").touch()
    source = await find_source(repository, root, attempt_id=ATTEMPT, branch=worktree.branch)
    names: list[str] = []
    page = await list_files(source, path="many", limit=1000)
    while True:
        names += [entry.name for entry in page.entries]
        if page.next is None:
            break
        page = await list_files(source, path="many", limit=1000, after=page.next)
    assert names == [f"{number:05}" for number in range(1500)]
