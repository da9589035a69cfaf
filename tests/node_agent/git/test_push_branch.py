"""A branch brought to a real bare remote: made, moved forward, never forced."""

from pathlib import Path

import pytest

from node_agent.git.push_branch import push_branch
from node_agent.git.repository import open_repository
from protocol.errors import ErrorCode, OperationError
from tests.node_agent.git.repositories import Sample, git

BRANCH = "skep/do-it-deadbeef"


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """A checkout whose origin is a bare repository of this disk."""
    sample = Sample.make(tmp_path / "project")
    git(tmp_path, "init", "-q", "--bare", "origin.git")
    sample.git("remote", "add", "origin", str(tmp_path / "origin.git"))
    sample.git("checkout", "-q", "-b", BRANCH)
    return sample


def at(sample: Sample) -> str:
    """The commit of the remote's branch."""
    return git(sample.path.parent / "origin.git", "rev-parse", f"refs/heads/{BRANCH}")


@pytest.mark.asyncio
async def test_made_then_moved_forward(sample: Sample) -> None:
    """The remote's branch is made, moved, and left where it is there already; nothing else goes."""
    sample.git("tag", "-a", "-m", "x", "v1")
    sample.git("config", "push.followTags", "true")
    repository = await open_repository(sample.path)
    first = sample.head
    await push_branch(repository, BRANCH, first)
    assert at(sample) == first
    second = sample.commit("second", {"a": "1\n"})
    third = sample.commit("third", {"a": "2\n"})
    await push_branch(repository, BRANCH, second)
    assert at(sample) == second
    await push_branch(repository, BRANCH, third)
    await push_branch(repository, BRANCH, third)
    assert at(sample) == third
    refs = git(sample.path.parent / "origin.git", "for-each-ref", "--format=%(refname)")
    assert refs == f"refs/heads/{BRANCH}"


@pytest.mark.asyncio
async def test_never_forced(sample: Sample) -> None:
    """Where the remote has other commits it keeps them, also where settings ask for force."""
    repository = await open_repository(sample.path)
    sample.git("config", "remote.origin.push", "+refs/heads/*:refs/heads/*")
    base = sample.head
    theirs = sample.commit("theirs", {"b": "1\n"})
    await push_branch(repository, BRANCH, theirs)
    sample.git("reset", "-q", "--hard", base)
    for ours in (sample.commit("ours", {"b": "2\n"}), base):
        with pytest.raises(OperationError) as caught:
            await push_branch(repository, BRANCH, ours)
        assert caught.value.code is ErrorCode.FORCE_PUSH_REQUIRED
        assert at(sample) == theirs
    # What the remote has is not even known here.
    sample.git("update-ref", "-d", f"refs/remotes/origin/{BRANCH}")
    git(sample.path.parent, "clone", "-q", "-b", BRANCH, "origin.git", "other")
    other = Sample(sample.path.parent / "other")
    newest = other.commit("newest", {"c": "1\n"})
    other.git("push", "-q", "origin", BRANCH)
    with pytest.raises(OperationError) as caught:
        await push_branch(repository, BRANCH, base)
    assert caught.value.code is ErrorCode.FORCE_PUSH_REQUIRED
    assert at(sample) == newest


@pytest.mark.asyncio
async def test_refused_by_the_remote(sample: Sample) -> None:
    """What a hook of the remote says is passed on; a remote that is gone is git's failure."""
    hook = sample.path.parent / "origin.git" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'no pushes on Fridays' >&2\nexit 1\n")
    hook.chmod(0o755)
    repository = await open_repository(sample.path)
    with pytest.raises(OperationError) as caught:
        await push_branch(repository, BRANCH, sample.head)
    assert caught.value.code is ErrorCode.PUSH_REJECTED
    assert "no pushes on Fridays" in caught.value.details["stderr"]
    sample.git("remote", "set-url", "origin", "/nonesuch/x.git")
    with pytest.raises(OperationError) as caught:
        await push_branch(repository, BRANCH, sample.head)
    assert caught.value.code is ErrorCode.GIT_FAILED


@pytest.mark.asyncio
async def test_no_credentials(sample: Sample, tmp_path: Path) -> None:
    """A remote that asks who we are, and is told nothing, is a matter of credentials."""
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho 'git@x: Permission denied (publickey).' >&2\nexit 255\n")
    ssh.chmod(0o755)
    sample.git("config", "core.sshCommand", str(ssh))
    sample.git("remote", "set-url", "origin", "git@x.example:a/b.git")
    with pytest.raises(OperationError) as caught:
        await push_branch(await open_repository(sample.path), BRANCH, sample.head)
    assert (caught.value.code, bool(caught.value.hint)) == (ErrorCode.AUTH, True)
