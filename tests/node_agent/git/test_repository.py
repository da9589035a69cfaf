"""Opening checkouts of every kind, and what their names mean."""

import os
from pathlib import Path

import pytest

from node_agent.git.commit_identity import commit_identity
from node_agent.git.errors import BranchMissing, InvalidRefName, NoCommits, NotARepository
from node_agent.git.repository import (
    default_branch,
    open_repository,
    project_name,
    repository_identity,
    resolve_base,
)
from tests.node_agent.git.repositories import Sample, git


@pytest.mark.asyncio
async def test_open_finds_the_top_from_a_folder_below(sample: Sample) -> None:
    """A path within a checkout opens the checkout."""
    repository = await open_repository(sample.path / "src")
    assert repository.path == sample.path
    assert repository.git_dir == repository.common_dir == sample.path / ".git"
    assert (repository.head, repository.branch, repository.bare) == (sample.head, "main", False)


@pytest.mark.asyncio
async def test_folders_that_are_no_repository(sample: Sample, tmp_path: Path) -> None:
    """No folder, a folder without git, a file, and git's own folder are refused."""
    (tmp_path / "plain").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "gone", tmp_path / "plain", tmp_path / "file", sample.path / ".git"):
        with pytest.raises(NotARepository) as raised:
            await open_repository(path)
        assert raised.value.code == "not_a_repository"
        assert raised.value.hint


@pytest.mark.asyncio
async def test_repository_without_commits(tmp_path: Path) -> None:
    """There is nothing to branch from; the hint says what to do."""
    git(tmp_path, "init", "-q", "empty")
    with pytest.raises(NoCommits) as raised:
        await open_repository(tmp_path / "empty")
    assert "first commit" in raised.value.hint


@pytest.mark.asyncio
async def test_unborn_head_beside_other_branches(sample: Sample) -> None:
    """A checkout that stands on a new orphan branch still has commits to start from."""
    first = sample.head
    sample.git("checkout", "-q", "--orphan", "fresh")
    repository = await open_repository(sample.path)
    assert (repository.head, repository.branch) == (None, "fresh")
    assert await default_branch(repository) == "main"
    assert await resolve_base(repository, None) == first
    assert await repository_identity(repository) == f"root:{first}"


@pytest.mark.asyncio
async def test_detached_head(sample: Sample) -> None:
    """A detached checkout opens; its default branch is found by name, else it has none."""
    sample.git("checkout", "-q", "--detach")
    repository = await open_repository(sample.path)
    assert (repository.head, repository.branch) == (sample.head, None)
    assert await default_branch(repository) == "main"
    sample.git("branch", "-m", "main", "work")
    assert await default_branch(repository) is None
    assert await resolve_base(repository, None) == sample.head


@pytest.mark.asyncio
async def test_shallow_bare_and_linked(sample: Sample, tmp_path: Path) -> None:
    """A shallow clone, a bare one, and a second worktree of a user are checkouts too."""
    sample.commit("second", {"README": "more\n"})
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{sample.path}", "shallow")
    git(tmp_path, "clone", "-q", "--bare", str(sample.path), "bare.git")
    sample.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "linked"))
    shallow = await open_repository(tmp_path / "shallow")
    bare = await open_repository(tmp_path / "bare.git")
    linked = await open_repository(tmp_path / "linked")
    assert shallow.head == bare.head == linked.head == sample.head
    assert bare.bare
    assert bare.path == bare.git_dir == tmp_path / "bare.git"
    assert linked.branch == "side"
    assert linked.common_dir == sample.path / ".git"
    assert linked.git_dir.parent == sample.path / ".git" / "worktrees"


@pytest.mark.asyncio
async def test_default_branch_is_the_origins_own(sample: Sample, tmp_path: Path) -> None:
    """The origin's HEAD decides, whatever is checked out."""
    sample.git("checkout", "-q", "-b", "trunk")
    git(tmp_path, "clone", "-q", str(sample.path), "clone")
    clone = Sample(tmp_path / "clone")
    clone.git("checkout", "-q", "-b", "feature")
    assert await default_branch(await open_repository(clone.path)) == "trunk"


