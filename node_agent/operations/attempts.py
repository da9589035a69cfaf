"""`start` and `stop`: what begins and ends attempts.

A start is one transaction with its key, so there is no INTENT to settle; a stop is asked again
after a crash, which does no harm.
"""

from typing import Protocol

from node_agent.attempt_runner import StartKey
from node_agent.operations.asking import Asking
from node_agent.store import attempts
from node_agent.store.database import Database
from protocol.attempt_requests import AttemptReply, StartRequest, StopRequest
from protocol.entities import Attempt, OperationRecord
from protocol.errors import ErrorCode, OperationError
from protocol.operation_values import Request


class Runner(Protocol):
    """What starts and stops attempts."""

    async def start(
        self, request: StartRequest, key: StartKey, *, fence: str | None = None
    ) -> AttemptReply: ...

    async def stop(self, attempt_id: str, grace_s: float | None = None) -> AttemptReply: ...


class AttemptOperations:
    """Starts and stops attempts through the runner."""

    def __init__(self, database: Database, runner: Runner) -> None:
        self._database = database
        self._runner = runner

    async def start(self, asking: Asking) -> AttemptReply:
        """Begin an attempt of a task."""
        request = asking.request
        assert isinstance(request, StartRequest)  # noqa: S101  the table's own pairing
        if asking.project_id is not None and request.project_id not in {None, asking.project_id}:
            raise OperationError(
                ErrorCode.FORBIDDEN, "the capability is for another project than the request"
            )
        key = StartKey(asking.key or "", asking.body_hash, asking.actor)
        return await self._runner.start(request, key, fence=asking.fence)

    async def stop(self, asking: Asking) -> AttemptReply:
        """Ask an attempt to stop; its end is told by the journal."""
        request = asking.request
        assert isinstance(request, StopRequest)  # noqa: S101  the table's own pairing
        if request.grace_s is not None and not 0 <= request.grace_s <= 3600:
            raise OperationError(ErrorCode.INVALID, "grace_s is 0 to 3600 seconds", field="grace_s")
        await attempt_of(self._database, asking)
        return await self._runner.stop(asking.attempt_id, request.grace_s)

    async def settle_stop(self, record: OperationRecord, request: Request | None) -> AttemptReply:
        """After a crash: ask again, which ends the same whatever was reached before."""
        grace_s = request.grace_s if isinstance(request, StopRequest) else None
        return await self._runner.stop(record.attempt_id or "", grace_s)


async def attempt_of(database: Database, asking: Asking) -> Attempt:
    """Return the attempt that is asked about, if it is of the project the caller may see."""
    attempt = await database.read(attempts.find, asking.attempt_id)
    foreign = (
        attempt is not None
        and None not in {asking.project_id, attempt.project_id}
        and (asking.project_id != attempt.project_id)
    )
    if attempt is None or foreign:
        raise OperationError(
            ErrorCode.NOT_FOUND,
            f"this node has no attempt {asking.attempt_id!r}",
            hint="node-agent attempts, on the node, lists what it has.",
        )
    return attempt
