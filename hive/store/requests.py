"""What agents ask of people as viewers read it, and the answers that wait for their nodes.

The node settles a request; nothing here does. Read only.
"""

import json
from typing import Any, Final

import msgspec

from hive.store.backend import Row, Transaction
from protocol.answer_requests import AnswerRequest
from protocol.conversation import Answer, RequestOption, ToolCall
from protocol.errors import ErrorCode, OperationError

_COLUMNS: Final = """
SELECT request.*, attempt.task_id, attempt.task_title, attempt.project_id, node.name AS node_name
FROM request
JOIN node ON node.id = request.node_id
LEFT JOIN attempt ON attempt.id = request.attempt_id
"""
_SELECT = f"{_COLUMNS} WHERE request.id = :id"
#: Filters of a list, by name: the condition each adds.
_FILTERS: Final = {
    "attempt_id": "request.attempt_id = :attempt_id",
    "task_id": "request.attempt_id IN (SELECT id FROM attempt WHERE task_id = :task_id)",
    "project_id": "attempt.project_id = :project_id",
    "node_id": "request.node_id = :node_id",
    # Of one that its node no longer knows, nobody can answer anything.
    "status": "request.status = :status AND request.forgotten_at_ms IS NULL",
}
_SELECT_WAITING = """
SELECT operation.key, operation.actor, operation.sent_at_ms, deferred_operation.body,
    deferred_operation.expires_at_ms, deferred_operation.held
FROM operation JOIN deferred_operation ON deferred_operation.key = operation.key
WHERE operation.attempt_id = :attempt_id AND operation.operation = 'answer'
    AND operation.status IN ('waiting', 'delivered')
ORDER BY operation.sent_at_ms, operation.key
"""


class SentAnswerRow(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that waits for its node; `held`: since a restore, until a person confirms it."""

    key: str
    by: str
    at_ms: int
    expires_at_ms: int
    held: bool
    answer: AnswerRequest


class RequestRow(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent asks, as its node last told it; `sent` where nobody's answer counts yet."""

    id: str
    node_id: str
    node_name: str
    attempt_id: str
    task_id: str | None
    task_title: str | None
    project_id: str | None
    session_id: str | None
    turn_id: str | None
    execution_id: str | None
    message_id: str | None
    kind: str
    title: str
    text: str
    options: list[RequestOption]
    form: dict[str, Any] | None
    free_text: bool
    tool: ToolCall | None
    status: str
    reason: str | None
    answer: Answer | None
    sent: list[SentAnswerRow]
    deadline_ms: int | None
    reminded_at_ms: int | None
    opened_at_ms: int
    settled_at_ms: int | None
    forgotten_at_ms: int | None


async def get_request(tx: Transaction, request_id: str) -> RequestRow:
    """Return one request. Raises NOT_FOUND."""
    row = await tx.fetch_one(_SELECT, {"id": request_id})
    if row is None:
        raise OperationError(ErrorCode.NOT_FOUND, f"there is no request {request_id}")
    return await _request(tx, row)


async def list_requests(
    tx: Transaction, *, before: tuple[int, str] | None = None, limit: int, **filters: str | None
) -> list[RequestRow]:
    """Return requests, newest first; `before` is opening time and id of the last one before.

    `filters`: attempt_id, task_id, project_id, node_id, status.
    """
    given = {name: value for name, value in filters.items() if value is not None}
    conditions = [_FILTERS[name] for name in given]
    if before is not None:
        conditions.append(
            "(request.opened_at_ms < :opened_at_ms"
            " OR (request.opened_at_ms = :opened_at_ms AND request.id < :id))"
        )
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    opened_at_ms, request_id = before or (0, "")
    rows = await tx.fetch_all(
        f"{_COLUMNS} {where} ORDER BY request.opened_at_ms DESC, request.id DESC LIMIT :limit",
        {**given, "opened_at_ms": opened_at_ms, "id": request_id, "limit": limit},
    )
    return [await _request(tx, row) for row in rows]


async def _request(tx: Transaction, row: Row) -> RequestRow:
    read = {"options", "form", "tool", "answer", "sent", "free_text"}
    values = {name: row[name] for name in RequestRow.__struct_fields__ if name not in read}
    tool, answer, form = row["tool"], row["answer"], row["form"]
    return RequestRow(
        **values,
        options=msgspec.json.decode(row["options"], type=list[RequestOption]),
        form=None if form is None else json.loads(form),
        free_text=bool(row["free_text"]),
        tool=None if tool is None else msgspec.json.decode(tool, type=ToolCall),
        answer=None if answer is None else msgspec.json.decode(answer, type=Answer),
        sent=await _sent(tx, row) if row["status"] == "open" else [],
    )


async def _sent(tx: Transaction, row: Row) -> list[SentAnswerRow]:
    """Return the answers to a request that wait for its node, oldest first."""
    found = []
    for one in await tx.fetch_all(_SELECT_WAITING, {"attempt_id": row["attempt_id"]}):
        answer = msgspec.msgpack.decode(one["body"], type=AnswerRequest)
        if answer.request_id == row["id"]:
            found.append(
                SentAnswerRow(
                    key=one["key"],
                    by=one["actor"],
                    at_ms=one["sent_at_ms"],
                    expires_at_ms=one["expires_at_ms"],
                    held=bool(one["held"]),
                    answer=answer,
                )
            )
    return found