@pytest.mark.asyncio
async def test_default_branch_by_setting_then_by_name(sample: Sample) -> None:
    """The user's own default, then main, then master, then what is checked out."""
    sample.git("checkout", "-q", "-b", "feature")
    sample.git("branch", "stem")
    repository = await open_repository(sample.path)
    sample.git("config", "init.defaultBranch", "stem")
    assert await default_branch(repository) == "stem"
    sample.git("config", "init.defaultBranch", "nowhere")
    assert await default_branch(repository) == "main"
    sample.git("branch", "-m", "main", "master")
    assert await default_branch(repository) == "master"
    sample.git("branch", "-m", "master", "other")
    assert await default_branch(repository) == "feature"


@pytest.mark.asyncio
async def test_identity_is_the_origin_else_the_first_commit(sample: Sample, tmp_path: Path) -> None:
    """Clones of one origin share an identity; so do clones that have none but the same start."""
    first = sample.head
    sample.commit("second", {"a": "a"})
    repository = await open_repository(sample.path)
    assert await repository_identity(repository) == f"root:{first}"
    assert await project_name(repository) == "project"
    git(tmp_path, "clone", "-q", str(sample.path), "clone")
    clone = await open_repository(tmp_path / "clone")
    assert await repository_identity(clone) == f"root:{first}"
    sample.git("remote", "add", "origin", "git@Example.org:team/tool.git")
    assert await repository_identity(repository) == "example.org/team/tool"
    assert await project_name(repository) == "tool"


@pytest.mark.asyncio
async def test_base_is_branch_remote_tag_or_commit(sample: Sample, tmp_path: Path) -> None:
    """Every way people name a start leads to its commit; a branch wins over a tag."""
    first = sample.head
    sample.git("tag", "-a", "-m", "t", "v1")
    second = sample.commit("second", {"a": "a"})
    sample.git("branch", "only-there", first)
    git(tmp_path, "clone", "-q", str(sample.path), "clone")
    clone = Sample(tmp_path / "clone")
    clone.git("branch", "v1", second)
    repository = await open_repository(clone.path)
    assert await resolve_base(repository, "main") == second
    assert await resolve_base(repository, "only-there") == first
    assert await resolve_base(repository, "origin/only-there") == first
    assert await resolve_base(repository, "v1") == second
    assert await resolve_base(repository, "refs/tags/v1") == first
    assert await resolve_base(repository, first) == first
    assert await resolve_base(repository, first[:8]) == first
    assert await resolve_base(repository, "HEAD") == second
    assert await resolve_base(repository, None) == second


@pytest.mark.asyncio
async def test_base_that_is_not_there(sample: Sample) -> None:
    """An unknown base and one that is no commit are missing; a bad name is refused by field."""
    repository = await open_repository(sample.path)
    blob = sample.git("rev-parse", "HEAD:README")
    for name in ("nowhere", "a" * 40, blob):
        with pytest.raises(BranchMissing) as raised:
            await resolve_base(repository, name)
        assert raised.value.code == "branch_missing"
    with pytest.raises(InvalidRefName) as refused:
        await resolve_base(repository, "--upload-pack=x")
    assert refused.value.field == "base_branch"


@pytest.mark.asyncio
async def test_repository_of_another_user_is_refused_with_a_way_out(sample: Sample) -> None:
    """Git's own protection holds for us too, and the hint names the setting that lifts it."""
    if os.getuid() != 0:
        pytest.skip("could not get a second user: only root can give a folder away")
    for path in [sample.path, *sample.path.rglob("*")]:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    with pytest.raises(NotARepository) as raised:
        await open_repository(sample.path)
    assert "safe.directory" in raised.value.hint


@pytest.mark.parametrize("home", [None, "", "/nonexistent"])
@pytest.mark.asyncio
async def test_no_home_folder(
    sample: Sample, monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    """A service without a home folder works with its repositories all the same."""
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home)
    repository = await open_repository(sample.path)
    assert await repository_identity(repository) == f"root:{repository.head}"
    found = await commit_identity(repository, setting=None, node_name="bee")
    assert found.name == "Skep on bee"
    await repository.git("commit", "--allow-empty", "-m", "x", env=found.environment)


@pytest.mark.asyncio
async def test_odd_paths_open(tmp_path: Path) -> None:
    """Spaces, quotes, newlines and leading dashes in a checkout's path do no harm."""
    sample = Sample.make(tmp_path / "-a 'b'\n\"c\" ü")
    repository = await open_repository(sample.path)
    assert repository.path == sample.path
    assert await resolve_base(repository, "main") == sample.head
