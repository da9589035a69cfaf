"""Changes of target and name, judged by plain git and the attempt's row."""

import msgspec
import pytest

from node_agent.git.repository import open_repository
from node_agent.git.worktrees import create_worktree, find_worktree
from node_agent.operations.asking import Streamed
from node_agent.store import pull_requests
from protocol.branch_requests import (
    CompareRequest,
    RenameBranchReply,
    RenameBranchRequest,
    TargetBranchRequest,
)
from protocol.entities import PullRequest
from protocol.errors import ErrorCode
from tests.node_agent.git.repositories import NAMES, git
from tests.node_agent.operations.branching import Branching
from tests.node_agent.operations.conftest import StoredNode


@pytest.mark.asyncio
async def test_another_target(stored: StoredNode) -> None:
    """The attempt's work goes there from now on; what is not there is refused."""
    at = await Branching.make(stored)
    at.sample.git("branch", "release")
    reply = await at.ask("target_branch", TargetBranchRequest(branch="release"))
    assert (reply.target_branch, reply.ahead) == ("release", 1)
    missing = await at.refused("target_branch", TargetBranchRequest(branch="nowhere"))
    itself = await at.refused("target_branch", TargetBranchRequest(branch=at.branch))
    option = await at.refused("target_branch", TargetBranchRequest(branch="--force"))
    assert [one.code for one in (missing, itself, option)] == [
        ErrorCode.BRANCH_MISSING,
        ErrorCode.INVALID,
        ErrorCode.INVALID,
    ]
    merged = await at.ask("merge")
    assert at.at("release") == merged.commit
    for acted in (True, False):
        name = "main" if acted else "release"
        await at.crash("target_branch", TargetBranchRequest(branch=name), acted=acted)
        assert (await at.attempt()).target_branch == name


@pytest.mark.asyncio
async def test_another_name(stored: StoredNode) -> None:
    """Branch, worktree and row have the new name; commits and uncommitted work are as before."""
    at = await Branching.make(stored)
    old = at.branch
    at.write("draft", "x")
    reply = await at.ask("rename_branch", RenameBranchRequest(branch="feature/door"))
    assert (reply.branch, reply.head) == ("feature/door", at.first)
    assert (at.at(old), at.at("feature/door")) == ("", at.first)
    assert at.git("symbolic-ref", "HEAD") == "refs/heads/feature/door"
    assert at.git("status", "--porcelain") == "?? draft"
    assert (await at.attempt()).branch == "feature/door"
    status = await at.ask("branch_status")
    assert (status.branch, status.source) == ("feature/door", "worktree")


@pytest.mark.asyncio
@pytest.mark.parametrize("name", NAMES)
async def test_every_place_a_name_is_used(stored: StoredNode, name: str) -> None:
    """As an attempt's branch, at the remote, as a target, and made again: by real git, unharmed."""
    at = await Branching.make(stored)
    at.sample.git("init", "-q", "--bare", str(stored.worktrees_dir.parent / "origin.git"))
    at.sample.git("remote", "add", "origin", str(stored.worktrees_dir.parent / "origin.git"))
    assert (await at.ask("rename_branch", RenameBranchRequest(branch=name))).branch == name
    assert at.git("symbolic-ref", "HEAD") == f"refs/heads/{name}"
    await at.ask("push")
    listed = at.sample.git("ls-remote", "origin").split()
    assert listed == [at.first, f"refs/heads/{name}"]
    status = await at.ask("branch_status")
    assert (status.branch, status.remote_ahead, status.remote_behind) == (name, 0, 0)
    target = f"{name}-target"
    at.sample.git("branch", target)
    await at.ask("target_branch", TargetBranchRequest(branch=target))
    assert at.at(f"refs/heads/{target}") != at.first
    merged = await at.ask("merge")
    assert at.at(f"refs/heads/{target}") == merged.commit
    asking = at.asking("compare", CompareRequest(from_=target, to=name))
    compared = await at.dispatcher.perform(asking)
    assert isinstance(compared, Streamed)
    assert msgspec.json.decode(b"".join([piece async for piece in compared.pieces]))
    # Gone and made again, on the branch as it is called now.
    at.sample.git("worktree", "remove", "--force", "--force", str(at.worktree.path))
    made = await create_worktree(
        await open_repository(stored.sample.path),
        stored.worktrees_dir,
        attempt_id=stored.attempt.id,
        branch=name,
        base=at.first,
    )
    assert (made.branch, git(made.path, "rev-parse", "HEAD")) == (name, at.first)


