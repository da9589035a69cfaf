"""What an attempt changed: every kind of change, every kind of name, from every source."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from node_agent.git.diff import DiffHead, diff_pieces
from node_agent.git.errors import GitFailed, InvalidInput, OutsideWorktree, WorktreeGone
from node_agent.git.path_text import to_text
from node_agent.git.saved_work import save_work
from node_agent.git.sources import Source, find_source
from node_agent.git.untracked import note_copied
from node_agent.git.worktree_removal import remove_worktree
from protocol.work_requests import FileDiff
from tests.node_agent.git.attempts import commit, make_sparse, make_worktree, write
from tests.node_agent.git.repositories import ATTEMPT, Sample, git
from tests.node_agent.git.whole_diffs import whole_diff

BRANCH = "skep/do-it-deadbeef"


async def source_of(sample: Sample, root: Path) -> Source:
    """An attempt just begun, to be read from its worktree."""
    repository, _ = await make_worktree(sample, root)
    return await find_source(repository, root, attempt_id=ATTEMPT, branch=BRANCH)


def by_path(diff: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The files of a diff by their paths, each there once."""
    found = {file["path"]: file for file in diff["files"]}
    assert len(found) == len(diff["files"])
    return found


async def changes(source: Source, base: str, **options: Any) -> dict[str, dict[str, Any]]:
    """The files a diff has."""
    return by_path(await whole_diff(source, base=base, **options))


@pytest.mark.asyncio
async def test_every_kind_of_change(sample: Sample, root: Path) -> None:
    """Added, modified, deleted, renamed, copied, type, mode: each is called what it is."""
    text = "".join(f"line {number}\n" for number in range(50))
    base = sample.commit(
        "more",
        {"move": text, "gone": "gone\n", "exec": "run\n", "blob": b"\0\1", "type": "x\n"}
        | {"source": text.replace("line", "row"), "both": text.replace("line", "other")},
    )
    source = await source_of(sample, root)
    assert source.worktree is not None
    worktree = source.worktree
    write(worktree, "README", "hello\nworld\n")
    (worktree.path / "gone").unlink()
    (worktree.path / "move").rename(worktree.path / "moved to")
    (worktree.path / "exec").chmod(0o755)
    write(worktree, "blob", b"\0\2\0")
    (worktree.path / "type").unlink()
    (worktree.path / "type").symlink_to("README")
    write(worktree, "source", text.replace("line", "row") + "end\n")
    write(worktree, "source copy", text.replace("line", "row"))
    (worktree.path / "both").rename(worktree.path / "both2")
    write(worktree, "both2", text.replace("line", "other") + "end\n")
    write(worktree, "new", "1\n2\n3\n")
    diff = await whole_diff(source, base=base)
    assert (diff["base"], diff["head"], diff["source"]) == (base, base, "worktree")
    found = by_path(diff)
    summary = {
        path: (file["kind"], file["old_path"], file["additions"], file["deletions"])
        for path, file in found.items()
    }
    assert summary == {
        "README": ("modified", None, 1, 0),
        "blob": ("modified", None, 0, 0),
        "both2": ("renamed", "both", 1, 0),
        "exec": ("mode", None, 0, 0),
        "gone": ("deleted", None, 0, 1),
        "moved to": ("renamed", "move", 0, 0),
        "new": ("added", None, 3, 0),
        "source": ("modified", None, 1, 0),
        "source copy": ("copied", "source", 0, 0),
        "type": ("type_changed", None, 1, 1),
    }
    assert [path for path, file in found.items() if file["binary"]] == ["blob"]
    assert (found["exec"]["old_mode"], found["exec"]["new_mode"]) == ("100644", "100755")
    assert (found["type"]["old_mode"], found["type"]["new_mode"]) == ("100644", "120000")
    assert found["README"]["patch"].endswith("@@ -1 +1,2 @@\n hello\n+world\n")
    assert found["type"]["patch"].count("diff --git a/type b/type\n") == 2
    assert "+README" in found["type"]["patch"]
    assert "Binary files a/blob and b/blob differ" in found["blob"]["patch"]
    assert not any(file["too_large"] for file in found.values())


