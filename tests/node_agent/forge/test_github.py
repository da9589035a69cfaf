"""GitHub's API as the client meets it: the documented answers, and every way not to answer."""

import time
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
import tenacity

from node_agent.forge import github as client
from node_agent.forge.github import GitHub, NewPull
from node_agent.forge.places import Forge, Place
from protocol.errors import ErrorCode, OperationError
from tests.node_agent.forge.conftest import BRANCH
from tests.node_agent.forge.fake_forge import (
    NAME,
    OWNER,
    TOKEN,
    FakeForge,
    Fault,
    answers,
    custom,
    garbage,
    hung_up,
    invalid,
    limited,
    page_of_a_proxy,
    reply,
    silence,
    taken_then,
    used_up,
)
from tests.node_agent.git.repositories import NAMES, git

Github = Callable[..., GitHub]
WANTED = NewPull(title="Do it", body="All of it.", branch=BRANCH, target="main")


@pytest.fixture
def github(
    forge: FakeForge, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> Github:
    """Makes a client of the forge's repository, which waits where it is told to, else hardly."""
    monkeypatch.setattr(client, "_BACKOFF", tenacity.wait_fixed(0.02))

    def make(within_s: float = 30.0, *, token: str = TOKEN, name: str = NAME) -> GitHub:
        return GitHub(
            session,
            Forge.of(forge.url),
            Place(OWNER, name),
            token,
            secret="github_token",
            until_s=time.monotonic() + within_s,
        )

    return make


async def refused(call: Any) -> OperationError:
    """Await what must be refused; return the error, which always has a hint."""
    with pytest.raises(OperationError) as caught:
        await call
    assert caught.value.hint
    assert TOKEN not in str(caught.value.body())
    return caught.value


@pytest.mark.asyncio
async def test_create_find_and_look(forge: FakeForge, github: Github) -> None:
    """What is created is found by its branch and its number, and only by those."""
    made = await github().create(WANTED)
    assert (made.number, made.head.ref, made.base.ref) == (1, BRANCH, "main")
    assert forge.posts[0].body == {
        "title": "Do it",
        "body": "All of it.",
        "head": BRANCH,
        "base": "main",
        "draft": False,
    }
    assert forge.posts[0].headers["authorization"] == f"token {TOKEN}"
    assert forge.posts[0].headers["x-github-api-version"] == "2022-11-28"
    assert [one.number for one in await github().pulls_from(BRANCH)] == [made.number]
    assert await github().pulls_from("main") == []
    assert (await github().pull(1)).mergeable is True
    assert (await refused(github().pull(2))).code is ErrorCode.NOT_FOUND
    await github().check_branch(BRANCH)
    assert (await refused(github().check_branch("no/such"))).code is ErrorCode.TARGET_MISSING
    assert await github().default_branch() == "main"


@pytest.mark.asyncio
@pytest.mark.parametrize("name", NAMES)
async def test_any_name_of_a_branch(forge: FakeForge, github: Github, name: str) -> None:
    """It stands in addresses and queries as itself, whatever it is made of."""
    git(forge.bare, "branch", name, BRANCH)
    await github().check_branch(name)
    opened = forge.open(name)
    [found] = await github().pulls_from(name)
    assert (found.number, found.head.ref) == (opened["number"], name)
    forge.open("main", base=name)
    assert (await github().pull(2)).base.ref == name


@pytest.mark.asyncio
async def test_pull_requests_of_others_do_not_count(forge: FakeForge, github: Github) -> None:
    """A forge that overlooks the filter cannot pass another's pull request off as the branch's."""
    fork = {**forge.open(BRANCH)["head"], "repo": {"full_name": "mallory/widgets"}}
    forge.pulls[0]["head"] = fork
    forge.open("main")
    gone = {**forge.open(BRANCH)["head"], "repo": None}
    forge.pulls[2]["head"] = gone
    forge.fail("GET", "/pulls", lambda _: reply(forge.pulls))
    assert await github().pulls_from(BRANCH) == []


@pytest.mark.asyncio
async def test_checks_of_both_kinds(forge: FakeForge, github: Github) -> None:
    """Checks and statuses are counted together; without the right to read them: unknown."""
    commit = forge.branch(BRANCH) or ""
    assert (await github().checks(commit)).state == "none"
    forge.checks += [
        {"name": f"unit {n}", "status": "completed", "conclusion": "success"} for n in range(120)
    ]
    forge.statuses += [{"context": "ci/old", "state": "pending"}]
    assert (await github().checks(commit)).state == "pending"
    forge.checks += [{"name": "lint", "status": "completed", "conclusion": "timed_out"}]
    checks = await github().checks(commit)
    assert (checks.total, checks.passed, checks.pending) == (122, 120, 1)
    assert (checks.state, checks.failures) == ("failed", ["lint"])
    forge.fail("GET", "/check-runs", answers(403, "Resource not accessible by token"))
    assert (await github().checks(commit)).state == "unknown"


@pytest.mark.asyncio
async def test_more_checks_than_are_read(forge: FakeForge, github: Github) -> None:
    """Beyond so many checks the rest is counted and not called passed."""
    forge.checks += [
        {"name": str(n), "status": "completed", "conclusion": "success"} for n in range(350)
    ]
    checks = await github().checks("a" * 40)
    assert (checks.total, checks.passed, checks.pending) == (350, 300, 50)


REFUSALS = [
    (answers(401, "Bad credentials"), ErrorCode.NOT_LOGGED_IN),
    (answers(403, "Resource not accessible by personal access token"), ErrorCode.AUTH),
    (answers(404, "Not Found"), ErrorCode.NOT_FOUND),
    (answers(301, "Moved", Location="https://x/repositories/1"), ErrorCode.NO_FORGE),
    (answers(400, "Problems parsing JSON"), ErrorCode.INVALID),
    (lambda _: invalid(custom("No commits between main and x")), ErrorCode.INVALID),
    (lambda _: invalid({"field": "base", "code": "invalid"}), ErrorCode.TARGET_MISSING),
    (lambda _: reply({"message": "Validation Failed", "errors": ["odd"]}, 422), ErrorCode.INVALID),
    (lambda _: reply({"message": "Spam"}, 422), ErrorCode.INVALID),
    (used_up(3600), ErrorCode.FORGE_LIMIT),
    (limited(3600), ErrorCode.FORGE_LIMIT),
    (answers(429, "Too many", **{"Retry-After": "3600"}), ErrorCode.FORGE_LIMIT),
]


@pytest.mark.parametrize(("fault", "code"), REFUSALS)
@pytest.mark.asyncio
async def test_refused_for_good(
    fault: Fault, code: ErrorCode, forge: FakeForge, github: Github
) -> None:
    """A refusal is asked for once, and means what the API's documentation says it means."""
    forge.fail("POST", "/pulls", fault)
    assert (await refused(github().create(WANTED))).code is code
    assert (len(forge.posts), forge.pulls) == (1, [])


@pytest.mark.asyncio
async def test_what_the_api_says_is_passed_on(forge: FakeForge, github: Github) -> None:
    """A validation error carries the forge's own words, few of them."""
    long = [custom("x" * 9000) for _ in range(50)]
    forge.fail("POST", "/pulls", lambda _: invalid(*long))
    errors = (await refused(github().create(WANTED))).details["errors"]
    assert len(errors) == 10
    assert errors[0] == {"resource": "PullRequest", "code": "custom", "message": "x" * 500}


@pytest.mark.asyncio
async def test_a_token_that_is_refused_and_a_repository_unseen(github: Github) -> None:
    """A wrong token is not logged in; a repository not shown to it is not found."""
    assert (await refused(github(token="wrong").default_branch())).code is ErrorCode.NOT_LOGGED_IN
    unseen = await refused(github(name="other").default_branch())
    assert (unseen.code, unseen.details["repository"]) == (ErrorCode.NOT_FOUND, "acme/other")


@pytest.mark.parametrize(
    "fault",
    [answers(500), page_of_a_proxy, hung_up, garbage(), limited(1), used_up(1), answers(429)],
)
@pytest.mark.asyncio
async def test_reading_is_repeated(
    fault: Fault, forge: FakeForge, github: Github, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After what may pass, reading is tried again and comes through."""
    monkeypatch.setattr(client, "_LIMIT_WAIT_S", 0.2)
    forge.fail("GET", "/pulls", fault, fault)
    assert await github().pulls_from(BRANCH) == []
    assert len(forge.asked) == 3


@pytest.mark.parametrize("fault", [answers(503), garbage("text/html"), page_of_a_proxy])
@pytest.mark.asyncio
async def test_reading_is_given_up(fault: Fault, forge: FakeForge, github: Github) -> None:
    """A forge that goes on failing is asked so many times, and no more."""
    forge.fail("GET", "/pulls", *[fault] * 10)
    assert (await refused(github().pulls_from(BRANCH))).code is ErrorCode.FORGE_FAILED
    assert len(forge.asked) <= 4


@pytest.mark.asyncio
async def test_no_wait_beyond_the_deadline(forge: FakeForge, github: Github) -> None:
    """A wait that would end after the deadline is not begun; a silent forge is left at it."""
    forge.fail("GET", "/pulls", limited(20))
    limit = await refused(github(5).pulls_from(BRANCH))
    assert (limit.code, limit.details["retry_after_s"]) == (ErrorCode.FORGE_LIMIT, 20.0)
    forge.fail("GET", "/pulls", *[silence] * 4)
    assert (await refused(github(0.5).pulls_from(BRANCH))).code is ErrorCode.FORGE_FAILED


@pytest.mark.asyncio
async def test_nobody_there(github: Github, forge: FakeForge) -> None:
    """An address where nobody listens is the forge failing, and nothing is unknown about it."""
    nobody = github(2)
    nobody._api.base_url = "http://127.0.0.1:9"
    assert (await refused(nobody.create(WANTED))).code is ErrorCode.FORGE_FAILED


@pytest.mark.parametrize(
    "after",
    [hung_up, page_of_a_proxy, garbage(), silence, answers(500)],
    ids=["cut", "gateway", "half an answer", "silence", "broken"],
)
@pytest.mark.asyncio
async def test_created_and_not_told(
    after: Fault, forge: FakeForge, github: Github, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pull request whose answer was lost is found and returned; it is never asked for again."""
    monkeypatch.setattr(client, "_REQUEST_S_MAX", 0.5)
    forge.fail("POST", "/pulls", taken_then(forge, after))
    assert (await github().create(WANTED)).number == 1
    assert (len(forge.posts), len(forge.pulls)) == (1, 1)


@pytest.mark.parametrize("fault", [hung_up, silence])
@pytest.mark.asyncio
async def test_not_created_and_not_told(
    fault: Fault, forge: FakeForge, github: Github, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody said what became of it and it is not there, that is unknown: no second try."""
    monkeypatch.setattr(client, "_REQUEST_S_MAX", 0.5)
    monkeypatch.setattr(client, "_LOOK_AGAIN_S", (0.0, 0.1))
    forge.fail("POST", "/pulls", fault)
    assert (await refused(github().create(WANTED))).code is ErrorCode.UNKNOWN_OUTCOME
    assert (len(forge.posts), forge.pulls) == (1, [])


@pytest.mark.asyncio
async def test_a_look_that_fails_is_unknown(forge: FakeForge, github: Github) -> None:
    """Without an answer to the look nothing is asked again."""
    forge.fail("POST", "/pulls", taken_then(forge, hung_up))
    forge.fail("GET", "/pulls", *[answers(500)] * 4)
    assert (await refused(github().create(WANTED))).code is ErrorCode.UNKNOWN_OUTCOME
    assert len(forge.posts) == 1


@pytest.mark.asyncio
async def test_created_at_the_second_try(forge: FakeForge, github: Github) -> None:
    """A forge that broke and has nothing is asked again, after a look; a limit after its time."""
    forge.fail("POST", "/pulls", answers(502), limited(1))
    assert (await github().create(WANTED)).number == 1
    kinds = [(one.method, one.path.rpartition("/")[2]) for one in forge.asked]
    assert kinds == [("POST", "pulls"), ("GET", "pulls"), ("POST", "pulls"), ("POST", "pulls")]
    assert len(forge.pulls) == 1


@pytest.mark.asyncio
async def test_somebody_else_was_first(forge: FakeForge, github: Github) -> None:
    """A pull request that appeared since the look is named, and is not taken for ours."""
    forge.open(BRANCH)
    exists = await refused(github().create(WANTED))
    assert (exists.code, exists.details["number"]) == (ErrorCode.EXISTS, 1)
    assert exists.details["url"] == forge.pulls[0]["html_url"]
    forge.pulls.clear()

    def first(_: Any) -> Any:
        forge.open(BRANCH)
        return answers(500)(_)

    forge.fail("POST", "/pulls", first)
    assert (await refused(github().create(WANTED))).code is ErrorCode.EXISTS
    assert len(forge.pulls) == 1


@pytest.mark.asyncio
async def test_answers_that_lack_something(forge: FakeForge, github: Github) -> None:
    """A pull request without a number, or with an address that is none, is no answer."""
    for change in ({"number": None}, {"html_url": "javascript:alert(1)"}, {"head": {}}):
        forge.pulls.clear()
        forge.open(BRANCH, **change)
        forge.fail("GET", "/pulls", lambda _: reply(forge.pulls))
        failed = await refused(github().pulls_from(BRANCH))
        assert failed.code is ErrorCode.FORGE_FAILED


@pytest.mark.asyncio
async def test_an_answer_without_end(forge: FakeForge, github: Github, monkeypatch: Any) -> None:
    """An answer of more bytes than anything of ours needs is not held."""
    monkeypatch.setattr(client, "_ANSWER_BYTES_MAX", 1000)
    forge.open(BRANCH, title="x" * 2000)
    assert (await refused(github().pulls_from(BRANCH))).code is ErrorCode.FORGE_FAILED
