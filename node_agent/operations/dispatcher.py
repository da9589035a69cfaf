"""Runs operations: once per idempotency key, within their deadline, streamed or whole.

Owns the keys under way and the way of a call from permission to last part. Must not know what any
operation does, nor touch a socket. Nothing raises out of `run_call` but cancellation.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from node_agent.failpoints import failpoint
from node_agent.identity import HiveIdentity
from node_agent.operations.asking import (
    Asking,
    Interrupted,
    Plan,
    Streamed,
    check_wanted,
    decode_request,
)
from node_agent.operations.expectations import check_expected_execution
from node_agent.operations.ledger import Asked, KeyLedger, KnownKey, check_same, in_progress
from node_agent.operations.permission import UsedCapabilities, check_call, check_refusals
from protocol import limits
from protocol.attempt_requests import StartRequest
from protocol.entities import OperationRecord
from protocol.errors import ErrorBody, ErrorCode, OperationError, SkepError
from protocol.messages import Call, End, Opened, Part, Result
from protocol.operation_values import Request
from protocol.operations import OPERATIONS, Operation
from protocol.tokens import Capability, body_hash
from protocol.turn_requests import FollowUpRequest, SetTurnsRequest

log = logging.getLogger(__name__)

#: Of looking, not of what is looked at.
_NO_VERDICT: Final = frozenset(
    {
        ErrorCode.GIT_FAILED,
        ErrorCode.INTERNAL,
        ErrorCode.NODE_FAILED,
        ErrorCode.NOT_AVAILABLE,
        ErrorCode.NOT_A_REPOSITORY,
        ErrorCode.NO_CHECKOUT,
        ErrorCode.NO_COMMITS,
        ErrorCode.STORE_FULL,
        ErrorCode.TOO_LARGE,
    }
)

Reply = Result | Opened | Part | End
Answer = msgspec.Struct | Streamed
#: What is asked -> the executions of its attempt's agent, oldest first, that count for it.
RunsOf = Callable[[Asking], Awaitable[Sequence[str]]]
#: What an attempt was started with, by the profile it has by now.
BeganBy = Callable[[str], Awaitable[StartRequest | None]]
_KEY_CHARACTERS_MAX: Final = 200
#: What is reckoned of the hive's time may be wrong by so much, and its tokens tell whole seconds.
_CLOCKS_DIFFER_S: Final = 5.0
#: What a crash kept from being begun is begun at the next start only so soon after it was asked.
_WAITED_FOR_S_MAX: Final = 600.0


@dataclass(frozen=True)
class OperationFunction:
    """What carries an operation out.

    `keeps_key`: it writes key, effect and answer in one transaction of its own, so that there is
    no moment in which one is there and another is not. `settle` is asked after a crash between
    INTENT and RESULT: it looks what is there, does what is missing, and returns the answer.
    `resume` is the same for an operation that writes down what it will do (`Asking.intend`)
    before it does it, where it got so far; of these only one at a time is at work on an attempt.
    `again`: what of an answer that was kept is told to who asks with its key once more.
    """

    run: Callable[[Asking], Awaitable[Answer]]
    keeps_key: bool = False
    settle: Callable[[OperationRecord, Request | None], Awaitable[msgspec.Struct]] | None = None
    resume: Callable[[Interrupted], Awaitable[msgspec.Struct]] | None = None
    again: Callable[[bytes], Awaitable[bytes]] | None = None


class OperationDispatcher:
    """Runs the operations of this node, for the hive's calls and for the local API."""

    def __init__(
        self,
        functions: Mapping[str, OperationFunction],
        ledger: KeyLedger,
        *,
        node_id: str,
        refused: Collection[str] = (),
        runs_of: RunsOf | None = None,
        began_by: BeganBy | None = None,
    ) -> None:
        self._functions = functions
        self._began_by = began_by
        self._runs_of = runs_of
        self._ledger = ledger
        self._node_id = node_id
        self._refused = frozenset(refused)
        self._used = UsedCapabilities()
        # Key -> (what it stands for, the operation at work).
        self._under_way: dict[str, tuple[Asking, asyncio.Task[bytes]]] = {}
        # Attempt -> the operation that is changing its branch.
        self._changing: dict[str, str] = {}

    @property
    def busy(self) -> int:
        """How many changing operations are at work."""
        return len(self._under_way)

    # --- for the hive -------------------------------------------------------------------------

    async def run_call(
        self, call: Call, *, now_s: float, hive: HiveIdentity, direct: bool = False
    ) -> AsyncGenerator[Reply, None]:
        """Yield the frames that answer a call of the hive; `direct`: its caller brought it here."""
        try:
            started_s = time.monotonic()
            operation, capability, asking = await self._judge(call, now_s, hive)
            if not direct:
                _check_in_time(call, capability, now_s)
            try:
                async with asyncio.timeout(call.time_left_ms / 1000):
                    answer = await self.perform(asking)
            except TimeoutError as error:
                raise _late(asking) from error
        except Exception as error:  # noqa: BLE001  every call gets an answer
            yield Result(call_id=call.call_id, error=_body_of(error, call.operation))
            return
        if isinstance(answer, bytes):
            yield Result(call_id=call.call_id, body=answer)
            return
        # A stream may outlive its call's deadline, but not the right to it.
        lives_s = capability.expires_at_s - now_s + limits.TOKEN_LEEWAY_S
        ends_s = started_s + max(lives_s, operation.deadline_s)
        yield Opened(call_id=call.call_id, body=msgspec.msgpack.encode(answer.head))
        parts = cut(answer.pieces) if operation.live else recut(answer.pieces)
        async with contextlib.aclosing(_frames(call.call_id, answer, parts, ends_s)) as frames:
            async for frame in frames:
                yield frame

    async def _judge(
        self, call: Call, now_s: float, hive: HiveIdentity
    ) -> tuple[Operation, Capability, Asking]:
        operation = OPERATIONS.get(call.operation)
        if operation is None or call.operation not in self._functions:
            raise OperationError(
                ErrorCode.NOT_AVAILABLE,
                f"this node does not know the operation {call.operation!r}",
                hint="Upgrade the node agent.",
            )
        capability = check_call(
            call, operation, node_id=self._node_id, hive=hive, now_s=now_s, used=self._used
        )
        if call.time_left_ms <= 0:
            raise OperationError(ErrorCode.DEADLINE_PASSED, "the call came after its deadline")
        request = decode_request(operation, call.body)
        began = None
        if self._began_by is not None and isinstance(request, FollowUpRequest | SetTurnsRequest):
            began = await self._began_by(call.attempt_id)
        check_refusals(operation, request, self._refused, began)
        return (
            operation,
            capability,
            Asking(
                operation=operation,
                attempt_id=call.attempt_id,
                request=request,
                body_hash=body_hash(call.body),
                actor=capability.actor,
                key=call.idempotency_key,
                expected_head=call.expected_head,
                expected_execution=call.expected_execution,
                fence=call.fence,
                project_id=capability.project_id,
            ),
        )

    async def read(self, asking: Asking) -> bytes | Streamed:
        """Answer someone who came with the hive's word, but not by its link; only reads.

        Raises OperationError, also where this node's owner refuses it.
        """
        operation = asking.operation
        if operation.changing:
            raise OperationError(
                ErrorCode.FORBIDDEN, f"{operation.name} needs a capability for this one call"
            )
        check_refusals(operation, asking.request, self._refused)
        try:
            async with asyncio.timeout(operation.deadline_s):
                return await self.perform(asking)
        except TimeoutError as error:
            raise _late(asking) from error

    # --- for all ------------------------------------------------------------------------------

    async def perform(self, asking: Asking) -> bytes | Streamed:
        """Carry an operation out; return its reply in msgpack, or its stream.

        A caller that is cancelled ends a reading operation; a changing one goes on, and its
        answer is found again by its key.
        """
        function = self._functions[asking.operation.name]
        if not asking.operation.changing:
            answer = await function.run(asking)
            return answer if isinstance(answer, Streamed) else msgspec.msgpack.encode(answer)
        key = asking.key or str(uuid.uuid4())
        if len(key) > _KEY_CHARACTERS_MAX:
            raise OperationError(
                ErrorCode.INVALID,
                f"an idempotency key has at most {_KEY_CHARACTERS_MAX} characters",
                field="idempotency_key",
            )
        asking = replace(asking, key=key)
        if key in self._under_way:
            check_same(key, _meaning(self._under_way[key][0]), _meaning(asking))
            raise in_progress(key)
        task = asyncio.create_task(self._once(function, asking), name=f"{asking.operation.name}")
        self._under_way[key] = (asking, task)
        task.add_done_callback(lambda _: self._done(key))
        return await asyncio.shield(task)

    def _done(self, key: str) -> None:
        _, task = self._under_way.pop(key)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The caller may be gone; the answer is kept under the key.
            log.info("operation under key %s failed: %s", key, error)

    async def _once(self, function: OperationFunction, asking: Asking) -> bytes:
        key = asking.key or ""
        if (known := await self._ledger.find(key)) is not None:
            answer = _answer_again(known, asking)
            return answer if function.again is None else await function.again(answer)
        expects = asking.expected_execution is not None and not asking.operation.any_run
        if expects and self._runs_of is not None:
            runs = await self._runs_of(asking)
            check_expected_execution(asking.expected_execution, runs)
        if function.keeps_key:
            return _whole(await function.run(asking))
        if function.resume is not None:
            with self._alone(asking):
                return await self._intended(function, asking)
        return await self._intended(function, asking)

    @contextlib.contextmanager
    def _alone(self, asking: Asking) -> Iterator[None]:
        """Refuse, with no key written, what would meet another change of the same branch."""
        if (other := self._changing.get(asking.attempt_id)) is not None:
            raise OperationError(
                ErrorCode.IN_PROGRESS,
                f"another operation, {other}, is at work on this attempt",
                hint="Wait for it, look at what it made, then ask again.",
                operation=other,
            )
        self._changing[asking.attempt_id] = asking.operation.name
        try:
            yield
        finally:
            del self._changing[asking.attempt_id]

    async def _intended(self, function: OperationFunction, asking: Asking) -> bytes:
        key = asking.key or ""
        record = OperationRecord(
            key=key,
            operation=asking.operation.name,
            attempt_id=asking.attempt_id or None,
            actor=asking.actor,
            status="started",
            head_before=asking.expected_head,
            started_at_ms=_now_ms(),
        )
        noted = _Noted(self._ledger, record, asking)
        asked = noted.asked() if function.resume or function.settle else None
        if (known := await self._ledger.intend(record, asking.body_hash, asked)) is not None:
            return _answer_again(known, asking)
        failpoint("node.operation.after_intent")
        asking = replace(asking, intend=noted.intend)
        try:
            reply = _whole(await function.run(asking))
        except Exception as error:
            await self._settle(noted.record, error=_body_of(error, asking.operation.name))
            raise
        failpoint("node.operation.before_result")
        await self._settle(noted.record, reply=reply)
        failpoint("node.operation.after_result")
        return reply

    async def _settle(
        self, record: OperationRecord, *, reply: bytes | None = None, error: ErrorBody | None = None
    ) -> None:
        ended = msgspec.structs.replace(
            record,
            status=_status_of(error),
            error_code=error.code if error else None,
            ended_at_ms=_now_ms(),
        )
        await self._ledger.settle(ended, reply=reply, error=error)

    async def settle_unsettled(self, names: Collection[str] | None = None) -> None:
        """Finish what a crash left between INTENT and RESULT, of these operations or of all.

        Called before any call.
        """
        for known in await self._ledger.unsettled():
            if names is not None and known.record.operation not in names:
                continue
            try:
                record, answer = await self._finish(known)
                reply = _whole(answer)
            except Exception as error:  # noqa: BLE001  one that cannot be settled keeps no other back
                await self._settle(
                    known.record, error=_verdict_of(error, known, plans=self._plans(known))
                )
            else:
                await self._settle(record, reply=reply)
            log.info("settled %s under key %s", known.record.operation, known.record.key)

    def _plans(self, known: KnownKey) -> bool:
        function = self._functions.get(known.record.operation)
        return function is not None and function.resume is not None

    async def _finish(self, known: KnownKey) -> tuple[OperationRecord, Answer]:
        """Look what became of an operation that was cut short, and do what is missing."""
        record, asked = known.record, known.asked
        function = self._functions.get(record.operation)
        if function is not None and function.settle is not None:
            request = None
            if asked is not None:
                request = decode_request(OPERATIONS[record.operation], asked.request)
            return record, await function.settle(record, request)
        if function is None or function.resume is None or asked is None:
            raise OperationError(
                ErrorCode.UNKNOWN_OUTCOME,
                f"the node stopped in the middle of {record.operation}",
                hint="Look at the attempt's branch, then ask again under another key.",
            )
        noted = _Noted(self._ledger, record, _asking_of(known, asked))
        asking = replace(noted.asking, intend=noted.intend)
        late = _now_ms() - record.started_at_ms > _WAITED_FOR_S_MAX * 1000
        if asked.plan is None:
            # It had done nothing yet, so it looks at everything anew.
            check_wanted(asking, late=late)
            answer = await function.run(asking)
        else:
            interrupted = Interrupted(asking=asking, plan=asked.plan, late=late)
            answer = await function.resume(interrupted)
        return noted.record, answer

    async def close(self, *, within_s: float) -> None:
        """Wait for what is at work, at most so long; what is cut short is settled at next start."""
        tasks = [task for _, task in self._under_way.values()]
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=within_s)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)


