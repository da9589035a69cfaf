"""Pull requests as operations: real git, a real bare remote, and a forge of this machine."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from node_agent.config import NodeConfig
from node_agent.forge.credentials import ForgeAccess
from node_agent.git.repository import open_repository
from node_agent.git.worktrees import Worktree, create_worktree
from node_agent.operations import pull_requests
from node_agent.operations.dispatcher import OperationDispatcher, OperationFunction
from node_agent.operations.pull_requests import PullRequests
from node_agent.operations.work import WorkReading
from node_agent.secret_values import set_secret
from node_agent.store import attempts
from node_agent.store import pull_requests as asked_for
from protocol.entities import OperationRecord, PullRequest
from protocol.errors import ErrorCode, OperationError
from protocol.pull_requests import AttachPrRequest, CreatePrReply, CreatePrRequest, PrReply
from protocol.states import AttemptPhase
from tests.node_agent.forge.fake_forge import (
    NAME,
    OWNER,
    TOKEN,
    FakeForge,
    answers,
    connect,
    hung_up,
    make_bare,
    serving,
    taken_then,
)
from tests.node_agent.git.repositories import Sample, git
from tests.node_agent.operations.conftest import StoredNode

WANTED = CreatePrRequest(title="Do it", body="All of it.")


@dataclass
class Work:
    """An attempt with a commit in its worktree, whose checkout comes from a forge."""

    stored: StoredNode
    forge: FakeForge
    access: ForgeAccess
    worktree: Worktree
    made: list[PullRequests] = field(default_factory=list)

    @property
    def branch(self) -> str:
        return self.stored.attempt.branch

    @property
    def sample(self) -> Sample:
        """The worktree, worked in by plain git."""
        return Sample(self.worktree.path)

    @property
    def pulls(self) -> PullRequests:
        """The operations, the same ones until `restart`."""
        if not self.made:
            self.restart()
        return self.made[-1]

    def restart(self, *, writes: bool = True) -> PullRequests:
        database = self.stored.stores.database
        made = PullRequests(database, self.stored.worktrees_dir, self.access, writes=writes)
        self.made.append(made)
        return made

    async def create(self, request: CreatePrRequest = WANTED, **more: Any) -> CreatePrReply:
        asking = self.stored.asking("create_pr", request, **{"key": "k", **more})
        return await self.pulls.create(asking)

    async def attach(self, key: str = "a", **fields: Any) -> PullRequest:
        asking = self.stored.asking("attach_pr", AttachPrRequest(**fields), key=key)
        return await self.pulls.attach(asking)

    async def state(self) -> PrReply:
        return await self.pulls.state(self.stored.asking("pr"))

    async def settle(self, key: str = "k") -> CreatePrReply:
        record = OperationRecord(
            key=key, operation="create_pr", attempt_id=self.stored.attempt.id, status="started"
        )
        return await self.pulls.settle_create(record, None)

    async def pr(self) -> PullRequest | None:
        """What the attempt has by now."""
        kept = await self.stored.stores.database.read(attempts.get, self.stored.attempt.id)
        return kept.pr


@pytest.fixture
def forge(tmp_path: Path, sample: Sample) -> Iterator[FakeForge]:
    """A forge that has the checkout's repository."""
    with serving(FakeForge(make_bare(tmp_path / "bare.git"))) as forge:
        connect(forge, sample.path)
        yield forge


@pytest_asyncio.fixture
async def work(stored: StoredNode, forge: FakeForge) -> AsyncIterator[Work]:
    """An attempt that has committed something, on a node with a token."""
    attempt = stored.attempt
    worktree = await create_worktree(
        await open_repository(stored.sample.path),
        stored.worktrees_dir,
        attempt_id=attempt.id,
        branch=attempt.branch,
        base=attempt.base_commit,
    )
    await stored.change(phase=AttemptPhase.PREPARING, worktree=str(worktree.path))
    config = NodeConfig(data_dir=stored.worktrees_dir.parent, github_url=forge.url)
    set_secret(config.secrets_file, "github_token", TOKEN)
    work = Work(stored, forge, ForgeAccess.of(config), worktree)
    work.sample.commit("work", {"work.txt": "done\n"})
    yield work


async def refused(call: Any) -> OperationError:
    """Await what must be refused; return the error, which has no token in it."""
    with pytest.raises(OperationError) as caught:
        await call
    assert TOKEN not in str(caught.value.body())
    return caught.value


