"""Steps of requests: opened under a policy, answered with a key, remembered for the session."""

from pathlib import Path

import pytest

from node_agent.sessions.request_answers import NoAnswer
from node_agent.sessions.request_steps import RequestPolicy, take_answer
from node_agent.store import operations, requests
from node_agent.store.database import Database
from node_agent.store.requests import AlreadySettled
from node_agent.turn_steps import done_record
from protocol.conversation import AgentRequest, Answer, RequestStatus
from protocol.errors import ErrorCode, OperationError
from protocol.request_rules import RequestRules
from tests.node_agent.sessions.request_store import HOUR_MS, draft, opened


async def answered(
    database: Database, request: AgentRequest, key: str, *, body: str = "hash", **given: str
) -> AgentRequest:
    """Answer as ann, under a key."""
    answer = Answer(by="ann", at_ms=9, **given)
    record = done_record("answer", key, request.attempt_id, "ann")
    return await database.write(take_answer, request.id, answer, record, body, shown=answer)


@pytest.mark.asyncio
async def test_by_default_a_person_is_asked(tmp_path: Path):
    """A request is open, for as long as the node gives people."""
    async with opened(tmp_path) as database:
        request = await database.write(RequestPolicy().open, draft(), 5)
        assert (request.status, request.deadline_ms) == (RequestStatus.OPEN, 5 + 24 * HOUR_MS)


@pytest.mark.asyncio
async def test_a_rule_of_the_project_answers_and_is_seen(tmp_path: Path):
    """Rules came with the start; the answer says which it was, and the agent gets it once."""
    rules = RequestRules(allow=["execute:Bash:make *"])
    async with opened(tmp_path, rules) as database:
        policy = RequestPolicy(deadline_ms=None)
        request = await database.write(policy.open, draft(), 5)
        assert request.status is RequestStatus.ANSWERED
        assert request.answer == Answer(
            option="yes", by="project: allow execute:Bash:make *", by_kind="policy", at_ms=5
        )
        assert await database.write(policy.open, draft(), 6) == request
        (waiting,) = await database.read(requests.undelivered, "e")
        assert waiting.reply.option == "yes"
        other = await database.write(policy.open, draft("2", "rm -rf /"), 7)
        assert other.status is RequestStatus.OPEN


@pytest.mark.asyncio
async def test_the_nodes_owner_denies_what_a_project_allows(tmp_path: Path):
    """Deny goes before allow, wherever each stands."""
    async with opened(tmp_path, RequestRules(allow=["*"])) as database:
        policy = RequestPolicy(rules=RequestRules(deny=["execute"]))
        request = await database.write(policy.open, draft(), 5)
        assert request.answer is not None
        assert (request.answer.option, request.answer.by) == ("no", "node: deny execute")


@pytest.mark.asyncio
async def test_always_holds_for_the_session_alone(tmp_path: Path):
    """The same asked again in the session has its answer; in another, or another wish, has not."""
    async with opened(tmp_path) as database:
        policy = RequestPolicy()
        first = await database.write(policy.open, draft("1"), 5)
        await answered(database, first, "k", option="always")
        again = await database.write(policy.open, draft("2"), 6)
        assert again.answer is not None
        assert (again.answer.option, again.answer.by_kind) == ("yes", "policy")
        assert "ann" in again.answer.by
        for other in (draft("3", "make all"), draft("4", session_id="other")):
            request = await database.write(policy.open, other, 7)
            assert request.status is RequestStatus.OPEN


@pytest.mark.asyncio
async def test_a_key_answers_once(tmp_path: Path):
    """The same key again finds the reply; with other content, or another key, it is refused."""
    async with opened(tmp_path) as database:
        request = await database.write(RequestPolicy().open, draft(), 5)
        with pytest.raises(NoAnswer):
            await answered(database, request, "k", option="perhaps")
        # What was refused has used up no key.
        settled = await answered(database, request, "k", option="yes")
        assert await answered(database, request, "k", option="yes") == settled
        with pytest.raises(OperationError) as reused:
            await answered(database, request, "k", body="another", option="no")
        assert reused.value.code is ErrorCode.KEY_REUSED
        with pytest.raises(AlreadySettled) as late:
            await answered(database, request, "k2", option="no")
        assert late.value.details["answer"]["by"] == "ann"
        assert await database.read(operations.find, "k2") is None
