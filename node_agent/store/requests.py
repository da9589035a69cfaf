"""What agents ask of people: opened once, settled once, passed to the agent once; each with its op.

Functions take the transaction they work in, so that a request and the step that made it are one
commit. Must not decide who may answer, nor what: a policy, a person or a deadline does.
"""

from typing import Any, Final, NamedTuple

import msgspec

from node_agent.acp.steps import Reply
from node_agent.request_drafts import Draft, request_of, too_large
from node_agent.stamps import new_id
from node_agent.store.errors import NotStored
from node_agent.store.journal import save as save_state
from node_agent.store.journal import state_of
from node_agent.store.transaction import Row, Transaction
from protocol.conversation import (
    AgentRequest,
    Answer,
    RequestStatus,
)
from protocol.errors import ErrorCode, OperationError
from protocol.ops import OpKind

#: What the keys of questions begin with that came by a tool: the agent's machine has none such.
TOOL_KEY: Final = "tool:"
#: A person is reminded when so much of the time to answer is over.
REMIND_AT: Final = (0.5, 0.9)
PART_CHARACTERS_MIN: Final = 8
_HINT: Final = "Give its id, or 8 or more of its first or last digits; `requests` lists them."


class Undelivered(NamedTuple):
    """A settled request that the agent has not heard of, and what it is to be told."""

    key: str
    request: AgentRequest
    reply: Reply


class RequestChanged(NamedTuple):
    """Told to the database's listeners once a request was opened, settled or passed on."""

    request_id: str
    attempt_id: str
    execution_id: str
    status: RequestStatus


class AlreadySettled(OperationError):  # noqa: N818  named as its code is
    """The request was settled before: what was said, by whom and when stands in `details`."""

    def __init__(self, request: AgentRequest) -> None:
        answer = request.answer
        details: dict[str, Any] = {
            "request_id": request.id,
            "status": request.status.value,
            "settled_at_ms": request.settled_at_ms,
        }
        if request.status is RequestStatus.ANSWERED and answer is not None:
            code = ErrorCode.ALREADY_ANSWERED
            message = f"{answer.by or 'someone'} has answered this: {said(request)}"
            hint = "The first answer counts; the agent has it or gets it."
            details["answer"] = msgspec.to_builtins(answer)
        elif request.status is RequestStatus.EXPIRED:
            code = ErrorCode.EXPIRED
            message = "nobody answered this in time, and the agent was told so"
            hint = "Send the agent a follow-up instead."
        else:
            code = ErrorCode.CANCELLED
            message = f"the agent no longer asks: {request.reason or 'it was cancelled'}"
            hint = "Send the agent a follow-up instead."
        super().__init__(code, message, hint=hint)
        self.details = details


def said(request: AgentRequest) -> str:
    """Return what a request was answered, in few words."""
    answer = request.answer
    if answer is None:
        return "nothing"
    if answer.option is not None:
        names = [one.name for one in request.options if one.id == answer.option]
        return names[0] if names else answer.option
    if answer.text is not None:
        return answer.text if len(answer.text) <= 80 else answer.text[:79] + "…"
    return "a filled form"


# --- opening --------------------------------------------------------------------------------------

_BY_KEY = """
SELECT id FROM request WHERE execution_id = :execution_id AND key = :key AND delivered = 0
"""
_INSERT = """
INSERT INTO request (id, execution_id, key, attempt_id, turn_id, session_id, status, opened_at_ms,
    deadline_ms, remind_at_ms, delivered)
VALUES (:id, :execution_id, :key, :attempt_id, :turn_id, :session_id, :status, :opened_at_ms,
    :deadline_ms, :remind_at_ms, 0)
"""


async def open_request(
    tx: Transaction, draft: Draft, *, at_ms: int, deadline_ms: int | None
) -> AgentRequest:
    """Open a request, or return the one that was opened under its key before.

    One that no person could answer whole, because its form or its options are too large, is
    cancelled at once, and says why.
    """
    row = await tx.fetch_one(_BY_KEY, {"execution_id": draft.execution_id, "key": draft.key})
    if row is not None:
        return await get(tx, row["id"])
    request = request_of(draft, new_id(), at_ms, deadline_ms)
    await tx.execute(
        _INSERT,
        {
            "id": request.id,
            "execution_id": draft.execution_id,
            "key": draft.key,
            "attempt_id": draft.attempt_id,
            "turn_id": draft.turn_id,
            "session_id": draft.session_id,
            "status": RequestStatus.OPEN.value,
            "opened_at_ms": at_ms,
            "deadline_ms": deadline_ms,
            "remind_at_ms": _remind_at_ms(request),
        },
    )
    unshown = too_large(draft)
    if unshown is None:
        await _save(tx, request, draft.execution_id, at_ms)
        return request
    bare = msgspec.structs.replace(request, options=[], form=None)
    return await _settle(tx, bare, RequestStatus.CANCELLED, at_ms, reason=unshown)


