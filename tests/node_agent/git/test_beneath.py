"""Opening beneath a folder: by the kernel's rule and by our own, with the same outcome."""

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node_agent.git import beneath
from node_agent.git.beneath import is_git_folder, open_beneath, open_root, path_parts
from node_agent.git.errors import (
    FileError,
    NotADirectory,
    NotAFile,
    OutsideWorktree,
    PathNotFound,
)

Read = Callable[[str], bytes]


@pytest.fixture(params=["openat2", "walk"])
def top(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with links of every kind; opened by the kernel's rule, or without it."""
    if request.param == "walk":
        monkeypatch.setattr(beneath, "_openat2", lambda *_: None)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    (top / "file").write_text("top")
    (top / "a/b/file").write_text("deep")
    (top / "link").symlink_to("a/b/file")
    (top / "folder link").symlink_to("a/")
    (top / "a/b/up").symlink_to("../../file")
    (top / "a/self").symlink_to(".")
    (top / "out").symlink_to("../outside/secret")
    (top / "out folder").symlink_to("../outside")
    (top / "absolute").symlink_to(tmp_path / "outside/secret")
    (top / "a/b/far").symlink_to("../../../outside/secret")
    (top / "dangling").symlink_to("nowhere")
    (top / "loop").symlink_to("loop")
    (top / "nested/.git").mkdir(parents=True)
    (top / "nested/.git/config").write_text("password")
    (top / "config").symlink_to("nested/.git/config")
    (top / "git folder").symlink_to("nested/.git")
    return top


@pytest.fixture
def read(top: Path) -> Iterator[Read]:
    """Read a file beneath the folder."""
    root = open_root(top)

    def reading(path: str) -> bytes:
        opened = open_beneath(root, path_parts(path), path, folder=False)
        try:
            return os.read(opened, 100)
        finally:
            os.close(opened)

    yield reading
    os.close(root)


def test_kernel_has_the_rule_here(tmp_path: Path) -> None:
    """Where these tests run on Linux 5.6 or newer, the first half of them tries openat2 itself."""
    (tmp_path / "file").write_text("x")
    root = open_root(tmp_path)
    try:
        opened = beneath._openat2(root, b"file", os.O_RDONLY | os.O_CLOEXEC)
        if opened is None:
            pytest.skip("could not get openat2: this kernel or sandbox does not have it")
        os.close(opened)
        with pytest.raises(OSError) as raised:
            beneath._openat2(root, b"gone", os.O_RDONLY | os.O_CLOEXEC)
        assert raised.value.errno == errno.ENOENT
        (tmp_path / "link").symlink_to("/etc/passwd")
        assert beneath._openat2(root, b"link", os.O_RDONLY | os.O_CLOEXEC) is None
    finally:
        os.close(root)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("file", b"top"),
        ("./file", b"top"),
        ("a//b/./file", b"deep"),
        ("link", b"deep"),
        ("folder link/b/file", b"deep"),
        ("a/b/up", b"top"),
        ("a/self/self/b/up", b"top"),
        ("folder link/self/b/file", b"deep"),
    ],
)
def test_what_lies_beneath_is_read(read: Read, path: str, content: bytes) -> None:
    """Files, and links that stay within."""
    assert read(path) == content


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "..",
        "../outside/secret",
        "a/../file",
        "out",
        "out folder/secret",
        "absolute",
        "a/b/far",
        ".git",
        "nested/.git/config",
        "nested/.GIT/config",
        "nested/.git./x",
        "config",
        "git folder/config",
        ".git\u200d/x",
        "git~1/config",
        ".git::$INDEX_ALLOCATION/x",
    ],
)
def test_what_leads_out_is_refused(read: Read, path: str) -> None:
    """Upwards, absolute, by a link, or into git's own folder however it is spelt or reached."""
    with pytest.raises(OutsideWorktree) as raised:
        read(path)
    assert raised.value.code == "outside"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("nowhere", PathNotFound),
        ("a/nowhere/file", PathNotFound),
        ("dangling", PathNotFound),
        ("loop", PathNotFound),
        ("loop/x", PathNotFound),
        ("x" * 300, PathNotFound),
        ("x/" * 3000, PathNotFound),
        ("a\0b", PathNotFound),
        ("\udce9", PathNotFound),
        ("file/x", NotADirectory),
        ("link/x", NotADirectory),
    ],
)
def test_what_is_not_there(read: Read, path: str, error: type[FileError]) -> None:
    """Each has its type, and none shows more of the disk than that."""
    with pytest.raises(error):
        read(path)


def test_file_as_a_folder(top: Path) -> None:
    """A folder is asked for and a file is there, or a link to one."""
    root = open_root(top)
    try:
        for path in ("file", "link", "a/b/up"):
            with pytest.raises(NotADirectory):
                open_beneath(root, path_parts(path), path, folder=True)
        for path in ("", ".", "a/self", "folder link"):
            os.close(open_beneath(root, path_parts(path), path, folder=True))
    finally:
        os.close(root)


def test_pipes_and_sockets_do_not_block(top: Path, read: Read) -> None:
    """A pipe with no writer opens at once; a socket is refused."""
    os.mkfifo(top / "pipe")
    assert read("pipe") == b""
    os.mknod(top / "socket", stat.S_IFSOCK | 0o600)
    with pytest.raises(NotAFile):
        read("socket")


def test_folder_swapped_for_a_link_meanwhile(top: Path, read: Read, tmp_path: Path) -> None:
    """While an agent swaps a folder for a link that leads out, no read ever comes from outside."""
    (tmp_path / "outside/b").mkdir()
    (tmp_path / "outside/b/file").write_text("secret")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (top / "a").rename(top / "aside")
            (top / "a").symlink_to(tmp_path / "outside")
            (top / "a").unlink()
            (top / "a").symlink_to("../outside")
            (top / "a").unlink()
            (top / "aside").rename(top / "a")
            stop.wait(0.0002)  # let the reader in

    agent = threading.Thread(target=swap)
    agent.start()
    try:
        outcomes = set()
        for _ in range(500):
            try:
                outcomes.add(read("a/b/file"))
            except FileError as error:
                outcomes.add(error.code.encode())
    finally:
        stop.set()
        agent.join()
    assert outcomes <= {b"deep", b"outside", b"not_found", b"not_a_directory"}
    assert read("a/b/file") == b"deep"


@pytest.mark.parametrize(
    "name", [".git", ".GIT", ".Git", ".git ", ".git. .", "GIT~1", ".g\u200cit"]
)
def test_spellings_of_gits_folder(name: str) -> None:
    """What some file system takes for `.git` is `.git`."""
    assert is_git_folder(name.encode())


@pytest.mark.parametrize("name", [".gitignore", ".github", "git", "a.git", ".gi", ".gitx", "git~2"])
def test_names_like_gits_folder(name: str) -> None:
    """What only looks a little like it is a file like any other."""
    assert not is_git_folder(name.encode())


def test_no_descriptor_is_left_open(top: Path, read: Read) -> None:
    """Whatever the outcome, all that was opened on the way is closed."""
    before = len(list(Path("/dev/fd").iterdir()))
    for path in (
        "a/b/file",
        "link",
        "a/self/self/b/up",
        "config",
        "out",
        "loop",
        "nowhere",
        "file/x",
    ):
        try:
            read(path)
        except FileError:
            continue
    assert len(list(Path("/dev/fd").iterdir())) == before
