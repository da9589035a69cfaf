"""Push, judged by plain git on a real bare remote."""

from pathlib import Path

import msgspec
import pytest

from node_agent.git.repository import open_repository
from node_agent.git.worktree_removal import remove_worktree
from protocol.branch_requests import PushReply, PushRequest
from protocol.errors import ErrorCode
from tests.node_agent.git.repositories import git
from tests.node_agent.operations.branching import Branching
from tests.node_agent.operations.conftest import StoredNode


class Remote:
    """A bare repository, and the log of what was pushed to it."""

    def __init__(self, at: Branching, folder: Path) -> None:
        self.at = at
        self.path = folder / "the remote.git"
        git(folder, "clone", "-q", "--bare", "--single-branch", str(at.sample.path), str(self.path))
        git(self.path, "config", "core.logAllRefUpdates", "always")
        at.sample.git("remote", "add", "origin", f"file://{self.path}")

    @property
    def head(self) -> str:
        return git(
            self.path, "rev-parse", "-q", "--verify", f"refs/heads/{self.at.branch}", check=False
        )

    @property
    def pushes(self) -> int:
        log = self.path / "logs" / "refs" / "heads" / self.at.branch
        return len(log.read_text().splitlines()) if log.exists() else 0

    def overtake(self) -> str:
        """Somebody else pushes a commit of their own to the branch."""
        tree = git(self.path, "rev-parse", "main^{tree}")
        commit = git(self.path, "commit-tree", "-m", "theirs", "-p", "main", tree)
        git(self.path, "update-ref", f"refs/heads/{self.at.branch}", commit)
        return commit


@pytest.mark.asyncio
async def test_push_and_push_again(stored: StoredNode, tmp_path: Path) -> None:
    """The commit stands at the remote; again is no second push; uncommitted work stays here."""
    at = await Branching.make(stored)
    assert (await at.refused("push")).code is ErrorCode.NO_REMOTE
    remote = Remote(at, tmp_path)
    at.write("draft", "x")
    reply = await at.ask("push", expected_head=at.first)
    assert remote.head == at.first == reply.after
    assert (reply.before, reply.ref) == (None, f"refs/heads/{at.branch}")
    again = await at.ask("push")
    assert (again.before, remote.pushes) == (at.first, 1)
    second = at.commit("two", {"two": "2"})
    assert (await at.ask("push")).before == at.first
    assert (remote.head, remote.pushes) == (second, 2)
    status = await at.ask("branch_status")
    assert (status.remote_ahead, status.remote_behind, status.remote_head) == (0, 0, second)


@pytest.mark.asyncio
async def test_force_is_for_the_remote_head_that_was_seen(
    stored: StoredNode, tmp_path: Path
) -> None:
    """Another's commits are overwritten only by force, and only as they were seen."""
    at = await Branching.make(stored)
    remote = Remote(at, tmp_path)
    theirs = remote.overtake()
    error = await at.refused("push")
    assert (error.code, error.details["remote_head"]) == (ErrorCode.FORCE_PUSH_REQUIRED, theirs)
    blind = await at.refused("push", PushRequest(force=True))
    assert (blind.code, blind.details["field"]) == (ErrorCode.INVALID, "expected_remote_head")
    stale = PushRequest(force=True, expected_remote_head=at.first)
    error = await at.refused("push", stale)
    assert (error.code, error.details["head"]) == (ErrorCode.EXPECTED_HEAD_MOVED, theirs)
    assert remote.head == theirs
    await at.ask("push", PushRequest(force=True, expected_remote_head=theirs))
    assert remote.head == at.first