_EVER_BY_KEY = """
SELECT id FROM request WHERE execution_id = :execution_id AND key = :key ORDER BY id DESC LIMIT 1
"""


async def by_key(tx: Transaction, execution_id: str, key: str) -> AgentRequest | None:
    """Return the newest request that was opened under a key, settled and passed on or not."""
    row = await tx.fetch_one(_EVER_BY_KEY, {"execution_id": execution_id, "key": key})
    return None if row is None else await get(tx, row["id"])


# --- settling: once -------------------------------------------------------------------------------


async def answer(
    tx: Transaction, request_id: str, given: Answer, *, shown: Answer | None = None
) -> AgentRequest:
    """Settle a request with an answer. Raises AlreadySettled where it is not open any more.

    `shown` is what people see of it where the answer itself holds a secret.
    """
    request = await get(tx, request_id)
    if request.status is not RequestStatus.OPEN:
        raise AlreadySettled(request)
    reply = Reply(option=given.option, text=given.text, form=given.form)
    return await _settle(
        tx, request, RequestStatus.ANSWERED, given.at_ms, answer=shown or given, reply=reply
    )


async def cancel(tx: Transaction, request_id: str, reason: str, at_ms: int) -> AgentRequest:
    """Settle a request without an answer; the agent is told. One that is settled stays as it is."""
    request = await get(tx, request_id)
    if request.status is not RequestStatus.OPEN:
        return request
    return await _settle(tx, request, RequestStatus.CANCELLED, at_ms, reason=reason)


async def withdraw(
    tx: Transaction, execution_id: str, key: str, reason: str, at_ms: int
) -> AgentRequest | None:
    """Write down that the agent waits for this no longer; nothing is passed on to it any more.

    An answer that was on its way stays an answer, and says that it came too late. None: the agent
    waited for nothing under this key.
    """
    row = await tx.fetch_one(_BY_KEY, {"execution_id": execution_id, "key": key})
    if row is None:
        return None
    request = await get(tx, row["id"])
    if request.status is RequestStatus.OPEN:
        request = await _settle(tx, request, RequestStatus.CANCELLED, at_ms, reason=reason)
    elif request.status is RequestStatus.ANSWERED:
        late = f"the agent did not wait for the answer: {reason}"
        request = msgspec.structs.replace(request, reason=late)
        await _save(tx, request, execution_id, at_ms)
    await delivered(tx, request.id)
    return request


_FORGET_REPLIES = """
UPDATE request SET reply = NULL WHERE execution_id = :execution_id AND reply IS NOT NULL
"""


async def withdraw_all(tx: Transaction, execution_id: str, reason: str, at_ms: int) -> int:
    """Withdraw all that a process waits for: it has ended. Return how many there were."""
    rows = await tx.fetch_all(_OF_EXECUTION, {"execution_id": execution_id})
    for row in rows:
        await withdraw(tx, execution_id, row["key"], reason, at_ms)
    await tx.execute(_FORGET_REPLIES, {"execution_id": execution_id})
    return len(rows)


_OF_TURN = """
SELECT key FROM request
WHERE execution_id = :execution_id AND turn_id = :turn_id AND delivered = 0 ORDER BY id
"""


async def withdraw_of_turn(
    tx: Transaction, execution_id: str, turn_id: str, reason: str, at_ms: int
) -> None:
    """Withdraw all that a process asked in a turn: nobody waits for it any more."""
    for row in await tx.fetch_all(_OF_TURN, {"execution_id": execution_id, "turn_id": turn_id}):
        await withdraw(tx, execution_id, row["key"], reason, at_ms)


_DUE = """
SELECT id FROM request WHERE status = 'open' AND deadline_ms <= :until_ms
ORDER BY deadline_ms, id LIMIT :limit
"""


