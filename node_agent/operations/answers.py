"""`answer`, as an operation: what a person says to what an agent asks."""

from collections.abc import Callable
from typing import Any

import msgspec

from node_agent.attempt_secrets import secrets_of_attempt
from node_agent.operations.asking import Asking
from node_agent.operations.attempts import attempt_of
from node_agent.redaction import Redactor
from node_agent.sessions.request_steps import take_answer
from node_agent.stamps import now_ms
from node_agent.store import requests
from node_agent.store.database import Database
from node_agent.store.errors import NotStored
from node_agent.turn_steps import done_record
from protocol.answer_requests import AnswerRequest
from protocol.conversation import AgentRequest, Answer


class AnswerOperations:
    """Takes in people's answers. `secrets` gives the node's values to hide, as they are now."""

    def __init__(self, database: Database, secrets: Callable[[], list[bytes]]) -> None:
        self._database = database
        self._secrets = secrets

    async def answer(self, asking: Asking) -> AgentRequest:
        """Settle a request with an answer; its agent gets it from the store."""
        request = asking.request
        assert isinstance(request, AnswerRequest)  # noqa: S101  the table's own pairing
        found = await self._database.read(requests.find, request.request_id)
        if found is None or found.attempt_id != asking.attempt_id:
            raise NotStored(
                "request", request.request_id, hint="node-agent requests, on the node, lists them."
            )
        await attempt_of(self._database, asking)
        given = Answer(
            option=request.option,
            text=request.text,
            form=request.form,
            by=asking.actor,
            at_ms=now_ms(),
        )
        record = done_record(
            asking.operation.name, asking.key or "", asking.attempt_id, asking.actor
        )
        own = await self._database.read(secrets_of_attempt, found.attempt_id)
        return await self._database.write(
            take_answer,
            found.id,
            given,
            record,
            asking.body_hash,
            shown=_shown(given, Redactor([*self._secrets(), *own])),
        )


def _shown(given: Answer, redactor: Redactor) -> Answer:
    """Return the answer as others see it: the agent alone gets a secret that is in it."""
    if given.option is not None:
        return given
    return msgspec.structs.replace(
        given, text=_hidden(redactor, given.text), form=_hidden(redactor, given.form)
    )


def _hidden(redactor: Redactor, value: Any) -> Any:
    match value:
        case str():
            return redactor.whole(value.encode("utf-8", "replace")).decode("utf-8", "replace")
        case dict():
            return {name: _hidden(redactor, one) for name, one in value.items()}
        case list():
            return [_hidden(redactor, one) for one in value]
    return value
