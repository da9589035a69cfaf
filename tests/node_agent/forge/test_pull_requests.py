"""GitHub's answers as values of ours."""

import msgspec
import pytest

from node_agent.forge.places import Place
from node_agent.forge.pull_requests import (
    FAILURES_MAX,
    CheckRun,
    Pull,
    Status,
    checks_of,
    entity_of,
    from_branch,
    reply_of,
    says_exists,
    says_no_target,
    told,
)
from protocol.entities import PullRequest
from protocol.pull_requests import PrChecks

TIP = {"ref": "work", "sha": "a" * 40, "repo": {"full_name": "Acme/Widgets"}}
PULL = {
    "number": 7,
    "html_url": "https://github.com/acme/widgets/pull/7",
    "state": "open",
    "title": "Do it",
    "head": TIP,
    "base": {**TIP, "ref": "main"},
    "node_id": "PR_1",
}


def pull(**changes: object) -> Pull:
    """A pull request as the API writes it."""
    return msgspec.convert({**PULL, **changes}, Pull)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "open"),
        ({"draft": True}, "draft"),
        ({"state": "closed"}, "closed"),
        ({"state": "closed", "draft": True}, "closed"),
        ({"state": "closed", "merged_at": "2026-01-01T00:00:00Z"}, "merged"),
    ],
)
def test_states(changes: dict[str, object], state: str) -> None:
    """Draft, merged and closed are told apart."""
    entity = entity_of(pull(**changes))
    assert entity == PullRequest(url=str(PULL["html_url"]), number=7, state=state)


def test_whether_it_can_be_merged() -> None:
    """That is not known at first, and means nothing once it is closed."""
    assert reply_of(pull(), PrChecks(), 1).mergeable is None
    assert (
        reply_of(pull(mergeable=False, mergeable_state="dirty"), PrChecks(), 1).mergeable is False
    )
    assert reply_of(pull(mergeable=True, state="closed"), PrChecks(), 1).mergeable is None


def test_only_the_branch_of_this_repository() -> None:
    """Forks have branches of the same names."""
    place = Place("acme", "widgets")
    ours = pull()
    others = [
        pull(head={**TIP, "ref": "other"}),
        pull(head={**TIP, "repo": {"full_name": "mallory/widgets"}}),
        pull(head={**TIP, "repo": None}),
    ]
    assert from_branch([*others, ours], place, "work") == [ours]


def test_the_sum_of_checks() -> None:
    """One that failed outweighs those to come, and those outweigh what passed."""
    passed = [CheckRun("a", "completed", one) for one in ("success", "neutral", "skipped")]
    assert checks_of([], []).state == "none"
    assert checks_of(passed, [Status("b", "success")]).state == "passed"
    assert checks_of([*passed, CheckRun("c", "queued")], []).state == "pending"
    assert checks_of(passed, [], more=1).pending == 1
    checks = checks_of([*passed, CheckRun("c", "in_progress")], [Status("d" * 999, "error")])
    assert (checks.state, checks.total, checks.passed) == ("failed", 5, 3)
    assert checks.failures == ["d" * 200]
    many = checks_of([CheckRun(str(n), "completed", "failure") for n in range(99)], [])
    assert (many.failed, len(many.failures)) == (99, FAILURES_MAX)


def test_what_errors_say() -> None:
    """The two refusals that mean something of their own are known in every documented form."""
    exists = {"code": "custom", "message": "A pull request already exists for acme:work."}
    for errors in (
        [exists],
        [{"code": "already_exists"}],
        "A pull request already exists",
        [1, exists],
    ):
        assert says_exists(errors)
    for errors in ([], None, "no", [{"code": "custom"}], [[]]):
        assert not says_exists(errors)
        assert not says_no_target(errors)
    assert says_no_target([{"field": "base", "code": "invalid"}])
    assert not says_no_target([{"field": "head", "code": "invalid"}])
    assert told(["odd", {"code": 1}]) == [{"message": "odd"}, {"code": "1"}]
