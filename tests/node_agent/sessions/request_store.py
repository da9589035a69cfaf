"""A node's store with the requests of an attempt's agent, for tests of what is done with them."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from node_agent.request_drafts import Draft
from node_agent.store import attempts, plans
from node_agent.store.database import Database
from node_agent.store.journal import SqliteJournal
from protocol.attempt_requests import StartRequest
from protocol.conversation import RequestKind, RequestOption, ToolCall
from protocol.entities import Attempt, Execution
from protocol.request_rules import RequestRules
from protocol.states import AttemptPhase, ExecutionKind, ExecutionStatus

HOUR_MS = 3_600_000
OPTIONS = (
    RequestOption(id="yes", name="Allow", kind="allow_once"),
    RequestOption(id="always", name="Always", kind="allow_always"),
    RequestOption(id="no", name="Reject", kind="reject_once"),
)


@contextlib.asynccontextmanager
async def opened(folder: Path, rules: RequestRules | None = None) -> AsyncIterator[Database]:
    """A state database with an open epoch, and the plan of attempt `a` with a project's rules."""
    database = await Database.open(folder / "state.db", "state", on_fatal=lambda _: None)
    try:
        await SqliteJournal(database).open_epoch(1)
        await database.write(plans.save, "a", StartRequest(request_rules=rules or RequestRules()))
        yield database
    finally:
        await database.close()


EXECUTION = Execution(
    id="e",
    attempt_id="a",
    kind=ExecutionKind.AGENT,
    argv=["agent"],
    status=ExecutionStatus.RUNNING,
    started_at_ms=1,
)


@contextlib.asynccontextmanager
async def at_work(folder: Path) -> AsyncIterator[Database]:
    """The same, with attempt `a` at work: `EXECUTION` is its agent."""
    attempt = Attempt(
        id="a", task_id="t", task_title="Try", checkout_id="c", project_identity="i",
        project_name="p", executor="acp", branch="b", base_commit="0" * 40,
        executions=[EXECUTION.id], phase=AttemptPhase.CREATED, created_at_ms=1,
    )  # fmt: skip
    async with opened(folder) as database:
        for phase in (AttemptPhase.CREATED, AttemptPhase.PREPARING, AttemptPhase.RUNNING):
            await database.write(attempts.save, msgspec.structs.replace(attempt, phase=phase), 1)
        await database.write(attempts.save_execution, EXECUTION, 1)
        yield database


def draft(key: str = "1", target: str = "make test", **fields: Any) -> Draft:
    """The wish of attempt `a`'s agent to run a command."""
    wanted = {
        "kind": RequestKind.APPROVAL,
        "title": f"Run {target}",
        "options": OPTIONS,
        "tool": ToolCall(id="t", name="Bash", kind="execute", target=target, input=target),
        "session_id": "s",
    }
    return Draft(execution_id="e", key=key, attempt_id="a", **(wanted | fields))