class _Noted:
    """What stands in the ledger of an operation at work, and the way to add its plan."""

    def __init__(self, ledger: KeyLedger, record: OperationRecord, asking: Asking) -> None:
        self.record = record
        self.asking = asking
        self._ledger = ledger

    def asked(self, plan: Plan | None = None) -> Asked:
        return Asked(
            request=msgspec.msgpack.encode(self.asking.request),
            expected_head=self.asking.expected_head,
            project_id=self.asking.project_id,
            plan=None if plan is None else msgspec.msgpack.encode(plan),
        )

    async def intend(self, plan: Plan) -> None:
        """Write down what will be done; once it returns, it may be."""
        self.record = msgspec.structs.replace(
            self.record, head_before=plan.head_before, head_after=plan.head_after
        )
        await self._ledger.note(self.record, self.asked(plan))
        failpoint("node.operation.planned")


# --- answers --------------------------------------------------------------------------------------


async def recut(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the same bytes in parts as large as the wire takes, but for the last."""
    waiting = bytearray()
    async for piece in pieces:
        waiting += piece
        while len(waiting) >= limits.PART_BYTES_MAX:
            yield bytes(waiting[: limits.PART_BYTES_MAX])
            del waiting[: limits.PART_BYTES_MAX]
    if waiting:
        yield bytes(waiting)


async def cut(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield each piece at once, in several parts where it is larger than the wire takes."""
    async for piece in pieces:
        for start in range(0, len(piece), limits.PART_BYTES_MAX):
            yield piece[start : start + limits.PART_BYTES_MAX]


async def _frames(
    call_id: str, answer: Streamed, parts: AsyncIterator[bytes], ends_s: float
) -> AsyncGenerator[Part | End, None]:
    error: ErrorBody | None = None
    n = 0
    try:
        while True:
            async with asyncio.timeout(max(0.0, ends_s - time.monotonic())):
                data = await anext(parts, None)
            if data is None:
                break
            yield Part(call_id=call_id, n=n, data=data)
            n += 1
    except TimeoutError:
        late = OperationError(
            ErrorCode.DEADLINE_PASSED,
            "the right to this stream has ended",
            hint="Ask anew and go on from where it stopped.",
        )
        error = late.body()
    except Exception as broken:  # noqa: BLE001  a stream that breaks off says so
        error = _body_of(broken, "a stream")
    finally:
        await _close(parts)
        await _close(answer.pieces)
    yield End(call_id=call_id, error=error)


async def _close(pieces: AsyncIterator[bytes]) -> None:
    """Close a generator, so that the process or file behind it ends with its reader."""
    close = getattr(pieces, "aclose", None)
    if close is not None:
        await close()


def _whole(answer: Answer) -> bytes:
    if isinstance(answer, Streamed):
        raise TypeError("a changing operation answers whole")
    return msgspec.msgpack.encode(answer)


def _answer_again(known: KnownKey, asking: Asking) -> bytes:
    return known.answer_again(*_meaning(asking))


def _asking_of(known: KnownKey, asked: Asked) -> Asking:
    """Return what was asked under a key, as it stands in the ledger."""
    record = known.record
    operation = OPERATIONS[record.operation]
    return Asking(
        operation=operation,
        attempt_id=record.attempt_id or "",
        request=decode_request(operation, asked.request),
        body_hash=known.body_hash,
        actor=record.actor,
        key=record.key,
        expected_head=asked.expected_head,
        project_id=asked.project_id,
    )


def _meaning(asking: Asking) -> tuple[str, str, str]:
    """Return what a key stands for: the operation, its attempt, and what it was asked to do."""
    return asking.operation.name, asking.attempt_id, asking.body_hash


def _check_in_time(call: Call, capability: Capability, now_s: float) -> None:
    """Raise OperationError where the hive has told its caller by now that no answer came."""
    if now_s > capability.issued_at_s + call.time_left_ms / 1000 + _CLOCKS_DIFFER_S:
        raise OperationError(
            ErrorCode.NODE_OFFLINE,
            "the call was on its way to the node for longer than its caller waits; nothing was"
            " done",
            hint="Ask again.",
        )


def _late(asking: Asking) -> OperationError:
    if asking.operation.changing:
        return OperationError(
            ErrorCode.UNKNOWN_OUTCOME,
            f"{asking.operation.name} is not done within its time; it goes on",
            hint="Ask again with the same key for its result.",
            key=asking.key,
        )
    return OperationError(
        ErrorCode.DEADLINE_PASSED,
        f"{asking.operation.name} is not done within its time",
        hint="Ask for less at a time, or again later.",
    )


def _body_of(error: Exception, operation: str) -> ErrorBody:
    if isinstance(error, SkepError):
        return error.body()
    log.error("%s failed", operation, exc_info=error)
    return OperationError(
        ErrorCode.NODE_FAILED,
        f"{operation} failed on the node: {type(error).__name__}",
        hint="The node agent's log has more.",
    ).body()


def _verdict_of(error: Exception, known: KnownKey, *, plans: bool) -> ErrorBody:
    """What is told of an operation that could not be brought to its end after a crash.

    `plans`: it writes down what it will do before it does it.
    """
    record, asked = known.record, known.asked
    body = _body_of(error, record.operation)
    did_nothing = plans and asked is not None and asked.plan is None
    if did_nothing or (isinstance(error, SkepError) and error.code not in _NO_VERDICT):
        return body
    if asked is None or asked.plan is None:
        return OperationError(
            ErrorCode.UNKNOWN_OUTCOME,
            f"the node stopped in the middle of {record.operation}, and could not look what became"
            f" of it: {body.message}",
            hint="Look at the attempt, then ask again under another key if it was not done.",
            error=msgspec.to_builtins(body),
        ).body()
    return OperationError(
        ErrorCode.UNKNOWN_OUTCOME,
        f"the node stopped in the middle of {record.operation}, and what became of it could not"
        f" be told: {body.message}",
        hint="`details.planned` is what it was about to do. Look whether it is so, then ask again"
        " under another key if it is not.",
        planned=msgspec.msgpack.decode(asked.plan),
        error=msgspec.to_builtins(body),
    ).body()


def _status_of(error: ErrorBody | None) -> str:
    if error is None:
        return "done"
    return "unknown" if error.code == ErrorCode.UNKNOWN_OUTCOME else "failed"


def _now_ms() -> int:
    return int(time.time() * 1000)
