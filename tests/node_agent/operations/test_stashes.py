"""Stash and stash pop, judged by the files and plain git."""

import msgspec
import pytest

from node_agent.git.untracked import note_copied
from protocol.branch_requests import StashReply, StashRequest
from protocol.errors import ErrorCode
from tests.node_agent.operations.branching import Branching
from tests.node_agent.operations.conftest import StoredNode


def busy(at: Branching) -> dict[str, str]:
    """Leave uncommitted work of every kind; return the files as they are."""
    at.write("README", "changed\n")
    at.write("staged.txt", "staged\n")
    at.git("add", "staged.txt")
    at.write("src/new \u00fc\n.txt", "new\n")
    (at.worktree.path / "src" / "code.py").unlink()
    at.write(".env", "SECRET=1\n")
    note_copied(at.worktree, frozenset({b".env"}))
    return files(at)


def files(at: Branching) -> dict[str, str]:
    """All files of the worktree but git's own."""
    top = at.worktree.path
    return {
        str(path.relative_to(top)): path.read_text()
        for path in sorted(top.rglob("*"))
        if path.is_file() and path.name != ".git"
    }


@pytest.mark.asyncio
async def test_there_and_back(stored: StoredNode) -> None:
    """All uncommitted work goes and comes back under a ref of its own; the user keeps theirs."""
    at = await Branching.make(stored)
    at.sample.write("README", "the user's\n")
    at.sample.git("stash")
    users = at.at("refs/stash")
    before = busy(at)
    reply = await at.ask("stash", StashRequest(message="for later"))
    assert at.git("status", "--porcelain") == "?? .env"
    assert at.at(f"refs/skep/stash/{stored.attempt.id}") == reply.commit
    assert at.sample.git("log", "-1", "--format=%s", reply.commit) == "for later"
    assert (await at.refused("stash")).code is ErrorCode.NOTHING_TO_STASH
    at.write("second", "2\n")
    assert (await at.ask("stash")).depth == 2
    assert (await at.ask("branch_status")).stashes == 2
    assert (await at.ask("stash_pop")).depth == 1
    assert at.git("status", "--porcelain") == "?? .env\n?? second"
    assert (await at.ask("stash_pop")).depth == 0
    assert files(at) == {**before, "second": "2\n"}
    assert at.at(f"refs/skep/stash/{stored.attempt.id}") == ""
    assert (await at.refused("stash_pop")).code is ErrorCode.NOTHING_TO_STASH
    assert at.at("refs/stash") == users


@pytest.mark.asyncio
async def test_a_pop_that_does_not_go_keeps_the_stash(stored: StoredNode) -> None:
    """Conflicts, and ignored files in the way, change neither files nor stash."""
    at = await Branching.make(stored)
    at.write("README", "mine\n")
    at.write("build.log", "mine\n")
    stash = (await at.ask("stash")).commit
    at.commit("theirs", {"README": "theirs\n"})
    before = files(at)
    error = await at.refused("stash_pop")
    assert (error.code, error.details["conflicts"]) == (ErrorCode.CONFLICTS, ["README"])
    at.git("reset", "-q", "--hard", "HEAD~1")
    (at.sample.path / ".git" / "info" / "exclude").write_text("build.log\n")
    at.write("build.log", "of this build\n")
    error = await at.refused("stash_pop")
    assert (error.code, error.details["files"]) == (ErrorCode.CHECKOUT_DIRTY, ["build.log"])
    assert files(at) == {**before, "README": "hello\n", "build.log": "of this build\n"}
    assert at.at(f"refs/skep/stash/{stored.attempt.id}") == stash
    (at.worktree.path / "build.log").unlink()
    await at.ask("stash_pop")
    assert (at.worktree.path / "build.log").read_text() == "mine\n"


@pytest.mark.asyncio
@pytest.mark.parametrize("acted", [True, False])
async def test_stash_and_pop_cut_short(stored: StoredNode, acted: bool) -> None:
    """Settled, the work is in one place: aside after a stash, in the worktree after a pop."""
    at = await Branching.make(stored)
    before = busy(at)
    known = await at.crash("stash", acted=acted)
    reply = msgspec.msgpack.decode(known.reply or b"", type=StashReply)
    assert (reply.depth, at.git("status", "--porcelain")) == (1, "?? .env")
    await at.crash("stash_pop", acted=acted)
    assert files(at) == before
    assert at.at(f"refs/skep/stash/{stored.attempt.id}") == ""


@pytest.mark.asyncio
async def test_a_stash_cut_short_between_ref_and_files(stored: StoredNode) -> None:
    """Files that a stash has already go from the worktree; changed since, they stay."""
    at = await Branching.make(stored)
    at.write("README", "changed\n")

    def again() -> None:
        at.write("README", "changed\n")

    await at.crash("stash", acted=True, meanwhile=again)
    assert at.git("status", "--porcelain") == ""
    await at.ask("stash_pop")
    known = await at.crash(
        "stash", acted=True, meanwhile=lambda: at.write("README", "and changed again\n")
    )
    assert (known.error and known.error.code) == "checkout_dirty"
    assert (at.worktree.path / "README").read_text() == "and changed again\n"


@pytest.mark.asyncio
async def test_work_outside_a_sparse_checkout(stored: StoredNode) -> None:
    """It is stashed and comes back like any other; what is not shown is not taken for deleted."""
    at = await Branching.make(stored)
    at.git("sparse-checkout", "set", "--no-cone", "/README")
    at.write("far/new", "new\n")
    at.write("src/code.py", "print(2)\n")
    before = files(at)
    reply = await at.ask("stash")
    changed = at.sample.git("diff", "--name-only", f"{reply.commit}^", reply.commit)
    assert changed == "far/new\nsrc/code.py"
    assert at.git("status", "--porcelain") == ""
    assert not (at.worktree.path / "far").exists()
    await at.ask("stash_pop")
    assert files(at) == before