@pytest.mark.asyncio
@pytest.mark.parametrize(("state", "stays"), [("open", True), ("draft", True), ("closed", False)])
async def test_a_name_that_a_pull_request_goes_by(
    stored: StoredNode, state: str, stays: bool
) -> None:
    """A branch keeps its name while its pull request is open, and no longer."""
    at = await Branching.make(stored)
    old = at.branch
    pr = PullRequest(url="https://forge.invalid/pull/7", number=7, state=state)
    await stored.stores.database.write(pull_requests.keep, stored.attempt.id, pr, 0)
    if stays:
        refused = await at.refused("rename_branch", RenameBranchRequest(branch="door"))
        assert (refused.code, refused.details["url"]) == (ErrorCode.OPEN_PR, pr.url)
    else:
        await at.ask("rename_branch", RenameBranchRequest(branch="door"))
    assert at.at(old) == (at.first if stays else "")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("-d", ErrorCode.INVALID_NAME),
        ("a b", ErrorCode.INVALID_NAME),
        ("a..b", ErrorCode.INVALID_NAME),
        ("refs/heads/x", ErrorCode.INVALID_NAME),
        ("", ErrorCode.INVALID_NAME),
        ("main", ErrorCode.EXISTS),
        ("main/x", ErrorCode.EXISTS),
        ("skep", ErrorCode.EXISTS),
    ],
)
async def test_names_that_cannot_be(stored: StoredNode, name: str, code: ErrorCode) -> None:
    """A bad or taken name changes nothing."""
    at = await Branching.make(stored)
    at.sample.git("branch", "skep/other")
    error = await at.refused("rename_branch", RenameBranchRequest(branch=name))
    assert error.code is code
    assert at.at(at.branch) == at.first
    assert (await at.attempt()).branch == at.branch


@pytest.mark.asyncio
@pytest.mark.parametrize("left", ["nothing", "all", "no branch", "old head", "both"])
async def test_a_renaming_cut_short_is_finished(stored: StoredNode, left: str) -> None:
    """Wherever the crash came, there is one branch at the end, and all say its name."""
    at = await Branching.make(stored)
    old, new = at.branch, "renamed"

    def cut_short() -> None:
        if left == "no branch":
            at.sample.git("update-ref", "-d", f"refs/heads/{new}")
            at.git("symbolic-ref", "HEAD", f"refs/heads/{old}")
        elif left == "old head":
            at.git("symbolic-ref", "HEAD", f"refs/heads/{old}")
        elif left == "both":
            at.sample.git("branch", old, at.first)

    request = RenameBranchRequest(branch=new)
    acted = left != "nothing"
    known = await at.crash("rename_branch", request, acted=acted, meanwhile=cut_short)
    reply = msgspec.msgpack.decode(known.reply or b"", type=RenameBranchReply)
    assert (reply.branch, at.at(old), at.at(new)) == (new, "", at.first)
    assert at.git("symbolic-ref", "HEAD") == f"refs/heads/{new}"
    assert at.git("status", "--porcelain") == ""
    assert (await at.attempt()).branch == new
    repository = (await at.ask("branch_status")).source
    assert repository == "worktree"
    from node_agent.git.repository import open_repository

    found = await find_worktree(
        await open_repository(at.sample.path), stored.worktrees_dir, stored.attempt.id
    )
    assert found is not None
    assert found.branch == new
