"""`start` and `stop` as operations: what reaches the runner, and what never does."""

from collections.abc import Mapping

import msgspec
import pytest

from node_agent.attempt_runner import StartKey
from node_agent.operations.attempts import AttemptOperations
from node_agent.script_runs import WantedScript
from node_agent.store.turns import Shown
from protocol.attempt_requests import AttemptReply, ExecutionReply, StartRequest, StopRequest
from protocol.entities import Attempt, Execution, OperationRecord
from protocol.errors import ErrorCode, OperationError
from protocol.states import ExecutionKind, ExecutionStatus
from protocol.turn_requests import FollowUpRequest, GoOnRequest, InterruptRequest, Turn, TurnStatus
from tests.node_agent.operations.conftest import StoredNode


class RecordingRunner:
    """Takes note of what it is asked."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.asked: list[tuple[object, ...]] = []

    async def start(
        self, request: StartRequest, key: StartKey, *, fence: str | None = None
    ) -> AttemptReply:
        self.asked.append(("start", request.command, key, fence))
        return AttemptReply(attempt=self.attempt)

    async def stop(self, attempt_id: str, grace_s: float | None = None) -> AttemptReply:
        self.asked.append(("stop", attempt_id, grace_s))
        return AttemptReply(attempt=self.attempt)

    async def follow_up(self, attempt_id: str, request: FollowUpRequest, key: StartKey) -> Turn:
        self.asked.append(("follow_up", attempt_id, request.command, request.prompt, key))
        return Turn(id="turn", attempt_id=attempt_id, status=TurnStatus.QUEUED, position=1)

    async def interrupt(self, attempt_id: str, request: InterruptRequest, key: StartKey) -> Turn:
        self.asked.append(("interrupt", attempt_id, request.turn, key))
        return Turn(id="turn", attempt_id=attempt_id, status=TurnStatus.RUNNING, no=1)

    async def go_on(self, attempt_id: str, request: GoOnRequest, key: StartKey) -> Turn:
        self.asked.append(("go_on", attempt_id, request.turn, key))
        return Turn(id="turn", attempt_id=attempt_id, status=TurnStatus.RUNNING, no=1)

    async def shown_prompts(
        self, attempt_id: str, prompts: Mapping[str, str | None]
    ) -> dict[str, Shown]:
        return {turn: Shown(text) for turn, text in prompts.items() if text is not None}

    @property
    def scripts(self) -> "RecordingScripts":
        return RecordingScripts(self.asked)


class RecordingScripts:
    """Takes note of the scripts it is to begin."""

    def __init__(self, asked: list[tuple[object, ...]]) -> None:
        self._asked = asked

    async def start(
        self, attempt_id: str, wanted: WantedScript, record: OperationRecord, body_hash: str
    ) -> ExecutionReply:
        self._asked.append(("script", attempt_id, wanted, record.operation, body_hash))
        execution = Execution(
            id="script",
            attempt_id=attempt_id,
            kind=ExecutionKind.SCRIPT,
            script=wanted.name,
            status=ExecutionStatus.RUNNING,
        )
        return ExecutionReply(execution=execution)


@pytest.mark.asyncio
async def test_a_start_carries_its_key_and_fence(stored: StoredNode) -> None:
    """The runner gets the key, the body's hash, the actor and the fence of a start."""
    runner = RecordingRunner(stored.attempt)
    operations = AttemptOperations(stored.stores.database, runner)
    request = StartRequest(command="true", project_id="p1")
    asking = stored.asking(
        "start", request, key="k", actor="ada", fence="1.2", project_id="p1", attempt_id=""
    )
    await operations.start(asking)
    key = StartKey("k", asking.body_hash, "ada")
    assert runner.asked == [("start", "true", key, "1.2")]
    other = msgspec.structs.replace(request, project_id="p2")
    with pytest.raises(OperationError) as caught:
        await operations.start(stored.asking("start", other, key="k2", project_id="p1"))
    assert caught.value.code is ErrorCode.FORBIDDEN
    assert len(runner.asked) == 1


@pytest.mark.asyncio
async def test_a_stop_is_for_an_attempt_that_is_there(stored: StoredNode) -> None:
    """Only a known attempt of the caller's project, with a sensible grace, reaches the runner."""
    runner = RecordingRunner(stored.attempt)
    operations = AttemptOperations(stored.stores.database, runner)
    for asking in (
        stored.asking("stop", attempt_id="none"),
        stored.asking("stop", project_id="p2"),
        stored.asking("stop", StopRequest(grace_s=-1)),
    ):
        with pytest.raises(OperationError):
            await operations.stop(asking)
    assert runner.asked == []
    await operations.stop(stored.asking("stop", StopRequest(grace_s=2.5)))
    record = OperationRecord(key="k", operation="stop", attempt_id=stored.attempt.id)
    await operations.settle_stop(record, StopRequest(grace_s=600))
    await operations.settle_stop(record, None)
    assert runner.asked == [("stop", stored.attempt.id, grace_s) for grace_s in (2.5, 600, None)]
