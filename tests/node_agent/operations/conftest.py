"""Opened stores with one attempt in them, for tests of the operations."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from node_agent.changes import Changes
from node_agent.config import NodeConfig
from node_agent.forge.credentials import ForgeAccess
from node_agent.operations.asking import LOCAL_ACTOR, Asking, Streamed
from node_agent.store import attempts, checkouts, plans
from node_agent.store.transaction import Transaction
from node_agent.stores import Stores, open_stores
from protocol.attempt_requests import StartRequest
from protocol.entities import Attempt, Checkout, Execution
from protocol.log_chunks import Segment, seal_all
from protocol.operation_values import Request
from protocol.operations import OPERATIONS
from protocol.states import AttemptPhase, ExecutionKind, ExecutionStatus
from protocol.tokens import body_hash
from tests.node_agent.git.repositories import ATTEMPT, Sample

EXECUTION = "01920000-0000-7000-8000-00000e0e0e0e"
CHECKOUT = "01920000-0000-7000-8000-0000c0c0c0c0"


@dataclass
class StoredNode:
    """A node's stores with a checkout, an attempt of it, and one execution."""

    stores: Stores
    attempt: Attempt
    sample: Sample
    worktrees_dir: Path
    changes: Changes = field(default_factory=Changes)

    @property
    def forge(self) -> ForgeAccess:
        """GitHub's own, with no token for it."""
        return ForgeAccess.of(NodeConfig(data_dir=self.worktrees_dir.parent))

    def asking(self, name: str, request: Request | None = None, **more: Any) -> Asking:
        """Ask an operation about the attempt."""
        operation = OPERATIONS[name]
        request = request if request is not None else operation.request()
        fields: dict[str, Any] = {
            "operation": operation,
            "attempt_id": self.attempt.id,
            "request": request,
            "body_hash": body_hash(msgspec.msgpack.encode(request)),
            "actor": LOCAL_ACTOR,
        }
        return Asking(**{**fields, **more})

    async def change(self, **fields: Any) -> Attempt:
        """Save the attempt with some fields changed."""
        self.attempt = msgspec.structs.replace(self.attempt, **fields)
        await self.stores.database.write(attempts.save, self.attempt, 1)
        return self.attempt

    async def started_with(self, environment: dict[str, str]) -> None:
        """Keep what the attempt was started with: this environment."""
        request = StartRequest(command="true", environment=environment)
        await self.stores.database.write(plans.save, self.attempt.id, request)

    async def printed(self, *segments: Segment) -> None:
        """Append to the execution's log, in chunks of one call each."""
        log = await self.stores.chunks.open_log(EXECUTION, self.attempt.id, CHECKOUT)
        chunks = seal_all(
            segments,
            execution_id=EXECUTION,
            chunk_seq=log.next_chunk,
            first_entry=log.next_entry,
        )
        await self.stores.chunks.commit([(chunk, b"") for chunk in chunks])


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """A user's checkout."""
    return Sample.make(tmp_path / "project")


@pytest_asyncio.fixture
async def stored(tmp_path: Path, sample: Sample) -> AsyncIterator[StoredNode]:
    """A node's stores with an attempt that is running."""
    config = NodeConfig(data_dir=tmp_path / "node")
    config.data_dir.mkdir()
    checkout = Checkout(id=CHECKOUT, path=str(sample.path), name="project", identity="root:1")
    attempt = Attempt(
        id=ATTEMPT,
        task_id="t1",
        task_title="Do it",
        checkout_id=CHECKOUT,
        project_identity="root:1",
        project_name="project",
        project_id="p1",
        executor="command",
        branch="skep/do-it-deadbeef",
        target_branch="main",
        base_commit=sample.head,
        executions=[EXECUTION],
        phase=AttemptPhase.CREATED,
    )
    execution = Execution(
        id=EXECUTION,
        attempt_id=ATTEMPT,
        kind=ExecutionKind.AGENT,
        status=ExecutionStatus.RUNNING,
    )

    async def fill(tx: Transaction) -> None:
        await checkouts.save(tx, checkout, 1)
        await attempts.save(tx, attempt, 1)
        await attempts.save_execution(tx, execution, 1)

    async with open_stores(config) as stores:
        await stores.journal.open_epoch(7)
        await stores.database.write(fill)
        made = StoredNode(stores, attempt, sample, config.worktrees_dir)
        undo = stores.chunks.listen(lambda grew: made.changes.changed(grew.execution_id))
        yield made
        undo()


async def whole(answer: Any) -> Any:
    """Return the JSON of a streamed answer."""
    assert isinstance(answer, Streamed)
    assert answer.head.media_type == "application/json"
    return msgspec.json.decode(b"".join([piece async for piece in answer.pieces]))