@pytest.mark.asyncio
async def test_what_a_remote_refuses(stored: StoredNode, tmp_path: Path) -> None:
    """A hook of the remote, one that is gone, and a program for an address: said, not run."""
    at = await Branching.make(stored)
    remote = Remote(at, tmp_path)
    hook = remote.path / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho protected >&2\nexit 1\n")
    hook.chmod(0o755)
    error = await at.refused("push")
    assert error.code is ErrorCode.PUSH_REJECTED
    assert "protected" in error.details["stderr"]
    assert remote.head == ""
    marker = tmp_path / "ran"
    at.sample.git("remote", "set-url", "origin", f"ext::sh -c touch% {marker}")
    assert (await at.refused("push")).code is ErrorCode.GIT_FAILED
    at.sample.git("remote", "set-url", "origin", f"file://{remote.path}")
    hook.unlink()
    for name in ("receivepack", "uploadpack"):
        at.sample.git("config", f"remote.origin.{name}", f"touch {marker};")
    local = Path(at.sample.path / ".git" / "hooks" / "pre-push")
    local.write_text(f"#!/bin/sh\ntouch {marker}\n")
    local.chmod(0o755)
    await at.ask("push")
    assert remote.head == at.first
    assert not marker.exists()


@pytest.mark.asyncio
async def test_a_push_cut_short_is_settled_by_the_remote(
    stored: StoredNode, tmp_path: Path
) -> None:
    """Arrived: the same reply and one push. Not begun: pushed once. Overtaken: unknown."""
    at = await Branching.make(stored)
    remote = Remote(at, tmp_path)
    known = await at.crash("push", acted=True)
    reply = msgspec.msgpack.decode(known.reply or b"", type=PushReply)
    assert (reply.before, reply.after, remote.pushes) == (None, at.first, 1)
    second = at.commit("two", {"two": "2"})
    known = await at.crash("push", acted=False)
    assert known.reply is not None
    assert (remote.head, remote.pushes) == (second, 2)
    at.commit("three", {"three": "3"})
    known = await at.crash("push", acted=False, age_s=3600)
    assert (known.error and known.error.code) == "deadline_passed"
    known = await at.crash("push", acted=False, meanwhile=remote.overtake)
    assert (known.error and known.error.code) == "unknown"
    at.sample.git("remote", "set-url", "origin", f"file://{tmp_path}/gone.git")
    at.sample.git("remote", "set-url", "origin", f"file://{remote.path}")
    theirs = remote.head
    request = PushRequest(force=True, expected_remote_head=theirs)

    def away() -> None:
        at.sample.git("remote", "set-url", "origin", f"file://{tmp_path}/gone.git")

    known = await at.crash("push", request, acted=True, meanwhile=away)
    assert (known.error and known.error.code) == "unknown"
    assert known.error
    assert known.error.details["planned"]["before"] == theirs


@pytest.mark.asyncio
async def test_a_push_cut_short_goes_to_the_remote_it_was_for(
    stored: StoredNode, tmp_path: Path
) -> None:
    """Whatever remote the branch is pushed to by now: another was never meant."""
    at = await Branching.make(stored)
    remote = Remote(at, tmp_path)
    other = tmp_path / "other.git"
    git(tmp_path, "init", "-q", "--bare", str(other))

    def change_remote() -> None:
        at.sample.git("remote", "add", "other", f"file://{other}")
        at.sample.git("config", "remote.pushDefault", "other")

    known = await at.crash("push", acted=False, meanwhile=change_remote)
    reply = msgspec.msgpack.decode(known.reply or b"", type=PushReply)
    assert (reply.remote, remote.head) == ("origin", at.first)
    assert git(other, "for-each-ref") == ""


@pytest.mark.asyncio
async def test_push_without_the_worktree(stored: StoredNode, tmp_path: Path) -> None:
    """From the branch alone, and said so."""
    at = await Branching.make(stored)
    remote = Remote(at, tmp_path)
    repository = await open_repository(at.sample.path)
    await remove_worktree(repository, stored.worktrees_dir.resolve(), stored.attempt.id)
    reply = await at.ask("push")
    assert (reply.source, remote.head) == ("branch", at.first)
