"""GitHub's answers about pull requests, as values of ours. Pure.

Fields nobody here reads are passed over; what lacks one that is needed is no answer.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from node_agent.forge.places import Place
from protocol.entities import PullRequest
from protocol.pull_requests import PrChecks, PrReply

#: Of failed checks, how many a reply names.
FAILURES_MAX: Final = 50
_PASSED: Final = frozenset({"success", "neutral", "skipped"})
_NAME_CHARACTERS_MAX: Final = 200
_ALREADY: Final = "already exists"

_Text = Annotated[str, Meta(max_length=1000)]
_Url = Annotated[str, Meta(max_length=1000, pattern=r"^https?://[^\s]+$")]


class Repo(msgspec.Struct, frozen=True):
    """The repository a branch is in; absent where a fork was deleted."""

    full_name: _Text


class Tip(msgspec.Struct, frozen=True):
    """One end of a pull request."""

    ref: _Text
    sha: _Text
    repo: Repo | None = None


class Pull(msgspec.Struct, frozen=True):
    """A pull request, in a list or alone; only alone it says whether it can be merged."""

    number: int
    html_url: _Url
    state: _Text
    title: str
    head: Tip
    base: Tip
    draft: bool = False
    merged_at: str | None = None
    mergeable: bool | None = None
    mergeable_state: _Text | None = None


class CheckRun(msgspec.Struct, frozen=True):
    """One check of a GitHub App."""

    name: str
    status: _Text
    conclusion: _Text | None = None


class CheckRuns(msgspec.Struct, frozen=True):
    """A page of checks."""

    total_count: int
    check_runs: list[CheckRun]


class Status(msgspec.Struct, frozen=True):
    """One status that something reported by the older way."""

    context: str
    state: _Text


class CombinedStatus(msgspec.Struct, frozen=True):
    """The newest status of each context."""

    statuses: list[Status]


def state_of(pull: Pull) -> str:
    """Return what we call its state."""
    if pull.merged_at is not None:
        return "merged"
    if pull.state != "open":
        return "closed"
    return "draft" if pull.draft else "open"


def entity_of(pull: Pull) -> PullRequest:
    """Return what the attempt keeps of it."""
    return PullRequest(url=pull.html_url, number=pull.number, state=state_of(pull))


def from_branch(pulls: Iterable[Pull], place: Place, branch: str) -> list[Pull]:
    """Return those that come from this branch of this very repository.

    The forge was asked for just these; a filter it does not understand it leaves out in silence.
    """
    return [
        pull
        for pull in pulls
        if pull.head.ref == branch
        and pull.head.repo is not None
        and place.is_named(pull.head.repo.full_name)
    ]


def checks_of(runs: Sequence[CheckRun], statuses: Sequence[Status], more: int = 0) -> PrChecks:
    """Return the sum of all checks; `more` are those nobody listed, and count as pending."""
    verdicts = [(run.name, _verdict_of_run(run)) for run in runs]
    verdicts += [(one.context, _verdict_of_status(one)) for one in statuses]
    counts = {
        name: sum(verdict == name for _, verdict in verdicts)
        for name in ("failed", "pending", "passed")
    }
    counts["pending"] += more
    failures = [name[:_NAME_CHARACTERS_MAX] for name, verdict in verdicts if verdict == "failed"]
    return PrChecks(
        # The worst of them: what failed stands, whatever is still to come.
        state=next((name for name, count in counts.items() if count), "none"),
        total=len(verdicts) + more,
        failures=failures[:FAILURES_MAX],
        **counts,
    )


def _verdict_of_run(run: CheckRun) -> str:
    if run.status != "completed":
        return "pending"
    return "passed" if run.conclusion in _PASSED else "failed"


def _verdict_of_status(status: Status) -> str:
    return {"success": "passed", "pending": "pending"}.get(status.state, "failed")


def reply_of(pull: Pull, checks: PrChecks, as_of_ms: int) -> PrReply:
    """Return how a pull request stands."""
    return PrReply(
        url=pull.html_url,
        number=pull.number,
        state=state_of(pull),
        title=pull.title[:_NAME_CHARACTERS_MAX],
        branch=pull.head.ref,
        target_branch=pull.base.ref,
        head=pull.head.sha,
        mergeable=pull.mergeable if pull.state == "open" else None,
        mergeable_state=pull.mergeable_state,
        checks=checks,
        as_of_ms=as_of_ms,
    )


# --- refusals -------------------------------------------------------------------------------------


def says_exists(errors: Any) -> bool:
    """Whether a 422's errors say that there is such a pull request already."""
    return any(
        _ALREADY in str(one.get("message", "")) or one.get("code") == "already_exists"
        for one in _entries(errors)
    )


def says_no_target(errors: Any) -> bool:
    """Whether a 422's errors say that the branch to pull into is not there."""
    return any(
        one.get("field") == "base" and one.get("code") == "invalid" for one in _entries(errors)
    )


def told(errors: Any) -> list[dict[str, str]]:
    """Return a 422's errors as an error of ours may carry them: few, short, and text alone."""
    return [
        {str(name)[:50]: str(value)[:500] for name, value in list(one.items())[:8]}
        for one in _entries(errors)[:10]
    ]


def _entries(errors: Any) -> list[dict[str, Any]]:
    if not isinstance(errors, list):
        errors = [] if errors is None else [errors]
    return [one if isinstance(one, dict) else {"message": one} for one in errors]
