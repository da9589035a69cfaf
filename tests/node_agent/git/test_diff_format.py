"""Git's diff output read in pieces of any size."""

import asyncio
import itertools
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.git import diff_format
from node_agent.git.diff_format import FilesReader, patch_sections, quoted
from node_agent.git.errors import OutputTooLarge
from tests.node_agent.git.repositories import git

OUTPUT = (
    b":100644 100755 aaa bbb M\0x y\0"
    b":100644 100644 aaa aaa R100\0old\nname\0:new\0"
    b":000000 100644 000 ccc A\0004\t5\tz\0"
    b":100644 100644 aaa 000 M\0touched\0"
    b"3\t1\tx y\0" + b"0\t0\t\0old\nname\0:new\0" + b"-\t-\t4\t5\tz\0"
    b"\0diff --git a/x y b/x y\nrest\0\0"
)


@given(st.lists(st.integers(0, len(OUTPUT)), max_size=8))
def test_records_are_read_however_they_are_cut(cuts: list[int]) -> None:
    """Where the output is cut makes no difference, in names with every kind of character."""
    reader = FilesReader()
    places = sorted({0, len(OUTPUT), *cuts})
    rest = b""
    for start, end in itertools.pairwise(places):
        if reader.rest is None:
            reader.feed(OUTPUT[start:end])
        else:
            rest += OUTPUT[start:end]
    assert (reader.rest or b"") + rest == b"diff --git a/x y b/x y\nrest\0\0"
    assert [(file.path, file.old_path, file.kind) for file in reader.files] == [
        (b"x y", None, "modified"),
        (b":new", b"old\nname", "renamed"),
        (b"4\t5\tz", None, "added"),
        (b"touched", None, "modified"),
    ]
    assert [(file.additions, file.deletions, file.binary) for file in reader.files] == [
        (3, 1, False),
        (0, 0, False),
        (0, 0, True),
        (0, 0, False),
    ]
    assert [file.untouched for file in reader.files] == [False, False, False, True]


PATCHES = (
    b"diff --git a/1 b/1\n@@ -1 +1 @@\n-diff --git x\n+y\ndiff --git a/2 b/2\nend without newline"
)


@given(st.lists(st.integers(0, len(PATCHES)), max_size=8))
def test_patches_are_parted_however_they_are_cut(cuts: list[int]) -> None:
    """Each file's first line is marked once; nothing is lost or added."""
    places = sorted({0, len(PATCHES), *cuts})
    pieces = [PATCHES[start:end] for start, end in itertools.pairwise(places)]
    parts = asyncio.run(_sections(pieces))
    assert b"".join(text for _, text in parts) == PATCHES
    assert [text for begins, text in parts if begins] == [
        b"diff --git a/1 b/1\n",
        b"diff --git a/2 b/2\n",
    ]


def test_endless_line_is_passed_on_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line longer than may be held is no beginning, wherever its parts are cut."""
    monkeypatch.setattr(diff_format, "_LINE_BYTES_MAX", 10)
    pieces = [b"diff --git a b\n+0123456789ab", b"diff --git x\ndiff --git c d\n"]
    parts = asyncio.run(_sections(pieces))
    assert [text for begins, text in parts if begins] == [
        b"diff --git a b\n",
        b"diff --git c d\n",
    ]
    assert b"".join(text for _, text in parts) == b"".join(pieces)


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A diff of more files than anyone reads ends with an error that says so."""
    monkeypatch.setattr(diff_format, "FILES_MAX", 3)
    with pytest.raises(OutputTooLarge):
        FilesReader().feed(OUTPUT)


def test_names_are_quoted_as_git_quotes_them(tmp_path: Path) -> None:
    """For every byte a name can hold, the first line we expect is the one git writes."""
    git(tmp_path, "init", "-q")
    names = [b"n" + bytes([byte]) for byte in range(1, 256) if byte != ord("/")]
    names += [b" ", b"a b", b"-x"]
    for name in names:
        subprocess.run([b"touch", b"--", name], cwd=tmp_path, check=True)
    git(tmp_path, "add", "-A")
    shown = subprocess.run(
        ["git", "-c", "core.quotePath=false", "diff", "--cached", "--no-color"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    lines = {line for line in shown.stdout.split(b"\n") if line.startswith(b"diff --git")}
    expected = {b"diff --git " + quoted(b"a/" + n) + b" " + quoted(b"b/" + n) for n in names}
    assert lines == expected


async def _sections(pieces: list[bytes]) -> list[tuple[bool, bytes]]:
    async def given_pieces() -> AsyncIterator[bytes]:
        for piece in pieces:
            if piece:
                yield piece

    return [part async for part in patch_sections(b"", given_pieces())]
