"""What a node reports, made quickly: hellos, ops, records, chunks. For tests of the hive."""

from typing import Any

import msgspec

from protocol import digest, ids
from protocol.conversation import (
    AgentRequest,
    AuthorKind,
    Message,
    MessageRole,
    RequestKind,
    Session,
    TurnState,
)
from protocol.entities import (
    Attempt,
    Checkout,
    Execution,
    LocalTask,
    LogEnd,
    NodeState,
    OperationRecord,
)
from protocol.log_chunks import STDOUT, GapChunk, LogChunk, Segment, seal
from protocol.messages import Hello
from protocol.ops import EpochState, Op, OpKind, Record, encode_body
from protocol.states import AttemptOutcome, AttemptPhase, ExecutionKind, ExecutionStatus
from protocol.turn_requests import TurnStatus

NOW_MS = 1_700_000_000_000
NODE = ids.node_id_of(b"a" * 32)
OTHER = ids.node_id_of(b"b" * 32)


def uid(number: int) -> str:
    """An id, the same for the same number."""
    return ids.uuid7(NOW_MS + number, number.to_bytes(10, "big"))


def hello(
    node_id: str = NODE,
    instance: int = 1,
    connect_no: int = 1,
    epochs: list[EpochState] | None = None,
) -> Hello:
    """A verified hello; by default with the one empty epoch of its instance."""
    if epochs is None:
        epochs = [EpochState(instance, 1, 0, digest.EMPTY)]
    return Hello(
        node_id=node_id,
        instance=instance,
        connect_no=connect_no,
        host="hive",
        signature=b"",
        version="0.1.0",
        epochs=epochs,
    )


def op(kind: str, body: msgspec.Struct, entity_id: str | None = None, at_ms: int = NOW_MS) -> Op:
    """An op with this body, about the entity the body names."""
    named = entity_id or getattr(body, "id", None) or getattr(body, "execution_id", "")
    return Op(kind, named, at_ms, encode_body(body))


def record(reported: Op, epoch: int = 0, seq: int = 0) -> Record:
    """The same state as a record."""
    return Record(reported.kind, reported.entity_id, reported.at_ms, reported.body, epoch, seq)


def states(ops: list[Op], epoch: int = 1, first_kept: int = 1) -> EpochState:
    """How a node that wrote `ops` states its epoch."""
    running = digest.running(digest.EMPTY, epoch, 1, ops)
    return EpochState(epoch, first_kept, len(ops), running[-1] if running else digest.EMPTY)


def node_state(**changes: Any) -> Op:
    """What a node says of itself."""
    facts = {"id": NODE, "name": "alpha", "slots": 2, "executors": ["command"], "os": "linux"}
    return op(OpKind.NODE, NodeState(**{**facts, **changes}))


def checkout(number: int = 1, **changes: Any) -> Op:
    """A checkout of the project `shop`."""
    facts = {
        "id": uid(number),
        "path": f"/src/{number}",
        "name": "shop",
        "identity": "example.org/team/shop",
        "default_branch": "main",
    }
    return op(OpKind.CHECKOUT, Checkout(**{**facts, **changes}))


def local_task(number: int = 5, **changes: Any) -> Op:
    """A node's own task."""
    facts = {"id": uid(number), "title": "Mend the door", "created_at_ms": NOW_MS}
    return op(OpKind.TASK, LocalTask(**{**facts, **changes}))


def attempt(number: int = 10, **changes: Any) -> Op:
    """An attempt of the checkout `uid(1)`; running, unless told otherwise."""
    facts = {
        "id": uid(number),
        "task_id": uid(5),
        "task_title": "Mend the door",
        "checkout_id": uid(1),
        "project_identity": "example.org/team/shop",
        "project_name": "shop",
        "executor": "command",
        "branch": f"skep/{number}",
        "phase": AttemptPhase.RUNNING,
        "created_at_ms": NOW_MS + number,
    }
    return op(OpKind.ATTEMPT, Attempt(**{**facts, **changes}))