@pytest.mark.asyncio
async def test_patches_apply(sample: Sample, root: Path) -> None:
    """All patches together turn the base into the work."""
    base = sample.commit("more", {"a b": "1\n2\n3\n", "ü/-x": "x\n", "no newline": "x"})
    source = await source_of(sample, root)
    assert source.worktree is not None
    write(source.worktree, "a b", "1\n2\n4\n")
    (source.worktree.path / "ü/-x").rename(source.worktree.path / 'q"uo\nte')
    write(source.worktree, "no newline", "y")
    write(source.worktree, "src/code.py", "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n")
    write(source.worktree, "\ttab", "tab\n")
    diff = await whole_diff(source, base=base)
    whole = "".join(file["patch"] for file in diff["files"])
    subprocess.run(["git", "apply"], cwd=sample.path, input=whole.encode(), check=True)
    for name in ("a b", 'q"uo\nte', "no newline", "src/code.py", "\ttab"):
        expected = (source.worktree.path / name).read_bytes()
        assert (sample.path / name).read_bytes() == expected


ODD_NAMES = [
    b" ",
    b"with space",
    b'quote"quote',
    b"'single'",
    b"new\nline",
    b"tab\tand\\backslash",
    b"\\xe9",
    b"\xc3\xbcnicode",
    b"caf\xe9",
    b"\xff\xfe\n",
    b"-dash",
    b"--cached",
    b":(top)magic",
    b":",
    b"*",
    b"[a]",
    b"a -> b",
    b"deep/-n/\xe9/x",
    b"\x7f\x01\x1b[31m",
    b"diff --git a",
    "日本語".encode(),
]


@pytest.mark.parametrize("state", ["untracked", "staged", "committed", "changed"])
@pytest.mark.asyncio
async def test_odd_names(sample: Sample, root: Path, state: str) -> None:
    """Names of every kind come out faithfully, each with its own patch."""
    if state == "changed":
        for name in ODD_NAMES:
            sample.write(name, "before\n")
        sample.commit("odd", {})
    source = await source_of(sample, root)
    assert source.worktree is not None
    for name in ODD_NAMES:
        write(source.worktree, name, b"in " + name.replace(b"\n", b"") + b"\n")
    if state in {"staged", "committed"}:
        git(source.worktree.path, "add", "-A")
    if state == "committed":
        git(source.worktree.path, "commit", "-q", "-m", "odd")
    found = await changes(source, sample.head)
    assert set(found) == {to_text(name) for name in ODD_NAMES}
    for name in ODD_NAMES:
        file = found[to_text(name)]
        assert file["kind"] == ("modified" if state == "changed" else "added")
        line = (b"+in " + name.replace(b"\n", b"") + b"\n").decode("utf-8", "replace")
        assert line in file["patch"]
        alone = await changes(source, sample.head, path=to_text(name))
        assert list(alone) == [to_text(name)]


@pytest.mark.asyncio
async def test_diff_writes_nothing(sample: Sample, root: Path) -> None:
    """The worktree, its index and git's folder are the same before and after."""
    sample = Sample(sample.path.rename(sample.path.with_name('a:b "c" \\d\n')))
    source = await source_of(sample, root)
    assert source.worktree is not None
    write(source.worktree, "README", "changed\n")
    write(source.worktree, "new", "new\n")
    os.utime(source.worktree.path / "src/code.py", (1, 1))

    def everything() -> dict[str, tuple[int, bytes]]:
        places = [source.repository.common_dir, root]
        return {
            str(path): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
            for place in places
            for path in [place, *place.rglob("*")]
        }

    before = everything()
    found = await changes(source, sample.head)
    assert list(found) == ["README", "new"]
    assert everything() == before


@pytest.mark.asyncio
async def test_held_index_lock_does_not_stop_a_diff(sample: Sample, root: Path) -> None:
    """An agent in the middle of a commit is neither waited for nor disturbed."""
    source = await source_of(sample, root)
    assert source.worktree is not None
    write(source.worktree, "new", "new\n")
    (source.worktree.git_dir / "index.lock").touch()
    assert list(await changes(source, sample.head)) == ["new"]
    assert (source.worktree.git_dir / "index.lock").exists()


@pytest.mark.asyncio
async def test_ignored_copied_and_nested_are_left_out(sample: Sample, root: Path) -> None:
    """No build output, none of the user's copied files, no clone within."""
    sample.commit("ignore", {".gitignore": "*.o\n"})
    source = await source_of(sample, root)
    assert source.worktree is not None
    write(source.worktree, "x.o", "x")
    write(source.worktree, ".env", "secret")
    note_copied(source.worktree, frozenset({b".env"}))
    Sample.make(source.worktree.path / "clone")
    git(source.worktree.path, "init", "-q", "empty")
    assert await changes(source, sample.head) == {}
    assert list(await changes(source, sample.head, stat=True)) == []


