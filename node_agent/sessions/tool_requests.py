"""What an agent asks or tells by a tool, beside its protocol: each as one transaction.

A question by a tool is a request as any other. Its key is the call's own, so that asked again by a
tool server that was cut off it is the same request, also once it is answered. The tool's caller is
told by whoever waits for it, never by the agent's machine.
"""

from typing import Final

import msgspec

from node_agent.acp.steps import Reply
from node_agent.request_drafts import TEXT_BYTES_MAX, Draft
from node_agent.run_context import OpenRequest
from node_agent.sessions.shown_text import ShownText
from node_agent.sessions.step_facts import Talk, settle_phase
from node_agent.stamps import new_id
from node_agent.store import attempts, messages, requests, sessions, turns
from node_agent.store.errors import NotStored
from node_agent.store.requests import TOOL_KEY
from node_agent.store.transaction import Transaction
from protocol.agent_tools import AskHuman, ReportProgress
from protocol.conversation import (
    AgentRequest,
    AuthorKind,
    Message,
    MessageRole,
    RequestKind,
    RequestOption,
    RequestStatus,
    cut_text,
)
from protocol.entities import Execution
from protocol.errors import ErrorCode, OperationError

_TITLE_CHARACTERS_MAX: Final = 120
#: A question that was put and is so is not put a second time.
_GOES_ON: Final = frozenset({RequestStatus.OPEN, RequestStatus.ANSWERED})


async def running_execution(
    tx: Transaction, attempt_id: str, execution_id: str | None
) -> Execution:
    """Return the execution of an attempt that uses a tool. Raises CONFLICT where it has ended."""
    running = await attempts.running_of(tx, attempt_id)
    for execution in running:
        if execution_id in {None, execution.id}:
            return execution
    raise OperationError(
        ErrorCode.CONFLICT,
        "this attempt runs nothing now that could use a tool",
        hint="Tools are for the program of an attempt, while it runs.",
    )


async def ask(
    tx: Transaction,
    execution: Execution,
    call_key: str,
    asked: AskHuman,
    shown: ShownText,
    open_request: OpenRequest,
    at_ms: int,
) -> AgentRequest:
    """Open the question of a tool's call, or return the one that is asked already.

    That is the one of the same call, or of one with the same question whose caller waited no longer
    and has not heard of an answer.
    """
    key = TOOL_KEY + call_key
    before = await requests.by_key(tx, execution.id, key)
    if before is not None:
        return before
    session = await sessions.newest_of(tx, execution.attempt_id)
    turn = await turns.running(tx, execution.attempt_id)
    text, _ = shown.text(asked.question)
    lines = text.strip().splitlines() or [text]
    draft = Draft(
        execution_id=execution.id,
        key=key,
        attempt_id=execution.attempt_id,
        kind=RequestKind.QUESTION,
        title=lines[0][:_TITLE_CHARACTERS_MAX],
        session_id=None if session is None else session.id,
        turn_id=None if turn is None else turn.id,
        message_id=None if session is None else new_id(),
        text=text,
        options=[
            RequestOption(id=str(number), name=shown.text(option)[0])
            for number, option in enumerate(asked.options, 1)
        ],
        form=shown.form(asked.form),
        free_text=not asked.options and asked.form is None,
    )
    for waiting in await requests.undelivered_of_tools(tx, execution.id):
        if waiting.status in _GOES_ON and _same_question(waiting, draft):
            return waiting
    request = await open_request(tx, draft, at_ms)
    if session is not None and draft.message_id is not None:
        question = Message(
            id=draft.message_id,
            session_id=session.id,
            attempt_id=execution.attempt_id,
            turn_id=draft.turn_id,
            execution_id=execution.id,
            seq=0,
            role=MessageRole.QUESTION,
            author_kind=AuthorKind.AGENT,
            content=text,
            request_id=request.id,
        )
        await messages.save(tx, question, at_ms)
    await settle_phase(tx, _talk(request), at_ms)
    return request


async def is_settled(tx: Transaction, attempt_id: str, request_id: str) -> bool:
    """Whether a question of this attempt is settled. Raises NotStored where it has none such."""
    request = await requests.get(tx, request_id)
    if request.attempt_id != attempt_id:
        raise NotStored("request", request_id)
    return request.status is not RequestStatus.OPEN


async def hand_over(tx: Transaction, request_id: str, at_ms: int) -> dict[str, object]:
    """Pass on a question that is settled: return it as the agent is told of it.

    A secret in the answer is the agent's alone. Asked again by a caller that was cut off, it is the
    same answer for as long as the program runs: half of it would be another one.
    """
    request = await requests.get(tx, request_id)
    reply = await requests.reply_of(tx, request_id)
    if reply is not None and await requests.delivered(tx, request_id, keeps_reply=True):
        await settle_phase(tx, _talk(request), at_ms)
    return _words(request, reply)


async def report(
    tx: Transaction, execution: Execution, told: ReportProgress, shown: ShownText, at_ms: int
) -> bool:
    """Write how far the work is into the transcript; False where the attempt has none."""
    session = await sessions.newest_of(tx, execution.attempt_id)
    if session is None:
        return False
    turn = await turns.running(tx, execution.attempt_id)
    said = told.text if told.percent is None else f"{told.text} ({told.percent} %)"
    text, cut = shown.text(said)
    message = Message(
        id=new_id(),
        session_id=session.id,
        attempt_id=execution.attempt_id,
        turn_id=None if turn is None else turn.id,
        execution_id=execution.id,
        seq=0,
        role=MessageRole.SYSTEM,
        author_kind=AuthorKind.AGENT,
        content=text,
        truncated=cut,
    )
    await messages.save(tx, message, at_ms)
    # The count of messages stands with the session.
    await sessions.save(tx, session, at_ms)
    return True


def _same_question(request: AgentRequest, draft: Draft) -> bool:
    asked = (request.text, request.options, request.form)
    text, _ = cut_text(draft.text, TEXT_BYTES_MAX)
    return asked == (text, list(draft.options), draft.form)


def _words(request: AgentRequest, reply: Reply | None) -> dict[str, object]:
    answer = request.answer
    if request.status is not RequestStatus.ANSWERED or answer is None:
        return {"status": request.status.value, "reason": request.reason or ""}
    said: dict[str, object] = {"status": "answered", "by": answer.by}
    if answer.option is not None:
        names = [one.name for one in request.options if one.id == answer.option]
        said["answer"] = names[0] if names else answer.option
    elif answer.form is not None:
        said["answer"] = msgspec.to_builtins(answer.form if reply is None else reply.form)
    else:
        said["answer"] = (answer.text if reply is None else reply.text) or ""
    return said


def _talk(request: AgentRequest) -> Talk:
    return Talk(request.attempt_id, request.session_id or "", request.execution_id or "")
