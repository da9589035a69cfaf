"""Carries a caller's operation to the node that owns the attempt, and tells what became of it.

Owns idempotency at the hive: the key is stored before a changing call leaves, its result after. A
caller that goes away does not take its operation with it. Must not decide who may call (`access`),
nor touch a node's facts: their change comes back as ops.
"""

import asyncio
import contextlib
import hashlib
import logging
import secrets
from collections.abc import Coroutine
from typing import Any, Final, Protocol

import msgspec

from hive.access import Principal
from hive.failpoints import failpoint
from hive.node_registry import NodeStream
from protocol.errors import ErrorBody, ErrorCode, OperationError, SkepError, operation_error
from protocol.operation_values import Request
from protocol.operations import Operation, Role

log = logging.getLogger(__name__)

#: Errors that say the node did nothing and may do it later: the same key tries again.
NOTHING_DONE: Final = frozenset(
    {
        ErrorCode.NODE_OFFLINE,
        ErrorCode.SLOW_DOWN,
        ErrorCode.NODE_FULL,
        ErrorCode.RUNNING,
        ErrorCode.DRAINING,
        ErrorCode.STORE_FULL,
        # Another operation was at work on the attempt.
        ErrorCode.IN_PROGRESS,
    }
)
#: Those of them that may come before the node looks whether it knows the key.
_NOT_HEARD: Final = NOTHING_DONE - {ErrorCode.NODE_FULL, ErrorCode.IN_PROGRESS}
#: What a node says of a call before it answers it, or what is said in its stead.
_NO_ANSWER: Final = NOTHING_DONE | {ErrorCode.UNKNOWN_OUTCOME, ErrorCode.IN_PROGRESS}
#: Changing calls under way at a time; each holds a task and a row.
_UNDER_WAY_MAX: Final = 2000


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What an operation is for. `attempt_id` is empty for `start`."""

    node_id: str
    attempt_id: str = ""
    task_id: str | None = None
    project_id: str | None = None


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """The hive's own record of a changing call. `status` as in `hive.store.operations`.

    `body` is what left for the node, as long as its answer is not known.
    """

    key: str
    body_hash: str
    actor: str
    status: str
    node_id: str | None
    body: bytes | None = None
    reply: bytes | None = None
    error: ErrorBody | None = None


class OperationRecords(Protocol):
    """Where changing calls are recorded."""

    async def begin(
        self,
        *,
        key: str,
        body_hash: str,
        operation: str,
        target: Target,
        actor: str,
        expected_head: str | None,
        body: bytes | None,
    ) -> Recorded | None:
        """Record a call before it leaves; return the record of that key where there is one."""
        ...

    async def send_again(self, key: str, node_id: str, body: bytes | None) -> None:
        """Record that a recorded call leaves once more, to this node, and as what."""
        ...

    async def settle(
        self, key: str, *, status: str, reply: bytes | None, error: ErrorBody | None
    ) -> None:
        """Record what became of a call."""
        ...


class Nodes(Protocol):
    """The connected nodes; `NodeRegistry` is these."""

    async def call(
        self,
        node_id: str,
        operation: str,
        attempt_id: str,
        body: bytes,
        *,
        actor: str,
        role: Role,
        project_id: str | None = None,
        idempotency_key: str | None = None,
        expected_head: str | None = None,
        expected_execution: str | None = None,
        deadline_s: float,
    ) -> bytes: ...

    async def open_stream(
        self,
        node_id: str,
        operation: str,
        attempt_id: str,
        body: bytes,
        *,
        actor: str,
        role: Role,
        project_id: str | None = None,
        deadline_s: float,
    ) -> NodeStream: ...


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A changing operation as its caller asked for it.

    `said` is what the key stands for: the caller's own words, not what the hive adds to them.
    """

    operation: str
    principal: Principal
    key: str
    said: bytes
    expected_head: str | None = None
    #: Of one that waited for its node: the newest run its caller saw. Not part of what the key
    #: stands for.
    expected_execution: str | None = None
    deadline_s: float

    @property
    def body_hash(self) -> str:
        # Not the expected head: whoever asks again for an answer that was lost has looked anew, and
        # the head may be another for that very operation.
        running = hashlib.blake2b(digest_size=32)
        for part in (self.operation.encode(), self.said):
            running.update(len(part).to_bytes(8, "big") + part)
        return running.hexdigest()


def new_key() -> str:
    """Return a key for a caller that sent none."""
    return secrets.token_hex(16)