@pytest.mark.asyncio
async def test_files_in_conflict_show_as_they_stand(sample: Sample, root: Path) -> None:
    """A file in conflict is compared with its marks; one deleted on one side is shown as it is."""
    base = sample.commit("more", {"both": "x\n", "theirs": "x\n", "ours": "x\n"})
    source = await source_of(sample, root)
    assert source.worktree is not None
    worktree = source.worktree
    (worktree.path / "ours").unlink()
    commit(worktree, "ours", {"both": "ours\n", "theirs": "mine\n"})
    (sample.path / "theirs").unlink()
    sample.commit("theirs", {"both": "theirs\n", "ours": "changed\n"})
    git(worktree.path, "merge", "main", check=False)
    assert git(worktree.path, "ls-files", "-u")
    found = await changes(source, base)
    assert "+<<<<<<< HEAD" in found["both"]["patch"]
    assert found["theirs"]["kind"] == found["ours"]["kind"] == "modified"
    (worktree.path / "both").unlink()
    assert (await changes(source, base))["both"]["kind"] == "deleted"


@pytest.mark.asyncio
async def test_large_patches_are_named_not_sent(sample: Sample, root: Path) -> None:
    """A file over the limit is stated as too large; its neighbours are whole."""
    source = await source_of(sample, root)
    assert source.worktree is not None
    for name in ("a", "c", "e"):
        write(source.worktree, name, "small\n")
    write(source.worktree, "b", "x" * 3_000_000)
    write(source.worktree, "d", "line\n" * 20_000)
    found = await changes(source, sample.head, patch_bytes_max=100_000)
    assert [path for path, file in found.items() if file["too_large"]] == ["b", "d"]
    assert found["b"]["patch"] is None
    assert (found["b"]["additions"], found["d"]["additions"]) == (1, 20_000)
    for name in ("a", "c", "e"):
        assert found[name]["patch"].endswith("+small\n")


