"""Files copied from the user's checkout into a worktree."""

import os
from pathlib import Path

import pytest

from node_agent.git import copied_files
from node_agent.git.copied_files import copy_files
from node_agent.git.errors import InvalidInput
from node_agent.git.repository import open_repository
from node_agent.git.saved_work import save_work
from node_agent.git.sources import find_source
from node_agent.git.untracked import copied_paths
from tests.node_agent.git.attempts import make_worktree, write
from tests.node_agent.git.repositories import ATTEMPT, Sample, git
from tests.node_agent.git.whole_diffs import whole_diff


@pytest.mark.asyncio
async def test_ignored_and_untracked_files_are_copied(sample: Sample, root: Path) -> None:
    """What the patterns name, with its mode, and nothing else."""
    sample.commit("ignore", {".gitignore": ".env\ncache/\n"})
    sample.write(".env", "secret").chmod(0o600)
    sample.write("run.local", "run").chmod(0o755)
    sample.write("a/b/.env", "deep")
    sample.write("cache/x/y", "cached")
    sample.write("other", "other")
    sample.write("odd \n\u00fc-[x]", "odd")
    before = sample.state()
    repository, worktree = await make_worktree(sample, root)
    patterns = [".env", "**/.env", "*.local", "cache", "odd*"]
    found = await copy_files(repository, worktree, patterns)
    assert set(found.copied) == {
        ".env",
        "a/b/.env",
        "cache/x/y",
        "odd \n\u00fc-[x]",
        "run.local",
    }
    assert found.skipped == []
    assert (worktree.path / ".env").stat().st_mode & 0o777 == 0o600
    assert (worktree.path / "run.local").stat().st_mode & 0o777 == 0o755
    assert (worktree.path / "a/b/.env").read_text() == "deep"
    assert not (worktree.path / "other").exists()
    assert sample.state() == before


@pytest.mark.asyncio
async def test_copies_are_no_work(sample: Sample, root: Path) -> None:
    """Copied files that are not ignored show in no diff, and are saved to no ref."""
    sample.write("local", "secret")
    repository, worktree = await make_worktree(sample, root)
    await copy_files(repository, worktree, ["local"])
    source = await find_source(repository, root, attempt_id=ATTEMPT, branch=worktree.branch)
    assert (await whole_diff(source, base=sample.head))["files"] == []
    assert await save_work(worktree) is None


@pytest.mark.asyncio
async def test_second_time_copies_nothing_again(sample: Sample, root: Path) -> None:
    """What is there stays; an agent's own file of that name stays the agent's."""
    sample.write("local", "user's")
    sample.write("mine", "user's")
    repository, worktree = await make_worktree(sample, root)
    write(worktree, "mine", "agent's")
    await copy_files(repository, worktree, ["local", "mine"])
    write(worktree, "local", "changed")
    found = await copy_files(repository, worktree, ["local", "mine"])
    assert found.copied == []
    assert (worktree.path / "local").read_text() == "changed"
    assert (worktree.path / "mine").read_text() == "agent's"
    assert copied_paths(worktree) == {b"local"}


@pytest.mark.asyncio
async def test_links_are_not_followed(sample: Sample, root: Path, tmp_path: Path) -> None:
    """Neither a link in the checkout nor one in the worktree leads a copy astray."""
    (tmp_path / "secret").write_text("secret")
    sample.write("into/file", "x")
    (sample.path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(sample.path / "pipe")
    repository, worktree = await make_worktree(sample, root)
    (tmp_path / "elsewhere").mkdir()
    (worktree.path / "into").symlink_to(tmp_path / "elsewhere")
    found = await copy_files(repository, worktree, ["link", "pipe", "into"])
    assert found.copied == []
    assert {path for path, _ in found.skipped} == {"link", "into/file"}
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert not (worktree.path / "link").exists()
    assert copied_paths(worktree) == frozenset()


@pytest.mark.asyncio
async def test_tracked_files_and_nested_repositories_stay(sample: Sample, root: Path) -> None:
    """A tracked file is the branch's, changed or not; a clone within is not copied."""
    sample.write("README", "changed")
    Sample.make(sample.path / "clone")
    repository, worktree = await make_worktree(sample, root)
    found = await copy_files(repository, worktree, ["README", "clone"])
    assert found.copied == []
    assert [path for path, _ in found.skipped] == ["clone/"]
    assert (worktree.path / "README").read_text() == "hello\n"


@pytest.mark.parametrize(
    "pattern",
    ["", "/", "/etc/passwd", "../x", "a/../../x", ".git/config", "x/.GIT/y", ":(top)x", "a\0"],
)
@pytest.mark.asyncio
async def test_patterns_that_lead_out_are_refused(sample: Sample, root: Path, pattern: str) -> None:
    """A pattern stays within the checkout and out of git's own folder."""
    repository, worktree = await make_worktree(sample, root)
    with pytest.raises(InvalidInput) as raised:
        await copy_files(repository, worktree, [pattern])
    assert raised.value.field == "copy_files"


@pytest.mark.asyncio
async def test_limits(sample: Sample, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many files and too many bytes are left behind, and named."""
    for number in range(5):
        sample.write(f"f{number}", "12345")
    repository, worktree = await make_worktree(sample, root)
    monkeypatch.setattr(copied_files, "BYTES_MAX", 12)
    found = await copy_files(repository, worktree, ["f*"])
    assert found.copied == ["f0", "f1"]
    assert [path for path, _ in found.skipped] == ["f2", "f3", "f4"]
    monkeypatch.setattr(copied_files, "BYTES_MAX", 1000)
    monkeypatch.setattr(copied_files, "FILES_MAX", 1)
    found = await copy_files(repository, worktree, ["f*"])
    assert found.copied == ["f2"]
    assert copied_paths(worktree) == {b"f0", b"f1", b"f2"}


@pytest.mark.asyncio
async def test_bare_repository_has_nothing_to_copy(
    sample: Sample, root: Path, tmp_path: Path
) -> None:
    """Without a checkout there are no files beside the tracked ones."""
    git(tmp_path, "clone", "-q", "--bare", str(sample.path), "bare.git")
    repository = await open_repository(tmp_path / "bare.git")
    _, worktree = await make_worktree(Sample(tmp_path / "bare.git"), root)
    assert (await copy_files(repository, worktree, [".env"])).copied == []