class OperationProxy:
    """Carries operations to nodes. `close` before the nodes' links go."""

    def __init__(self, nodes: Nodes, records: OperationRecords) -> None:
        self._nodes = nodes
        self._records = records
        self._under_way: dict[str, asyncio.Task[bytes]] = {}

    @property
    def under_way(self) -> int:
        """How many changing calls are under way."""
        return len(self._under_way)

    async def close(self, timeout_s: float = 0.0) -> None:
        """Wait for calls under way, at most this long; the others are recorded as unknown."""
        tasks = list(self._under_way.values())
        if not tasks:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- reading ------------------------------------------------------------------------------

    async def read(
        self, principal: Principal, operation: Operation, target: Target, request: Request
    ) -> bytes:
        """Return the reply of a reading operation, as msgpack. Raises OperationError."""
        return await self._nodes.call(
            target.node_id,
            operation.name,
            target.attempt_id,
            msgspec.msgpack.encode(request),
            actor=principal.name,
            role=principal.role,
            project_id=target.project_id,
            deadline_s=operation.deadline_s,
        )

    async def open_stream(
        self, principal: Principal, operation: Operation, target: Target, request: Request
    ) -> NodeStream:
        """Open a streamed reading operation. Raises OperationError."""
        return await self._nodes.open_stream(
            target.node_id,
            operation.name,
            target.attempt_id,
            msgspec.msgpack.encode(request),
            actor=principal.name,
            role=principal.role,
            project_id=target.project_id,
            deadline_s=operation.deadline_s,
        )

    # --- changing -----------------------------------------------------------------------------

    async def change(self, intent: Intent, target: Target, request: Request) -> bytes:
        """Carry a changing operation out once; return the reply, as msgpack.

        The same key again gets the stored reply or error, or `in_progress`. Raises OperationError;
        `unknown` where nobody can say whether it was done.
        """
        self._check_free(intent.key)
        return await self._run(intent.key, self._carry(intent, target, request))

    async def deliver(self, intent: Intent, target: Target, body: bytes) -> bytes:
        """Send a changing call whose caller keeps the record of it; return the reply.

        Raises OperationError: the node's own; `unknown` where it may have been carried out.
        """
        self._check_free(intent.key)
        return await self._run(intent.key, self._call(intent, target, body))

    def _check_free(self, key: str) -> None:
        if key in self._under_way:
            raise _in_progress(key)
        if len(self._under_way) >= _UNDER_WAY_MAX:
            raise OperationError(
                ErrorCode.SLOW_DOWN,
                "too many operations are under way",
                hint="Ask again in a few seconds.",
            )

    async def _run(self, key: str, call: Coroutine[Any, Any, bytes]) -> bytes:
        task = asyncio.create_task(call, name=f"operation {key}")
        self._under_way[key] = task
        task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    async def record(self, intent: Intent, target: Target) -> None:
        """Record a changing call that leaves by another way; its node tells what becomes of it.

        Raises OperationError where the key is under way, another request's, or done.
        """
        if intent.key in self._under_way:
            raise _in_progress(intent.key)
        recorded = await self._records.begin(
            key=intent.key,
            body_hash=intent.body_hash,
            operation=intent.operation,
            target=target,
            actor=intent.principal.name,
            expected_head=intent.expected_head,
            body=None,
        )
        if recorded is None:
            return
        told = recorded.status == "failed" and recorded.error is None
        if recorded.status == "done" or told or settled_reply(recorded, intent) is not None:
            raise OperationError(
                ErrorCode.CONFLICT,
                "the request with this key is done",
                hint=f"What it was answered: GET /api/v1/operations/{intent.key}.",
                key=intent.key,
            )
        await self._records.send_again(intent.key, target.node_id, None)

    def _landed(self, key: str, task: asyncio.Task[bytes]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            # Whoever asked may be gone by now; then nobody else will ever look.
            task.exception()

    async def _carry(self, intent: Intent, target: Target, request: Request) -> bytes:
        body = msgspec.msgpack.encode(request)
        recorded = await self._records.begin(
            key=intent.key,
            body_hash=intent.body_hash,
            operation=intent.operation,
            target=target,
            actor=intent.principal.name,
            expected_head=intent.expected_head,
            body=body,
        )
        if recorded is not None:
            stored = settled_reply(recorded, intent)
            if stored is not None:
                return stored
            told = recorded.status == "done" or (recorded.status == "failed" and not recorded.error)
            again = told or recorded.status in {"sent", "unknown"}
            if again and recorded.node_id:
                # It may have been done there: only that node can tell, and it knows the key.
                target = msgspec.structs.replace(target, node_id=recorded.node_id)
                # Word for word, whatever the hive would add by now: else it is another request.
                body = recorded.body or body
            if told:
                return await self._fetch_answer(intent, target, body, recorded.status)
            await self._records.send_again(intent.key, target.node_id, body)
            failpoint("hive.operation.recorded")
            return await self._send(intent, target, body, again=again)
        failpoint("hive.operation.recorded")
        return await self._send(intent, target, body)

    async def _fetch_answer(
        self, intent: Intent, target: Target, body: bytes, status: str
    ) -> bytes:
        """Get the answer of what its node reported as settled; the record stays whatever comes."""
        try:
            reply = await self._call(intent, target, body)
        except OperationError as error:
            if error.code is not ErrorCode.NODE_OFFLINE:
                if status == "failed" and error.code not in _NO_ANSWER:
                    await self._settle(intent.key, status="failed", error=error.body())
                raise
            raise OperationError(
                ErrorCode.NODE_OFFLINE,
                f"its node reported this as {status}; the answer itself is with the node",
                hint=f"hive operations show {intent.key} says what is known.",
                key=intent.key,
                status=status,
            ) from error
        await self._settle(intent.key, status="done", reply=reply)
        return reply

    async def _send(
        self, intent: Intent, target: Target, body: bytes, *, again: bool = False
    ) -> bytes:
        """Send a recorded call. `again`: it left before, and may have been done then."""
        try:
            reply = await self._call(intent, target, body)
        except SkepError as error:
            if error.code is ErrorCode.UNKNOWN_OUTCOME:
                unknown = _unknown(intent.key, error.message, error)
                await self._settle(intent.key, status="unknown", error=unknown.body())
                raise unknown from error
            if again and error.code in _NOT_HEARD:
                # This sending did nothing; of the first one nobody knows yet.
                unknown = _unknown(intent.key, f"asked again: {error.message}")
                await self._settle(intent.key, status="unknown", error=unknown.body())
                raise
            if error.code is not ErrorCode.IN_PROGRESS or error.details.get("key") != intent.key:
                await self._settle(intent.key, status="failed", error=error.body())
            raise
        except asyncio.CancelledError:
            # The hive stops: the node goes on, and its op will tell.
            await asyncio.shield(
                self._settle(
                    intent.key,
                    status="unknown",
                    error=_unknown(intent.key, "the hive stopped meanwhile").body(),
                )
            )
            raise
        failpoint("hive.operation.answered")
        await self._settle(intent.key, status="done", reply=reply)
        failpoint("hive.operation.settled")
        return reply

    async def _call(self, intent: Intent, target: Target, body: bytes) -> bytes:
        return await self._nodes.call(
            target.node_id,
            intent.operation,
            target.attempt_id,
            body,
            actor=intent.principal.name,
            role=intent.principal.role,
            project_id=target.project_id,
            idempotency_key=intent.key,
            expected_head=intent.expected_head,
            expected_execution=intent.expected_execution,
            deadline_s=intent.deadline_s,
        )

    async def _settle(
        self,
        key: str,
        *,
        status: str,
        reply: bytes | None = None,
        error: ErrorBody | None = None,
    ) -> None:
        try:
            await self._records.settle(key, status=status, reply=reply, error=error)
        except SkepError:
            # The caller still gets the node's answer; the key reads as `sent`, and asked again the
            # node answers from its own record.
            log.exception("what became of operation %s could not be recorded", key)


def settled_reply(
    recorded: Recorded, intent: Intent, *, kept_is_fine: bool = False
) -> bytes | None:
    """Return the stored reply, None where the call should leave (again); raise the stored error.

    One that is kept for its node leaves by itself; unless `kept_is_fine`, that is an error too.
    """
    if recorded.body_hash != intent.body_hash or recorded.actor != intent.principal.name:
        raise OperationError(
            ErrorCode.KEY_REUSED,
            "this idempotency key was used for another request",
            hint="Use a fresh key for each thing you want done.",
            key=intent.key,
        )
    if recorded.status == "done" and recorded.reply is not None:
        # Without a reply it is the node's own report that settled it: the node has the reply.
        return recorded.reply
    if recorded.status in {"failed", "expired", "cancelled"} and recorded.error is not None:
        error = operation_error(recorded.error)
        # What one node lacks to start an attempt another may have, and this one later.
        lacks = intent.operation == "start" and error.code is ErrorCode.EXECUTOR_UNAVAILABLE
        if error.code not in NOTHING_DONE and not lacks:
            raise error
    if recorded.status in {"waiting", "delivered"} and not kept_is_fine:
        raise OperationError(
            ErrorCode.IN_PROGRESS,
            "this operation is kept for its node and leaves by itself",
            hint=f"hive operations show {intent.key} says how it stands;"
            f" hive operations cancel {intent.key} takes it back while it waits.",
            key=intent.key,
        )
    return None


def _unknown(key: str, why: str, said: SkepError | None = None) -> OperationError:
    unknown = OperationError(
        ErrorCode.UNKNOWN_OUTCOME,
        why,
        hint=f"Look it up: GET /api/v1/operations/{key}, or hive operations show {key}."
        " The same request with the same key is safe.",
        key=key,
    )
    if said is not None and said.details.keys() - {"key"}:
        # The node has looked itself, and knows better where to look on.
        unknown.hint = said.hint
        unknown.details = {**said.details, "key": key}
    return unknown


def _in_progress(key: str) -> OperationError:
    return OperationError(
        ErrorCode.IN_PROGRESS,
        "an operation with this key is under way",
        hint=f"Look it up: GET /api/v1/operations/{key}.",
        key=key,
    )
