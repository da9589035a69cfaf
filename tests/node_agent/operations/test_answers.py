"""`answer` as an operation: taken for its own attempt, with its secrets hidden from all but one."""

from typing import Any

import pytest

from node_agent.operations.answers import AnswerOperations
from node_agent.request_drafts import Draft
from node_agent.sessions.request_steps import RequestPolicy
from node_agent.store import requests
from node_agent.store.errors import NotStored
from protocol.answer_requests import AnswerRequest
from protocol.conversation import AgentRequest, RequestKind, RequestStatus
from protocol.errors import ErrorCode, OperationError
from tests.node_agent.operations.conftest import EXECUTION, StoredNode


async def asked(stored: StoredNode, key: str = "1", **fields: Any) -> AgentRequest:
    """Have the attempt's agent ask a question."""
    wanted = {"kind": RequestKind.QUESTION, "title": "Which?", "free_text": True}
    draft = Draft(
        execution_id=EXECUTION, key=key, attempt_id=stored.attempt.id, **(wanted | fields)
    )
    return await stored.stores.database.write(RequestPolicy().open, draft, 5)


def operations_of(stored: StoredNode) -> AnswerOperations:
    """The operation of this node, which knows one secret."""
    return AnswerOperations(stored.stores.database, lambda: [b"hunter2-hunter2"])


@pytest.mark.asyncio
async def test_the_agent_alone_gets_a_secret(stored: StoredNode) -> None:
    """What others see has a mark in its place; who answered stands beside it."""
    await stored.started_with({"API_KEY": "open-sesame-4711"})
    request = await asked(stored)
    given = AnswerRequest(request_id=request.id, text="it is hunter2-hunter2")
    asking = stored.asking("answer", given, key="k", actor="ada")
    settled = await operations_of(stored).answer(asking)
    assert settled.status is RequestStatus.ANSWERED
    assert settled.answer is not None
    assert (settled.answer.text, settled.answer.by) == ("it is ***", "ada")
    assert settled.answer.by_kind == "person"
    (waiting,) = await stored.stores.database.read(requests.undelivered, EXECUTION)
    assert waiting.reply.text == "it is hunter2-hunter2"
    assert await operations_of(stored).answer(asking) == settled
    form = {"type": "object"}
    second = await asked(stored, "2", form=form)
    filled = AnswerRequest(
        request_id=second.id, form={"a": ["hunter2-hunter2", 1, "open-sesame-4711"]}
    )
    settled = await operations_of(stored).answer(stored.asking("answer", filled, key="k2"))
    assert settled.answer is not None
    assert settled.answer.form == {"a": ["***", 1, "***"]}


@pytest.mark.asyncio
async def test_only_for_its_own_attempt_and_project(stored: StoredNode) -> None:
    """What a capability names for another attempt or project settles nothing here."""
    request = await asked(stored)
    given = AnswerRequest(request_id=request.id, text="x")
    for more in ({"attempt_id": "other"}, {"project_id": "p2"}):
        with pytest.raises((NotStored, OperationError)) as caught:
            await operations_of(stored).answer(stored.asking("answer", given, key="k", **more))
        assert caught.value.code is ErrorCode.NOT_FOUND
    unknown = AnswerRequest(request_id="none", text="x")
    with pytest.raises(NotStored):
        await operations_of(stored).answer(stored.asking("answer", unknown, key="k"))
    found = await stored.stores.database.read(requests.get, request.id)
    assert found.status is RequestStatus.OPEN