def session(number: int = 30, **changes: Any) -> Op:
    """A session of the attempt `uid(10)`."""
    facts = {
        "id": uid(number),
        "attempt_id": uid(10),
        "executor": "acp",
        "topic": "Mend the door",
        "created_at_ms": NOW_MS + number,
    }
    return op(OpKind.SESSION, Session(**{**facts, **changes}))


def turn(number: int = 40, **changes: Any) -> Op:
    """A turn of the session `uid(30)` that runs."""
    facts = {
        "id": uid(number),
        "attempt_id": uid(10),
        "session_id": uid(30),
        "status": TurnStatus.RUNNING,
        "prompt": "Mend the door",
        "created_at_ms": NOW_MS + number,
    }
    return op(OpKind.TURN, TurnState(**{**facts, **changes}))


def message(seq: int = 1, number: int = 0, **changes: Any) -> Op:
    """The message of the session `uid(30)` at this place."""
    facts = {
        "id": uid(number or 1000 + seq),
        "session_id": uid(30),
        "attempt_id": uid(10),
        "seq": seq,
        "role": MessageRole.ASSISTANT,
        "author_kind": AuthorKind.AGENT,
        "content": f"said {seq}",
        "created_at_ms": NOW_MS + seq,
        "updated_at_ms": NOW_MS + seq,
    }
    return op(OpKind.MESSAGE, Message(**{**facts, **changes}))


def request(number: int = 40, **changes: Any) -> Op:
    """What the agent of the attempt `uid(10)` asks; open, unless told otherwise."""
    facts = {
        "id": uid(number),
        "attempt_id": uid(10),
        "kind": RequestKind.APPROVAL,
        "title": "Run the tests",
        "opened_at_ms": NOW_MS,
    }
    return op(OpKind.REQUEST, AgentRequest(**{**facts, **changes}))


def ended(number: int = 10, outcome: AttemptOutcome = AttemptOutcome.SUCCEEDED, **more: Any) -> Op:
    """The same attempt, ended."""
    return attempt(number, phase=AttemptPhase.ENDED, outcome=outcome, ended_at_ms=NOW_MS, **more)


def execution(number: int = 20, **changes: Any) -> Op:
    """An execution of the attempt `uid(10)`; running, unless told otherwise."""
    facts = {
        "id": uid(number),
        "attempt_id": uid(10),
        "kind": ExecutionKind.AGENT,
        "argv": ["true"],
        "status": ExecutionStatus.RUNNING,
        "started_at_ms": NOW_MS,
    }
    return op(OpKind.EXECUTION, Execution(**{**facts, **changes}))


def log_end(number: int = 20, chunks: int = 1, entries: int = 1, chain: bytes = b"") -> Op:
    """The end of the log of an execution; with no chain, as an older node says it."""
    end = LogEnd(
        execution_id=uid(number), chunks=chunks, entries=entries, bytes=entries * 6, chain=chain
    )
    return op(OpKind.LOG_END, end)


def operation(key: str = "key-1", **changes: Any) -> Op:
    """A changing operation that the node carried out."""
    facts = {"key": key, "operation": "stop", "attempt_id": uid(10), "started_at_ms": NOW_MS}
    body = OperationRecord(**{**facts, **changes})
    return op(OpKind.OPERATION, body, entity_id=f"digest-of-{key}")


def chunk(
    seq: int = 1, first_entry: int | None = None, number: int = 20, lines: int = 1
) -> LogChunk:
    """Chunk `seq` of a log whose chunks hold `lines` lines each."""
    first = first_entry if first_entry is not None else (seq - 1) * lines + 1
    text = b"".join(b"line %d\n" % n for n in range(first, first + lines))
    return seal(
        [Segment(STDOUT, NOW_MS + seq, text)],
        execution_id=uid(number),
        chunk_seq=seq,
        first_entry=first,
        entries=lines,
    )


def gap(seq: int, through: int, first_entry: int, entries: int, number: int = 20) -> GapChunk:
    """A gap that stands for chunks `seq` to `through`."""
    return GapChunk(
        execution_id=uid(number),
        chunk_seq=seq,
        through_seq=through,
        first_entry=first_entry,
        entries=entries,
        reason="quota",
        bytes=100,
    )