async def expire_due(tx: Transaction, until_ms: int, now_ms: int, limit: int) -> list[AgentRequest]:
    """Settle as expired what was to be answered until then; the agent is told of no answer."""
    rows = await tx.fetch_all(_DUE, {"until_ms": until_ms, "limit": limit})
    return [
        await _settle(
            tx,
            await get(tx, row["id"]),
            RequestStatus.EXPIRED,
            now_ms,
            reason="nobody answered in time",
        )
        for row in rows
    ]


# An update of an open row alone: of two that settle it at once, one changes it.
_SET_SETTLED = """
UPDATE request SET status = :status, reply = :reply, settled_at_ms = :at_ms, remind_at_ms = NULL
WHERE id = :id AND status = 'open'
"""


async def _settle(
    tx: Transaction,
    request: AgentRequest,
    status: RequestStatus,
    at_ms: int,
    *,
    reason: str | None = None,
    answer: Answer | None = None,
    reply: Reply | None = None,
) -> AgentRequest:
    changed = await tx.execute(
        _SET_SETTLED,
        {
            "id": request.id,
            "status": status.value,
            "reply": msgspec.msgpack.encode(reply or Reply(cancelled=True)),
            "at_ms": at_ms,
        },
    )
    if not changed:
        raise AlreadySettled(await get(tx, request.id))
    settled = msgspec.structs.replace(
        request, status=status, reason=reason, answer=answer, settled_at_ms=at_ms
    )
    await _save(tx, settled, settled.execution_id or "", at_ms)
    return settled


async def _save(tx: Transaction, request: AgentRequest, execution_id: str, at_ms: int) -> None:
    await save_state(tx, OpKind.REQUEST, request.id, at_ms, request)
    tx.announce(RequestChanged(request.id, request.attempt_id, execution_id, request.status))


# --- reminders ------------------------------------------------------------------------------------

_REMIND_DUE = """
SELECT id FROM request WHERE status = 'open' AND remind_at_ms <= :now_ms
ORDER BY remind_at_ms, id LIMIT :limit
"""
_SET_REMIND = "UPDATE request SET remind_at_ms = :remind_at_ms WHERE id = :id"


async def remind_due(tx: Transaction, now_ms: int, limit: int) -> list[AgentRequest]:
    """Say again of open requests that they wait, where it is time for that."""
    rows = await tx.fetch_all(_REMIND_DUE, {"now_ms": now_ms, "limit": limit})
    reminded = []
    for row in rows:
        request = msgspec.structs.replace(await get(tx, row["id"]), reminded_at_ms=now_ms)
        values = {"id": request.id, "remind_at_ms": _remind_at_ms(request, now_ms)}
        await tx.execute(_SET_REMIND, values)
        await _save(tx, request, request.execution_id or "", now_ms)
        reminded.append(request)
    return reminded


def _remind_at_ms(request: AgentRequest, after_ms: int | None = None) -> int | None:
    """Return when people are reminded of a request next; None where they are not any more."""
    if request.deadline_ms is None:
        return None
    whole_ms = request.deadline_ms - request.opened_at_ms
    for part in REMIND_AT:
        at_ms = request.opened_at_ms + int(whole_ms * part)
        if at_ms > (request.opened_at_ms if after_ms is None else after_ms):
            return at_ms
    return None


_NEXT = """
SELECT min(at_ms) AS at_ms FROM (
    SELECT min(deadline_ms) AS at_ms FROM request WHERE status = 'open'
    UNION ALL SELECT min(remind_at_ms) AS at_ms FROM request WHERE status = 'open'
) AS due
"""


async def next_due_ms(tx: Transaction) -> int | None:
    """Return when the next request is to be reminded of or expires; None where none is."""
    row = await tx.fetch_one(_NEXT)
    return None if row is None else row["at_ms"]


# --- passing on: once -----------------------------------------------------------------------------

_OF_EXECUTION = """
SELECT id, key FROM request WHERE execution_id = :execution_id AND delivered = 0 ORDER BY id
"""
_UNDELIVERED = """
SELECT id, key, reply FROM request
WHERE execution_id = :execution_id AND delivered = 0 AND status <> 'open'
    AND key NOT LIKE 'tool:%'
ORDER BY settled_at_ms, id
"""


async def undelivered(tx: Transaction, execution_id: str) -> list[Undelivered]:
    """Return what an agent's process is still to be told, in the order in which it was settled."""
    rows = await tx.fetch_all(_UNDELIVERED, {"execution_id": execution_id})
    return [Undelivered(row["key"], await get(tx, row["id"]), _reply(row)) for row in rows]