@pytest.mark.asyncio
async def test_huge_files_are_not_compared(
    sample: Sample, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a size git does not even read a file; that is stated too, for every source."""
    monkeypatch.setattr("node_agent.git.diff.COMPARED_BYTES_MAX", 100_000)
    source = await source_of(sample, root)
    assert source.worktree is not None
    write(source.worktree, "huge", "line\n" * 40_000)
    write(source.worktree, "small", b"\0")
    found = await changes(source, sample.head)
    assert (found["huge"]["too_large"], found["small"]["too_large"]) == (True, False)
    await remove_worktree(source.repository, root, ATTEMPT)
    saved = await find_source(source.repository, root, attempt_id=ATTEMPT, branch=BRANCH)
    found = await changes(saved, sample.head)
    assert (found["huge"]["too_large"], found["small"]["too_large"]) == (True, False)


@pytest.mark.asyncio
async def test_submodules(sample: Sample, root: Path, tmp_path: Path) -> None:
    """A submodule's new commit is one change; changes within it are the submodule's own."""
    Sample.make(tmp_path / "library")
    sample.git("submodule", "add", "-q", str(tmp_path / "library"), "lib")
    base = sample.commit("submodule", {})
    source = await source_of(sample, root)
    assert source.worktree is not None
    git(source.worktree.path, "submodule", "update", "-q", "--init")
    library = Sample(source.worktree.path / "lib")
    library.write("README", "changed\n")
    assert await changes(source, base) == {}
    head = library.commit("work", {})
    found = await changes(source, base)
    assert list(found) == ["lib"]
    assert found["lib"]["new_mode"] == "160000"
    assert f"+Subproject commit {head}\n" in found["lib"]["patch"]


@pytest.mark.asyncio
async def test_filter_by_path_keeps_renames(sample: Sample, root: Path) -> None:
    """One file's diff is the same alone as in the whole; a folder's is all that is in it."""
    text = "".join(f"line {number}\n" for number in range(50))
    base = sample.commit("more", {"old/name": text, "old/other": "x\n"})
    source = await source_of(sample, root)
    assert source.worktree is not None
    write(source.worktree, "new/name", text + "end\n")
    (source.worktree.path / "old/name").unlink()
    write(source.worktree, "new/more", "x\n")
    write(source.worktree, "newer", "x\n")
    whole = await changes(source, base)
    assert whole["new/name"]["old_path"] == "old/name"
    assert await changes(source, base, path="new/name") == {"new/name": whole["new/name"]}
    assert list(await changes(source, base, path="new/")) == ["new/more", "new/name"]
    assert list(await changes(source, base, path="old")) == ["new/name"]
    assert list(await changes(source, base, path="./new//./name")) == ["new/name"]
    for everything in ("", ".", "./"):
        assert await changes(source, base, path=everything) == whole
    assert await changes(source, base, path="nowhere") == {}
    for outside in ("..", "new/../../x", "/etc", ".git/config"):
        with pytest.raises(OutsideWorktree):
            await changes(source, base, path=outside)


@pytest.mark.asyncio
async def test_counts_alone(sample: Sample, root: Path) -> None:
    """With `stat` there are counts and no patches."""
    source = await source_of(sample, root)
    assert source.worktree is not None
    write(source.worktree, "README", "a\nb\n")
    found = await changes(source, sample.head, stat=True)
    file = found["README"]
    assert (file["additions"], file["deletions"], file["patch"]) == (2, 1, None)


@pytest.mark.asyncio
async def test_context_lines(sample: Sample, root: Path) -> None:
    """As many lines around a change as were asked for; a number git cannot take is refused."""
    text = "".join(f"{number}\n" for number in range(100))
    base = sample.commit("more", {"a": text})
    source = await source_of(sample, root)
    assert source.worktree is not None
    write(source.worktree, "a", text.replace("50\n", "fifty\n"))
    for context in (0, 3, 10):
        patch = (await changes(source, base, context=context))["a"]["patch"]
        assert patch.count("\n ") == 2 * context
    with pytest.raises(InvalidInput) as raised:
        await whole_diff(source, base=base, context=-1)
    assert raised.value.field == "context"


@pytest.mark.asyncio
async def test_users_settings_do_not_change_it(sample: Sample, root: Path) -> None:
    """Neither the user's taste in diffs nor a program the repository names has a say."""
    source = await source_of(sample, root)
    assert source.worktree is not None
    write(source.worktree, "README", "hello\nworld\n")
    write(source.worktree, "src/code.py", "print(2)\n")
    expected = await changes(source, sample.head)
    for name, value in {
        "diff.external": "touch ran",
        "diff.noprefix": "true",
        "diff.mnemonicPrefix": "true",
        "diff.context": "0",
        "diff.renames": "false",
        "diff.orderFile": "/dev/null",
        "color.ui": "always",
        "color.diff": "always",
        "diff.x.textconv": "touch ran; cat",
        "diff.x.command": "touch ran",
        "diff.colorMoved": "zebra",
        "core.quotePath": "true",
        "diff.relative": "true",
    }.items():
        sample.git("config", name, value)
    write(source.worktree, ".git-attributes", "")
    sample.write(".git/info/attributes", "* diff=x\n")
    (source.worktree.path / ".git-attributes").unlink()
    assert await changes(source, sample.head) == expected
    assert not (source.worktree.path / "ran").exists()


@pytest.mark.asyncio
async def test_line_ends_and_encodings(sample: Sample, root: Path) -> None:
    """Carriage returns stay in the patch; bytes that are not UTF-8 are shown as such."""
    source = await source_of(sample, root)
    assert source.worktree is not None
    write(source.worktree, "dos", b"a\r\nb\r\n")
    write(source.worktree, "latin", b"caf\xe9\n")
    found = await changes(source, sample.head)
    assert found["dos"]["patch"].endswith("+a\r\n+b\r\n")
    assert found["latin"]["patch"].endswith("+caf\ufffd\n")


@pytest.mark.asyncio
async def test_branch_and_saved_work_when_the_worktree_is_gone(sample: Sample, root: Path) -> None:
    """A clean worktree leaves its branch; a dirty one leaves its saved work, new files too."""
    base = sample.head
    source = await source_of(sample, root)
    assert source.worktree is not None
    head = commit(source.worktree, "work", {"a": "a\n"})
    await remove_worktree(source.repository, root, ATTEMPT)
    source = await find_source(source.repository, root, attempt_id=ATTEMPT, branch=BRANCH)
    diff = await whole_diff(source, base=base)
    assert (diff["source"], diff["head"], list(by_path(diff))) == ("branch", head, ["a"])
    source = await source_of(sample, root)
    assert source.worktree is not None
    write(source.worktree, "untracked", "u\n")
    write(source.worktree, "a", "b\n")
    in_worktree = (await whole_diff(source, base=base))["files"]
    await remove_worktree(source.repository, root, ATTEMPT)
    source = await find_source(source.repository, root, attempt_id=ATTEMPT, branch=BRANCH)
    diff = await whole_diff(source, base=base)
    assert (diff["source"], diff["head"]) == ("saved", head)
    for file in (*in_worktree, *diff["files"]):
        # Blobs a worktree only has as files have no name in the patch's index line.
        lines = file["patch"].splitlines()
        file["patch"] = [line for line in lines if not line.startswith("index ")]
    assert diff["files"] == in_worktree


@pytest.mark.asyncio
async def test_old_saved_work_gives_way_to_a_branch_that_moved(sample: Sample, root: Path) -> None:
    """Saved work counts only while the branch is where it was."""
    source = await source_of(sample, root)
    assert source.worktree is not None
    write(source.worktree, "a", "1\n")
    await save_work(source.worktree)
    head = commit(source.worktree, "work", {"a": "2\n"})
    await remove_worktree(source.repository, root, ATTEMPT)
    source = await find_source(source.repository, root, attempt_id=ATTEMPT, branch=BRANCH)
    assert (source.kind, source.commit) == ("branch", head)


@pytest.mark.asyncio
async def test_nothing_left(sample: Sample, root: Path) -> None:
    """Neither worktree, nor saved work, nor branch: the worktree is gone."""
    source = await source_of(sample, root)
    await remove_worktree(source.repository, root, ATTEMPT)
    sample.git("branch", "-D", BRANCH)
    with pytest.raises(WorktreeGone):
        await find_source(source.repository, root, attempt_id=ATTEMPT, branch=BRANCH)


@pytest.mark.asyncio
async def test_worktree_deleted_under_us_and_broken_repository(sample: Sample, root: Path) -> None:
    """What disappears between two steps is a typed error, never a diff of something else."""
    source = await source_of(sample, root)
    assert source.worktree is not None
    shutil.rmtree(source.worktree.path)
    with pytest.raises(WorktreeGone):
        await whole_diff(source, base=sample.head)
    source = await source_of(sample, root)
    with pytest.raises(GitFailed):
        await whole_diff(source, base="1" * 40)


@pytest.mark.asyncio
async def test_pieces_stream_and_stop_early(
    sample: Sample, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that leaves after the first file leaves neither a process nor a file behind."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    source = await source_of(sample, root)
    assert source.worktree is not None
    for number in range(300):
        write(source.worktree, f"f{number:03}", "line\n" * 2000)
    pieces = diff_pieces(source, base=sample.head)
    head = await anext(pieces)
    assert isinstance(head, DiffHead)
    first = await anext(pieces)
    assert isinstance(first, FileDiff)
    assert first.path == "f000"
    await pieces.aclose()
    assert list(temporary.iterdir()) == []


@pytest.mark.asyncio
async def test_agent_at_work_does_not_stop_it(sample: Sample, root: Path) -> None:
    """Files that come and go while the diff is made are shown or not, and do no harm."""
    source = await source_of(sample, root)
    assert source.worktree is not None
    worktree = source.worktree
    stop = asyncio.Event()

    async def churn() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            write(worktree, f"tmp{number % 7}", "x\n")
            (worktree.path / f"tmp{(number + 3) % 7}").unlink(missing_ok=True)
            await asyncio.sleep(0.001)

    agent = asyncio.create_task(churn())
    try:
        for _ in range(5):
            write(worktree, "steady", "x\n")
            try:
                found = await changes(source, sample.head)
            except GitFailed:
                continue  # a file went away while git read it: said, not hidden
            assert "steady" in found
    finally:
        stop.set()
        await agent
    assert "steady" in await changes(source, sample.head)


@pytest.mark.asyncio
async def test_work_outside_a_sparse_checkout_is_shown(sample: Sample, root: Path) -> None:
    """New and changed files where the sparse checkout shows nothing are shown, and no others."""
    make_sparse(sample)
    source = await source_of(sample, root)
    assert source.worktree is not None
    write(source.worktree, "far/new", "new\n")
    write(source.worktree, "src/code.py", "print(2)\n")
    found = await changes(source, sample.head)
    assert {path: file["kind"] for path, file in found.items()} == {
        "far/new": "added",
        "src/code.py": "modified",
    }
