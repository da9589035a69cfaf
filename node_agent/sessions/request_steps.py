"""What follows what with the requests of agents: each step is one transaction.

A request is opened, and answered by a rule where one fits; a person's answer is taken in, with its
key and with what it says of the whole session. Must not tell the agent: its conversation does.
"""

from typing import Final, NamedTuple

import msgspec

from node_agent.request_drafts import Draft
from node_agent.sessions.request_answers import check_answer
from node_agent.sessions.request_policy import judge, session_rule_of
from node_agent.store import operations, plans, requests, session_rules
from node_agent.store.errors import NotStored
from node_agent.store.requests import AlreadySettled
from node_agent.store.transaction import Transaction
from protocol.conversation import AgentRequest, Answer, RequestStatus
from protocol.entities import OperationRecord
from protocol.request_rules import RequestRules

POLICY: Final = "policy"


class RequestPolicy(NamedTuple):
    """How this node deals with requests: its own rules, and how long people have to answer."""

    rules: RequestRules = RequestRules()
    deadline_ms: int | None = 24 * 3_600_000

    async def open(self, tx: Transaction, draft: Draft, at_ms: int) -> AgentRequest:
        """Open a request; where a rule answers it, it is settled by that at once, and says so."""
        deadline_ms = None if self.deadline_ms is None else at_ms + self.deadline_ms
        request = await requests.open_request(tx, draft, at_ms=at_ms, deadline_ms=deadline_ms)
        if request.status is not RequestStatus.OPEN:
            return request
        said = await session_rules.rules_of(tx, draft.session_id) if draft.session_id else []
        verdict = judge(
            draft, session=said, node=self.rules, project=await _rules_of(tx, draft.attempt_id)
        )
        if verdict is None:
            return request
        answer = Answer(option=verdict.option, by=verdict.rule, by_kind=POLICY, at_ms=at_ms)
        return await requests.answer(tx, request.id, answer)


async def _rules_of(tx: Transaction, attempt_id: str) -> RequestRules:
    """Return the rules of the project, as they were when the attempt began."""
    try:
        return (await plans.get(tx, attempt_id)).request.request_rules
    except NotStored:
        return RequestRules()


async def take_answer(
    tx: Transaction,
    request_id: str,
    given: Answer,
    record: OperationRecord,
    body_hash: str,
    *,
    shown: Answer,
) -> AgentRequest:
    """Settle a request with a person's answer; it, the key and the reply are one commit.

    Raises AlreadySettled, and NoAnswer where the request does not take this one.
    """
    before = await operations.answered_before(tx, record, body_hash)
    if before is not None:
        return msgspec.msgpack.decode(before, type=AgentRequest)
    request = await requests.get(tx, request_id)
    if request.status is not RequestStatus.OPEN:
        raise AlreadySettled(request)
    check_answer(request, given)
    settled = await requests.answer(tx, request_id, given, shown=shown)
    rule = session_rule_of(request.tool, request.options, given.option, given.by)
    if rule is not None and request.session_id is not None:
        await session_rules.keep(tx, request.session_id, rule, given.at_ms)
    await operations.answer(tx, record, body_hash, msgspec.msgpack.encode(settled))
    return settled