_UNDELIVERED_OF_TOOLS = """
SELECT id FROM request
WHERE execution_id = :execution_id AND delivered = 0 AND key LIKE 'tool:%' ORDER BY id
"""


async def undelivered_of_tools(tx: Transaction, execution_id: str) -> list[AgentRequest]:
    """Return what was asked by tools and not passed on to who asked, settled or not."""
    rows = await tx.fetch_all(_UNDELIVERED_OF_TOOLS, {"execution_id": execution_id})
    return [await get(tx, row["id"]) for row in rows]


_REPLY_OF = """
SELECT reply FROM request WHERE id = :id AND status <> 'open' AND reply IS NOT NULL
"""


async def reply_of(tx: Transaction, request_id: str) -> Reply | None:
    """Return what the agent is to be told, whole; None while it is open, and once forgotten."""
    row = await tx.fetch_one(_REPLY_OF, {"id": request_id})
    return None if row is None else _reply(row)


_SET_DELIVERED = """
UPDATE request SET delivered = 1, reply = CASE WHEN :keeps_reply THEN reply END
WHERE id = :id AND delivered = 0
"""


async def delivered(tx: Transaction, request_id: str, *, keeps_reply: bool = False) -> bool:
    """Write down, beside the line for the agent, that it is passed on; False: it was before.

    `keeps_reply`: whoever asked may not have heard it, and asks again while its program runs.
    """
    values = {"id": request_id, "keeps_reply": int(keeps_reply)}
    return await tx.execute(_SET_DELIVERED, values) > 0


def _reply(row: Row) -> Reply:
    return msgspec.msgpack.decode(row["reply"], type=Reply)


# --- reading --------------------------------------------------------------------------------------


async def find(tx: Transaction, request_id: str) -> AgentRequest | None:
    """Return a request as it stands."""
    body = await state_of(tx, OpKind.REQUEST, request_id)
    return None if body is None else msgspec.msgpack.decode(body, type=AgentRequest)


async def get(tx: Transaction, request_id: str) -> AgentRequest:
    """Return a request as it stands. Raises NotStored."""
    request = await find(tx, request_id)
    if request is None:
        raise NotStored("request", request_id, hint=_HINT)
    return request


_COUNT_OPEN = """
SELECT count(*) AS open FROM request
WHERE status = 'open' AND (:attempt_id IS NULL OR attempt_id = :attempt_id)
"""


async def count_open(tx: Transaction, attempt_id: str | None = None) -> int:
    """Return how many requests wait for an answer, of one attempt or of all."""
    row = await tx.fetch_one(_COUNT_OPEN, {"attempt_id": attempt_id})
    return 0 if row is None else int(row["open"])


_PAGE = """
SELECT id FROM request
WHERE id < :before AND (:status IS NULL OR status = :status)
    AND (:attempt_id IS NULL OR attempt_id = :attempt_id)
ORDER BY id DESC LIMIT :limit
"""
_LAST: Final = "g"


async def page(
    tx: Transaction,
    *,
    limit: int,
    before: str | None = None,
    status: RequestStatus | None = None,
    attempt_id: str | None = None,
) -> list[AgentRequest]:
    """Return requests, newest first, older than the one with the id `before`."""
    rows = await tx.fetch_all(
        _PAGE,
        {
            "before": before or _LAST,
            "status": None if status is None else status.value,
            "attempt_id": attempt_id,
            "limit": limit,
        },
    )
    return [await get(tx, row["id"]) for row in rows]


_BY_PART = """
SELECT id FROM request
WHERE id = :text OR substr(replace(id, '-', ''), 1, :length) = :digits
    OR substr(replace(id, '-', ''), -:length) = :digits
ORDER BY id = :text DESC, id LIMIT 2
"""


async def resolve(tx: Transaction, text: str) -> str:
    """Return the id of the request a person means: its id, or 8 or more first or last digits.

    Raises NotStored, or INVALID where several fit.
    """
    digits = text.strip().lower().replace("-", "")
    if len(digits) < PART_CHARACTERS_MIN:
        raise NotStored("request", text, hint=_HINT)
    values = {"text": text.strip().lower(), "digits": digits, "length": len(digits)}
    rows = await tx.fetch_all(_BY_PART, values)
    if not rows:
        raise NotStored("request", text, hint=_HINT)
    if len(rows) > 1 and rows[0]["id"] != values["text"]:
        raise OperationError(
            ErrorCode.INVALID, f"several requests fit {text!r}", hint="Give more of the id."
        )
    return str(rows[0]["id"])
