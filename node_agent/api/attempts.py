"""Attempts over the local API: lists, one with its executions, and waiting for a change."""

import asyncio
import hashlib
from typing import Any, Final

import msgspec

from node_agent.api.exchange import ApiReply, ApiRequest, reply_json
from node_agent.local_node import JOURNAL, LocalNode
from node_agent.store import attempts as stored
from node_agent.store.transaction import Transaction
from protocol.entities import Attempt, Execution
from protocol.errors import ErrorCode, OperationError
from protocol.states import AttemptOutcome, AttemptPhase

PAGE_MAX: Final = 200
_PAGE_DEFAULT: Final = 50
WAIT_MS_MAX: Final = 30_000
#: Attempts looked at for one page of those with an outcome.
_LOOKED_AT_MAX: Final = 5_000


async def list_attempts(node: LocalNode, asked: ApiRequest) -> ApiReply:
    """Answer a page of attempts, newest first."""
    limit = max(1, asked.number("limit", _PAGE_DEFAULT, at_most=PAGE_MAX))
    phase, outcome = _status(asked.query.get("status"))
    found, following = await node.database.read(
        _page, limit, cursor_of(asked.query.get("cursor")), asked.query.get("task"), phase, outcome
    )
    items = [attempt_json(node, attempt, executions) for attempt, executions in found]
    return reply_json({"items": items, "next": following})


async def show_attempt(node: LocalNode, asked: ApiRequest) -> ApiReply:
    """Answer one attempt; with `version` and `wait_ms`, once it is no longer as that has it."""
    attempt_id = await node.database.read(stored.resolve, asked.path["attempt_id"])
    wait_s = asked.number("wait_ms", 0, at_most=WAIT_MS_MAX) / 1000
    seen = asked.query.get("version")
    with node.changes.watch(JOURNAL) as changed:
        try:
            async with asyncio.timeout(wait_s or None):
                while True:
                    changed.clear()
                    answer = await _versioned(node, attempt_id)
                    if answer["version"] != seen or not wait_s:
                        break
                    await changed.wait()
        except TimeoutError:
            answer = await _versioned(node, attempt_id)
    return reply_json(answer)


async def attempt_answer(node: LocalNode, attempt_id: str) -> dict[str, Any]:
    """Return an attempt as it stands, as the API shows it."""
    return await _versioned(node, attempt_id)


def attempt_json(node: LocalNode, attempt: Attempt, executions: list[Execution]) -> dict[str, Any]:
    """Return an attempt as the API shows it, its executions in full."""
    shown: dict[str, Any] = msgspec.to_builtins(attempt)
    shown["executions"] = msgspec.to_builtins(executions)
    shown["node_id"] = node.record().node_id
    # It is this node's own: nothing stands between.
    shown["reachable"] = True
    return shown


async def _versioned(node: LocalNode, attempt_id: str) -> dict[str, Any]:
    attempt, executions = await node.database.read(_one, attempt_id)
    answer = attempt_json(node, attempt, executions)
    content = msgspec.json.encode(answer)
    answer["version"] = hashlib.blake2b(content, digest_size=8).hexdigest()
    return answer


async def _one(tx: Transaction, attempt_id: str) -> tuple[Attempt, list[Execution]]:
    return await stored.get(tx, attempt_id), await stored.executions_of(tx, attempt_id)


async def _page(
    tx: Transaction,
    limit: int,
    before: tuple[int, str] | None,
    task_id: str | None,
    phase: str | None,
    outcome: str | None,
) -> tuple[list[tuple[Attempt, list[Execution]]], str | None]:
    found: list[Attempt] = []
    looked_at = 0
    more = True
    # One more than is shown, so that a last page knows that it is the last.
    while more and len(found) <= limit and looked_at < _LOOKED_AT_MAX:
        page = await stored.page(tx, limit=limit + 1, before=before, task_id=task_id, phase=phase)
        more = len(page) > limit
        looked_at += len(page)
        found += [attempt for attempt in page if outcome is None or attempt.outcome == outcome]
        before = _place(page[-1]) if page else before
    if len(found) > limit:
        found, before, more = found[:limit], _place(found[limit - 1]), True
    following = f"{before[0]}.{before[1]}" if more and before else None
    return [(attempt, await stored.executions_of(tx, attempt.id)) for attempt in found], following


def _place(attempt: Attempt) -> tuple[int, str]:
    """Return where an attempt stands in the list."""
    return attempt.created_at_ms, attempt.id


def _status(text: str | None) -> tuple[str | None, str | None]:
    """Return what a status asks of phase and outcome."""
    if text is None:
        return None, None
    if text in {phase.value for phase in AttemptPhase}:
        return text, None
    if text in {outcome.value for outcome in AttemptOutcome}:
        return AttemptPhase.ENDED.value, text
    known = [*AttemptPhase, *AttemptOutcome]
    raise OperationError(
        ErrorCode.INVALID,
        f"no attempt is ever {text!r}",
        hint=f"Ask for one of: {', '.join(word.value for word in known)}.",
        field="status",
    )


def cursor_of(text: str | None) -> tuple[int, str] | None:
    """Return where a list goes on: when its last one began, and which it is."""
    if text is None:
        return None
    at_ms, _, attempt_id = text.partition(".")
    if not at_ms.isdecimal() or not attempt_id or len(at_ms) > 18:
        raise OperationError(
            ErrorCode.INVALID,
            "this is no cursor of a list",
            hint="Take a list's `next`.",
            field="cursor",
        )
    return int(at_ms), attempt_id