@pytest.mark.asyncio
async def test_create(work: Work) -> None:
    """The branch is pushed, the pull request opened into the attempt's target, and kept."""
    made = await work.create()
    url = f"{work.forge.url}/{OWNER}/{NAME}/pull/1"
    head = work.sample.head
    assert made == CreatePrReply(url=url, number=1, state="open", target_branch="main", head=head)
    assert work.forge.branch(work.branch) == head
    assert work.forge.pulls[0]["body"] == "All of it."
    assert await work.pr() == PullRequest(url=url, number=1, state="open")
    reading = WorkReading(work.stored.stores.database, work.stored.worktrees_dir)
    status = await reading.branch_status(work.stored.asking("branch_status"))
    assert status.pr == await work.pr()
    again = await refused(work.create(key="other"))
    assert (again.code, again.details) == (ErrorCode.EXISTS, {"url": url, "number": 1})
    assert len(work.forge.posts) == 1


@pytest.mark.asyncio
async def test_draft_and_target(work: Work) -> None:
    """Another branch of the remote may be the target; without any, it is the remote's default."""
    git(work.forge.bare, "branch", "release/1.x", "main")
    made = await work.create(CreatePrRequest(title="Do it", target="release/1.x", draft=True))
    assert (made.state, made.target_branch) == ("draft", "release/1.x")
    work.forge.pulls[0]["state"] = "closed"
    await work.stored.change(target_branch=None)
    assert (await work.create(key="second")).target_branch == "main"
    work.forge.pulls[1]["state"] = "closed"
    await work.stored.change(target_branch="origin/main")
    assert (await work.create(key="third")).target_branch == "main"


@pytest.mark.asyncio
async def test_nothing_is_done_for_what_cannot_be(work: Work) -> None:
    """What is refused beforehand pushes nothing and asks the forge for nothing."""
    for request, code in (
        (CreatePrRequest(title="  "), ErrorCode.INVALID),
        (CreatePrRequest(title="x" * 257), ErrorCode.INVALID),
        (CreatePrRequest(title="two\nlines"), ErrorCode.INVALID),
        (CreatePrRequest(title="x", body="y" * 65_537), ErrorCode.INVALID),
        (CreatePrRequest(title="x", target="--force"), ErrorCode.INVALID),
        (CreatePrRequest(title="x", target="nonesuch"), ErrorCode.TARGET_MISSING),
    ):
        assert (await refused(work.create(request))).code is code
    moved = await refused(work.create(expected_head="0" * 40))
    assert (moved.code, moved.details["head"]) == (
        ErrorCode.EXPECTED_HEAD_MOVED,
        work.sample.head,
    )
    work.sample.git("checkout", "-q", "--detach", "main")
    assert (await refused(work.create())).code is ErrorCode.CONFLICT
    # The editor leaves the rebase where it begins.
    work.sample.git("checkout", "-q", work.branch)
    work.sample.git("-c", "sequence.editor=sed -i 1ibreak", "rebase", "-q", "-i", "main~0")
    assert (await refused(work.create())).code is ErrorCode.REBASE_IN_PROGRESS
    assert (await refused(work.create(attempt_id="none"))).code is ErrorCode.NOT_FOUND
    assert (await refused(work.create(project_id="p2"))).code is ErrorCode.NOT_FOUND
    assert (work.forge.posts, work.forge.branch(work.branch)) == ([], None)


@pytest.mark.asyncio
async def test_the_remote_is_ahead_or_elsewhere(work: Work) -> None:
    """A remote that is behind is brought forward; one with other commits is left as it is."""
    sample = work.sample
    base = work.stored.attempt.base_commit
    sample.git("push", "-q", "origin", f"{base}:refs/heads/{work.branch}")
    made = await work.create()
    assert work.forge.branch(work.branch) == made.head
    work.forge.pulls.clear()
    theirs = sample.commit("theirs", {"x": "1\n"})
    sample.git("push", "-q", "origin", f"{theirs}:refs/heads/{work.branch}")
    sample.git("reset", "-q", "--hard", "HEAD~1")
    assert (await refused(work.create(key="2"))).code is ErrorCode.FORCE_PUSH_REQUIRED
    assert (work.forge.branch(work.branch), work.forge.pulls) == (theirs, [])


@pytest.mark.asyncio
async def test_nothing_to_pull(work: Work) -> None:
    """The forge's own word on a branch with no commits of its own is passed on."""
    work.sample.git("reset", "-q", "--hard", "main")
    refusal = await refused(work.create())
    assert (refusal.code, "No commits between" in refusal.message) == (ErrorCode.INVALID, True)


@pytest.mark.asyncio
async def test_once_the_worktree_is_gone(work: Work) -> None:
    """The branch alone is enough; without it there is nothing to open a pull request from."""
    await work.stored.change(phase=AttemptPhase.RUNNING)
    user = work.stored.sample
    user.git("worktree", "remove", "-f", "-f", str(work.worktree.path))
    head = user.git("rev-parse", work.branch)
    assert (await work.create()).head == head
    user.git("branch", "-D", work.branch)
    assert (await refused(work.create(key="2"))).code is ErrorCode.WORKTREE_GONE


@pytest.mark.asyncio
async def test_who_the_node_is(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong token, no way to one, and an origin elsewhere are told apart, before any push."""
    set_secret(work.access.secrets_file, "github_token", "wrong-token")
    assert (await refused(work.create())).code is ErrorCode.NOT_LOGGED_IN
    work.access = replace(work.access, secret="nonesuch")
    work.restart()
    git_alone = tmp_path / "git-alone"
    git_alone.mkdir()
    (git_alone / "git").symlink_to(shutil.which("git") or "")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(git_alone))
        assert (await refused(work.create())).code is ErrorCode.CLI_MISSING
    work.stored.sample.git("remote", "set-url", "origin", "https://gitlab.example/a/b.git")
    for call in (work.create(), work.attach(), work.state()):
        assert (await refused(call)).code is ErrorCode.NO_FORGE
    assert (work.forge.posts, work.forge.branch(work.branch)) == ([], None)


@pytest.mark.asyncio
async def test_two_at_a_time(work: Work) -> None:
    """Of two that ask at once one opens it, and the other is told of that one."""
    both = await asyncio.gather(
        work.create(key="one"), work.create(key="two"), return_exceptions=True
    )
    made = [one for one in both if isinstance(one, CreatePrReply)]
    told = [one for one in both if isinstance(one, OperationError)]
    assert [one.number for one in made] == [1]
    assert [one.code for one in told] == [ErrorCode.EXISTS]
    assert len(work.forge.pulls) == 1


# --- after a crash --------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_settled_before_it_was_asked_for(work: Work) -> None:
    """Cut short before the forge was asked: nothing was made, and it is said so."""
    assert (await refused(work.settle())).code is ErrorCode.CANCELLED
    await work.create()
    assert (await refused(work.settle("another"))).code is ErrorCode.CANCELLED
    assert work.forge.posts[1:] == []


@pytest.mark.asyncio
async def test_settled_after_it_was_kept(work: Work) -> None:
    """Cut short before the key had its answer: the answer is the same, and nobody is asked."""
    made = await work.create()
    asked = len(work.forge.asked)
    assert await work.settle() == made
    assert len(work.forge.asked) == asked


async def cut_short(work: Work) -> None:
    """Have a create die between the forge's answer and our keeping it."""
    with pytest.MonkeyPatch.context() as patch:

        def die(name: str) -> None:
            if name == "node.pull_request.made":
                raise asyncio.CancelledError

        patch.setattr(pull_requests, "failpoint", die)
        with pytest.raises(asyncio.CancelledError):
            await work.create()
    assert await work.pr() is None
    work.restart()


@pytest.mark.asyncio
async def test_settled_after_it_was_made(work: Work) -> None:
    """Cut short right after: it is found by its branch, kept, and answered as before."""
    await cut_short(work)
    settled = await work.settle()
    assert (settled.number, settled.head) == (1, work.sample.head)
    assert await work.pr() == PullRequest(url=settled.url, number=1, state="open")
    assert len(work.forge.posts) == 1


@pytest.mark.asyncio
async def test_settled_without_knowing(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none is there, another is, or nobody answers, it is not asked for again."""
    await cut_short(work)
    made = work.forge.pulls.pop()
    assert (await refused(work.settle())).code is ErrorCode.UNKNOWN_OUTCOME
    work.forge.open(work.branch, title="Another's")
    exists = await refused(work.settle())
    assert (exists.code, exists.details["number"]) == (ErrorCode.EXISTS, 1)
    work.forge.pulls[:] = [made]
    monkeypatch.setattr(pull_requests, "_SETTLE_S_MAX", 0.5)
    work.forge.fail("GET", "/pulls", *[hung_up] * 8)
    assert (await refused(work.settle())).code is ErrorCode.UNKNOWN_OUTCOME
    assert (len(work.forge.posts), await work.pr()) == (1, None)


@pytest.mark.asyncio
async def test_one_key_one_pull_request(work: Work) -> None:
    """Through the dispatcher: the same key again has the same answer, across a restart too."""
    ledger = work.stored.stores.ledger

    def dispatcher() -> OperationDispatcher:
        pulls = work.restart()
        functions = {
            "create_pr": OperationFunction(pulls.create, settle=pulls.settle_create),
            "attach_pr": OperationFunction(pulls.attach, keeps_key=True),
        }
        return OperationDispatcher(functions, ledger, node_id="n")

    asking = work.stored.asking("create_pr", WANTED, key="the-key")
    work.forge.fail("POST", "/pulls", taken_then(work.forge, hung_up))
    first = await dispatcher().perform(asking)
    assert await dispatcher().perform(asking) == first
    assert (len(work.forge.posts), len(work.forge.pulls)) == (1, 1)
    attaching = work.stored.asking("attach_pr", AttachPrRequest(number=1), key="attach")
    kept = await dispatcher().perform(attaching)
    work.forge.pulls.clear()
    assert await dispatcher().perform(attaching) == kept
    other = replace(attaching, body_hash="other")
    assert (await refused(dispatcher().perform(other))).code is ErrorCode.KEY_REUSED


# --- attaching and looking ------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_attach(work: Work) -> None:
    """By number, by address, or by the branch: an open one before one that is closed."""
    work.sample.git("push", "-q", "origin", work.branch)
    other = work.forge.open("main", state="closed", merged_at="2026-01-01T00:00:00Z")
    assert (await work.attach("1", number=1)).state == "merged"
    assert await work.pr() == PullRequest(url=other["html_url"], number=1, state="merged")
    assert (await refused(work.attach("2"))).code is ErrorCode.NOT_FOUND
    ours = work.forge.open(work.branch, draft=True)
    work.forge.open(work.branch, state="closed")
    assert (await work.attach("3")).number == ours["number"]
    assert (await work.attach("4", url=other["html_url"])).number == 1
    assert (await refused(work.attach("5", number=9))).code is ErrorCode.NOT_FOUND
    for wrong in (
        {"number": 0},
        {"number": 10**12},
        {"number": 1, "url": other["html_url"]},
        {"url": "https://github.com/acme/widgets/pull/1"},
    ):
        assert (await refused(work.attach("6", **wrong))).code is ErrorCode.INVALID
    assert (await work.pr() or other).number == 1


@pytest.mark.asyncio
async def test_state(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """How it stands, asked of the forge once in a while; what changed, the attempt is told."""
    assert (await refused(work.state())).code is ErrorCode.NOT_FOUND
    await work.create()
    work.forge.checks.append({"name": "lint", "status": "completed", "conclusion": "failure"})
    shown = await work.state()
    assert (shown.number, shown.state, shown.mergeable) == (1, "open", True)
    assert (shown.branch, shown.target_branch) == (work.branch, "main")
    assert (shown.checks.state, shown.checks.failures) == ("failed", ["lint"])
    work.forge.pulls[0] |= {"state": "closed", "merged_at": "2026-01-01T00:00:00Z"}
    asked = len(work.forge.asked)
    assert await work.state() == shown
    assert len(work.forge.asked) == asked
    assert (await refused(work.pulls.state(work.stored.asking("pr", project_id="p2")))).code is (
        ErrorCode.NOT_FOUND
    )
    monkeypatch.setattr(pull_requests, "_FRESH_S", 0.0)
    assert (await work.state()).state == "merged"
    kept = await work.pr()
    assert kept is not None
    assert kept.state == "merged"
    work.forge.pulls.clear()
    assert (await refused(work.state())).code is ErrorCode.NOT_FOUND


@pytest.mark.asyncio
async def test_looking_writes_nothing_without_an_agent(work: Work) -> None:
    """Alone, a look answers and leaves the stores as they are; one not attached stays so."""
    work.sample.git("push", "-q", "origin", work.branch)
    work.forge.open(work.branch)
    assert (await work.state()).number == 1
    assert await work.pr() is None
    await work.attach(number=1)
    work.forge.pulls[0]["draft"] = True
    work.restart(writes=False)
    assert (await work.state()).state == "draft"
    kept = await work.pr()
    assert kept is not None
    assert kept.state == "open"


@pytest.mark.asyncio
async def test_so_many_are_kept(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was answered lately is forgotten beyond a number."""
    monkeypatch.setattr(pull_requests, "_KEPT_MAX", 0)
    await work.create()
    await work.state()
    asked = len(work.forge.asked)
    await work.state()
    assert len(work.forge.asked) > asked


@pytest.mark.asyncio
async def test_a_change_of_the_attempt_keeps_it(work: Work) -> None:
    """What is asked for is kept apart from the attempt, and forgotten by nobody else."""
    await work.create()
    database = work.stored.stores.database
    asked = await database.read(asked_for.asked_under, work.stored.attempt.id, "k")
    assert asked is not None
    assert (asked.branch, asked.target, asked.title) == (work.branch, "main", "Do it")
    work.forge.fail("GET", "/pulls", answers(500))
    assert (await refused(work.create(key="later"))).code is ErrorCode.EXISTS
    assert await database.read(asked_for.asked_under, work.stored.attempt.id, "k") == asked
