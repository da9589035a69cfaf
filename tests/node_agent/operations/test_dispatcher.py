"""The dispatcher: once per key, judged again here, within time, and bytes untouched."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies

from node_agent.identity import HiveIdentity
from node_agent.operations.asking import Asking, Interrupted, Plan, Streamed
from node_agent.operations.dispatcher import OperationDispatcher, OperationFunction, recut
from node_agent.operations.ledger import Asked
from node_agent.store import attempts, plans
from protocol import limits
from protocol.attempt_requests import AttemptReply, StartRequest, StopRequest
from protocol.branch_requests import MergeRequest
from protocol.entities import Attempt, OperationRecord
from protocol.errors import ErrorCode, OperationError, SkepError
from protocol.messages import Call, End, Opened, Part, Result
from protocol.operation_values import Request, StreamHead
from protocol.operations import OPERATIONS
from protocol.states import AttemptPhase
from protocol.tokens import Capability, body_hash, mint_capability
from protocol.turn_requests import FollowUpRequest
from protocol.work_requests import BranchStatusReply
from tests.node_agent.operations.memory_ledger import MemoryLedger
from tests.node_agent.workshop import open_workshop

NODE = "node-1"
NOW_S = 1_800_000_000.0
KEY = Ed25519PrivateKey.generate()
HIVE = HiveIdentity("hive-1", 7, {"k1": KEY.public_key().public_bytes_raw()})
ATTEMPT = Attempt(
    id="a1",
    task_id="t1",
    task_title="T",
    checkout_id="c1",
    project_identity="root:1",
    project_name="p",
    executor="command",
    branch="skep/t-1",
    phase=AttemptPhase.RUNNING,
)


def call(operation: str, request: Any = None, **more: Any) -> Call:
    """Make a call as the hive would, with a capability for it."""
    body = msgspec.msgpack.encode(request) if request is not None else b""
    claims: dict[str, Any] = {
        "jti": more.pop("jti", f"jti-{operation}-{id(more)}-{call.counter}"),
        "actor": "user-1",
        "role": "admin",
        "node_id": NODE,
        "operation": operation,
        "attempt_id": "a1",
        "body_hash": body_hash(body),
        "hive_id": "hive-1",
        "generation": 7,
        "issued_at_s": int(NOW_S),
        "expires_at_s": int(NOW_S) + 60,
    }
    call.counter += 1
    key, key_id = more.pop("signed_by", KEY), more.pop("key_id", "k1")
    for name in list(more):
        if name in claims:
            claims[name] = more.pop(name)
    fields: dict[str, Any] = {
        "call_id": f"call-{call.counter}",
        "operation": operation,
        "attempt_id": claims["attempt_id"],
        "body": body,
        "capability": mint_capability(Capability(**claims), key=key, key_id=key_id),
        "time_left_ms": 5_000,
    }
    return Call(**{**fields, **more})


call.counter = 0  # type: ignore[attr-defined]


class Stopping:
    """A stop that says when it began and goes on when told."""

    def __init__(self) -> None:
        self.asked: list[Asking] = []
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.fails: SkepError | None = None

    async def __call__(self, asking: Asking) -> AttemptReply:
        self.asked.append(asking)
        self.began.set()
        await self.go_on.wait()
        if self.fails is not None:
            raise self.fails
        return AttemptReply(attempt=ATTEMPT)


def dispatcher(ledger: MemoryLedger | None = None, **more: Any) -> OperationDispatcher:
    """A dispatcher with functions given by name."""
    refused, began_by = more.pop("refused", ()), more.pop("began_by", None)
    functions = {
        name: run if isinstance(run, OperationFunction) else OperationFunction(run)
        for name, run in more.items()
    }
    return OperationDispatcher(
        functions, ledger or MemoryLedger(), node_id=NODE, refused=refused, began_by=began_by
    )


async def frames(at: OperationDispatcher, asked: Call, *, now_s: float = NOW_S) -> list[Any]:
    """All frames that answer a call."""
    return [frame async for frame in at.run_call(asked, now_s=now_s, hive=HIVE)]


async def result(at: OperationDispatcher, asked: Call, *, now_s: float = NOW_S) -> Result:
    """The one frame that answers a call."""
    (frame,) = await frames(at, asked, now_s=now_s)
    assert isinstance(frame, Result)
    return frame


async def branch_status(asking: Asking) -> BranchStatusReply:
    """A reading function."""
    return BranchStatusReply(branch=f"of {asking.attempt_id} for {asking.actor}")


@pytest.mark.asyncio
async def test_a_reading_call_is_answered_and_leaves_no_key() -> None:
    """A reading operation is answered by its function and writes nothing."""
    ledger = MemoryLedger()
    answer = await result(dispatcher(ledger, branch_status=branch_status), call("branch_status"))
    reply = msgspec.msgpack.decode(answer.body, type=BranchStatusReply)
    assert reply.branch == "of a1 for user-1"
    assert ledger.written == []


@pytest.mark.asyncio
async def test_intent_before_effect_result_before_answer() -> None:
    """A changing operation writes INTENT, acts, writes RESULT, and only then answers."""
    ledger, stop = MemoryLedger(), Stopping()
    seen: list[list[str]] = []

    async def run(asking: Asking) -> AttemptReply:
        seen.append(list(ledger.written))
        return await stop(asking)

    answer = await result(dispatcher(ledger, stop=run), call("stop", idempotency_key="key-1"))
    assert answer.error is None
    assert seen == [["intent"]]
    assert ledger.written == ["intent", "result done"]
    assert ledger.keys["key-1"].record.actor == "user-1"
    assert ledger.keys["key-1"].reply == answer.body


@pytest.mark.asyncio
async def test_the_same_key_again_gives_the_stored_answer() -> None:
    """A repeated call has one effect and the same answer, also where it failed."""
    ledger, stop = MemoryLedger(), Stopping()
    at = dispatcher(ledger, stop=stop)
    first = await result(at, call("stop", StopRequest(), idempotency_key="key-1"))
    again = await result(at, call("stop", StopRequest(), idempotency_key="key-1"))
    assert (again.body, again.error) == (first.body, None)
    stop.fails = OperationError(ErrorCode.NOT_FOUND, "no such attempt", hint="look", of="a1")
    failed = await result(at, call("stop", StopRequest(), idempotency_key="key-2"))
    stop.fails = None
    assert await result(at, call("stop", StopRequest(), idempotency_key="key-2", call_id="x")) == (
        msgspec.structs.replace(failed, call_id="x")
    )
    assert len(stop.asked) == 2


@pytest.mark.asyncio
async def test_a_key_with_another_body_or_operation_is_refused() -> None:
    """A key belongs to one request; with another body or of another attempt it has no effect."""
    stop = Stopping()
    at = dispatcher(stop=stop, start=stop)
    first = call("stop", StopRequest(grace_s=1), idempotency_key="key-1")
    assert (await result(at, first)).error is None
    other_attempt = await result(
        at, call("stop", StopRequest(grace_s=1), attempt_id="a2", idempotency_key="key-1")
    )
    other_body = await result(at, call("stop", StopRequest(grace_s=2), idempotency_key="key-1"))
    other_operation = await result(at, call("start", StartRequest(), idempotency_key="key-1"))
    for answer in (other_attempt, other_body, other_operation):
        assert answer.error is not None
        assert answer.error.code == "key_reused"
    assert len(stop.asked) == 1


@pytest.mark.asyncio
async def test_two_at_once_are_one_effect() -> None:
    """While a call is at work its key answers in_progress, and refuses all it is not for."""
    stop = Stopping()
    stop.go_on.clear()
    at = dispatcher(stop=stop, release=stop)
    first = asyncio.create_task(result(at, call("stop", StopRequest(), idempotency_key="k")))
    await stop.began.wait()
    second = await result(at, call("stop", StopRequest(), idempotency_key="k"))
    assert (second.error and second.error.code) == "in_progress"
    for other in (
        call("stop", StopRequest(grace_s=9), idempotency_key="k"),
        call("stop", StopRequest(), attempt_id="a2", idempotency_key="k"),
        call("release", StopRequest(), idempotency_key="k"),
    ):
        answer = await result(at, other)
        assert (answer.error and answer.error.code) == "key_reused"
    assert at.busy == 1
    stop.go_on.set()
    assert (await first).error is None
    assert len(stop.asked) == 1
    await asyncio.sleep(0)
    assert at.busy == 0


@pytest.mark.asyncio
async def test_a_late_change_is_unknown_and_goes_on() -> None:
    """A change that outlasts its deadline is reported unknown, is not stopped, and is found."""
    ledger, stop = MemoryLedger(), Stopping()
    stop.go_on.clear()
    at = dispatcher(ledger, stop=stop)
    late = await result(at, call("stop", idempotency_key="k", time_left_ms=20))
    assert late.error is not None
    assert (late.error.code, late.error.details["key"]) == ("unknown", "k")
    stop.go_on.set()
    await at.close(within_s=5)
    assert ledger.written == ["intent", "result done"]
    assert (await result(at, call("stop", idempotency_key="k"))).error is None


@pytest.mark.asyncio
async def test_a_caller_that_goes_away_does_not_stop_a_change() -> None:
    """Cancelling the call of a change leaves the change at work."""
    ledger, stop = MemoryLedger(), Stopping()
    stop.go_on.clear()
    at = dispatcher(ledger, stop=stop)
    caller = asyncio.create_task(result(at, call("stop", idempotency_key="k")))
    await stop.began.wait()
    caller.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await caller
    stop.go_on.set()
    await at.close(within_s=5)
    assert ledger.keys["k"].settled


@pytest.mark.asyncio
async def test_a_late_or_cancelled_reading_is_ended() -> None:
    """A reading that outlasts its deadline is stopped and says so."""
    ended = asyncio.Event()

    async def slow(_: Asking) -> BranchStatusReply:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        raise AssertionError

    answer = await result(dispatcher(branch_status=slow), call("branch_status", time_left_ms=20))
    assert (answer.error and answer.error.code) == "deadline_passed"
    assert ended.is_set()


def _other_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


REFUSALS: dict[str, Callable[[], dict[str, Any]]] = {
    "of another node": lambda: {"node_id": "node-2"},
    "of another hive": lambda: {"hive_id": "hive-2"},
    "of another start of the hive": lambda: {"generation": 6},
    "for another attempt": lambda: {"attempt_id": "a2"},
    "for another body": lambda: {"body_hash": body_hash(b"other")},
    "expired": lambda: {"expires_at_s": int(NOW_S) - 31},
    "of the future": lambda: {"issued_at_s": int(NOW_S) + 31},
    "by another key": lambda: {"signed_by": _other_key()},
    "by an unknown key": lambda: {"key_id": "k2"},
    "of a viewer": lambda: {"role": "viewer"},
    "of an auditor": lambda: {"role": "auditor"},
    "of no known role": lambda: {"role": "king"},
    "of nonsense": lambda: {"capability": "x.y.z"},
}


@pytest.mark.asyncio
@pytest.mark.parametrize("case", REFUSALS)
async def test_capabilities_that_do_not_hold(case: str) -> None:
    """Each way a capability can fail is refused here too, with no effect and no key written."""
    ledger, stop = MemoryLedger(), Stopping()
    wrong = REFUSALS[case]()
    asked = call("stop", StopRequest(), idempotency_key="k", **wrong)
    if case == "for another attempt":
        asked = msgspec.structs.replace(asked, attempt_id="a1")
    answer = await result(dispatcher(ledger, stop=stop), asked)
    assert (answer.error and answer.error.code) == "forbidden"
    assert stop.asked == []
    assert ledger.written == []


@pytest.mark.asyncio
async def test_a_capability_is_good_for_one_call() -> None:
    """A replayed capability is refused, also for a reading operation."""
    at = dispatcher(branch_status=branch_status)
    assert (await result(at, call("branch_status", jti="once"))).error is None
    again = await result(at, call("branch_status", jti="once"))
    assert (again.error and again.error.code) == "forbidden"


@pytest.mark.asyncio
async def test_the_owner_may_refuse() -> None:
    """What the node's owner switched off is refused to the hive, whatever its capability says."""
    stop = Stopping()
    at = dispatcher(stop=stop, start=stop, refused=["stop", "executor:command"])
    for asked in (call("stop"), call("start", StartRequest(command="x"))):
        answer = await result(at, asked)
        assert (answer.error and answer.error.code) == "forbidden"
        assert answer.error
        assert "refuse" in answer.error.hint
    assert (await result(at, call("start", StartRequest(executor="other")))).error is None


@pytest.mark.asyncio
async def test_what_goes_on_is_judged_by_what_it_began_with(tmp_path: Path) -> None:
    """As the stores have it: its agent's profile by now, or the command line of the start."""
    async with open_workshop(tmp_path / "data", 11) as shop:
        for attempt_id, executor, profile, request in (
            # In such a mode Codex does not ask; the agent that it is by now does.
            ("a", "acp", "claude", StartRequest(executor="acp", profile="codex", mode="plan")),
            ("b", "command", None, StartRequest(command="true")),
        ):
            attempt = msgspec.structs.replace(
                ATTEMPT,
                id=attempt_id,
                executor=executor,
                profile=profile,
                phase=AttemptPhase.CREATED,
            )
            await shop.database.write(attempts.save, attempt, 1)
            await shop.database.write(plans.save, attempt_id, request)

        async def began_by(attempt_id: str) -> StartRequest | None:
            return await shop.database.read(plans.began_by, attempt_id)

        stop = Stopping()
        at = dispatcher(follow_up=stop, refused=["executor:command"], began_by=began_by)
        said = FollowUpRequest(prompt="p")
        codes = [
            (await result(at, call("follow_up", said, attempt_id=attempt_id))).error
            for attempt_id in ("a", "b", "none")
        ]
    assert [error and error.code for error in codes] == [None, "forbidden", "forbidden"]


@pytest.mark.asyncio
async def test_calls_that_make_no_sense() -> None:
    """Unknown operations, broken bodies and passed deadlines are answered, never raised."""
    at = dispatcher(stop=Stopping())
    unknown = await result(at, call("fly"))
    not_here = await result(at, call("diff"))
    broken = await result(at, call("stop", {"grace_s": "soon"}))
    passed = await result(at, call("stop", time_left_ms=0))
    codes = [answer.error and answer.error.code for answer in (unknown, not_here, broken, passed)]
    assert codes == ["not_available", "not_available", "invalid", "deadline_passed"]
    assert broken.error
    assert "grace_s" in broken.error.message


@pytest.mark.asyncio
async def test_a_call_that_was_too_long_on_its_way_is_not_carried_out() -> None:
    """Its caller was told that nobody answered: nothing is done, and its key is not taken."""
    stopping = Stopping()
    at = dispatcher(stop=stopping)
    asked_at_s = int(NOW_S) - 20
    late = await result(
        at, call("stop", idempotency_key="k", issued_at_s=asked_at_s, time_left_ms=10_000)
    )
    assert late.error
    assert late.error.code == "node_offline"
    assert not stopping.asked
    in_time = await result(
        at, call("stop", idempotency_key="k", issued_at_s=asked_at_s, time_left_ms=30_000)
    )
    assert in_time.error is None


@pytest.mark.asyncio
async def test_a_bug_is_an_answer_and_is_kept() -> None:
    """A function that fails unexpectedly is answered as a failure of the node, once and for all."""

    async def broken(_: Asking) -> AttemptReply:
        raise ZeroDivisionError

    ledger = MemoryLedger()
    at = dispatcher(ledger, stop=broken)
    first = await result(at, call("stop", idempotency_key="k"))
    assert (first.error and first.error.code) == "node_failed"
    assert ledger.written == ["intent", "result failed"]
    assert (await result(at, call("stop", idempotency_key="k"))).error == first.error


@pytest.mark.asyncio
async def test_a_function_that_keeps_its_key_is_left_to_it() -> None:
    """Where effect and key are one transaction the dispatcher writes neither INTENT nor RESULT."""
    ledger, start = MemoryLedger(), Stopping()
    at = dispatcher(ledger, start=OperationFunction(start, keeps_key=True))
    assert (await result(at, call("start", idempotency_key="k"))).error is None
    assert ledger.written == []
    assert start.asked[0].key == "k"


@pytest.mark.asyncio
async def test_an_answer_that_is_told_again_is_told_as_it_may_be() -> None:
    """What is kept under a key may be more than its caller was shown."""

    async def shown(answer: bytes) -> bytes:
        return answer.replace(b"secret", b"******")

    ledger, kept = MemoryLedger(), b"a secret"
    asked = call("stop", idempotency_key="k")
    record = OperationRecord(key="k", operation="stop", attempt_id="a1", status="done")
    await ledger.intend(record, body_hash(asked.body))
    await ledger.settle(record, reply=kept)
    at = dispatcher(ledger, stop=OperationFunction(Stopping(), keeps_key=True, again=shown))
    assert (await result(at, asked)).body == b"a ******"


@pytest.mark.asyncio
async def test_what_a_crash_left_is_settled_at_the_next_start() -> None:
    """An INTENT without RESULT is settled by its function, or is unknown where it cannot look."""
    ledger = MemoryLedger()
    names = ("stop", "push", "cleanup", "create_pr", "hold")
    for key, name in zip(("k1", "k2", "k3", "k4", "k5"), names, strict=True):
        record = OperationRecord(key=key, operation=name, attempt_id="a1")
        await ledger.intend(record, "h")
    settled = []

    async def settle(record: OperationRecord, _: Request | None) -> AttemptReply:
        settled.append(record.key)
        return AttemptReply(attempt=ATTEMPT)

    async def refuse(record: OperationRecord, _: Request | None) -> AttemptReply:
        raise OperationError(ErrorCode.GONE, f"{record.key} is gone")

    async def look_in_vain(record: OperationRecord, _: Request | None) -> AttemptReply:
        raise OperationError(ErrorCode.GIT_FAILED, "the disk is away")

    async def break_off(record: OperationRecord, _: Request | None) -> AttemptReply:
        raise PermissionError(record.key)

    stop = Stopping()
    at = dispatcher(
        ledger,
        stop=OperationFunction(stop, settle=settle),
        cleanup=OperationFunction(stop, settle=refuse),
        create_pr=OperationFunction(stop, settle=break_off),
        hold=OperationFunction(stop, settle=look_in_vain),
    )
    await at.settle_unsettled()
    assert settled == ["k1"]
    assert stop.asked == []
    errors = {key: known.error and known.error.code for key, known in ledger.keys.items()}
    assert errors == {"k1": None, "k2": "unknown", "k3": "gone", "k4": "unknown", "k5": "unknown"}


@pytest.mark.asyncio
async def test_what_is_settled_is_what_was_asked() -> None:
    """A function that looks after a crash has the request, and gives no verdict on its own."""
    ledger, stop = MemoryLedger(), Stopping()
    found: list[Request | None] = []

    async def settle(_: OperationRecord, request: Request | None) -> AttemptReply:
        found.append(request)
        raise OperationError(ErrorCode.GIT_FAILED, "the disk is away")

    at = dispatcher(ledger, stop=OperationFunction(stop, settle=settle))
    record = OperationRecord(key="k", operation="stop", attempt_id="a1")
    request = StopRequest(grace_s=600.0)
    await ledger.intend(record, "h", Asked(request=msgspec.msgpack.encode(request)))
    await at.settle_unsettled({"merge"})
    assert found == []
    await at.settle_unsettled()
    assert found == [request]
    error = ledger.keys["k"].error
    assert (error and error.code) == "unknown"
    assert (await result(at, call("stop", request, idempotency_key="k2"))).error is None
    asked = ledger.intended["k2"]
    assert asked is not None
    assert asked.request == msgspec.msgpack.encode(request)


class Merging:
    """A merge that writes down its plan, then waits to be let on."""

    def __init__(self) -> None:
        self.acted = 0
        self.planned = asyncio.Event()
        self.go_on = asyncio.Event()
        self.resumed: list[Interrupted] = []
        self.fails: Exception | None = None
        self.asked: list[Asking] = []

    async def run(self, asking: Asking) -> AttemptReply:
        assert asking.intend is not None
        self.asked.append(asking)
        if self.fails is not None:
            raise self.fails
        await asking.intend(Plan(head_before="a", head_after="b"))
        self.planned.set()
        await self.go_on.wait()
        self.acted += 1
        return AttemptReply(attempt=ATTEMPT)

    async def resume(self, interrupted: Interrupted) -> AttemptReply:
        self.resumed.append(interrupted)
        if self.fails is not None:
            raise self.fails
        interrupted.check_wanted()
        return AttemptReply(attempt=ATTEMPT)

    @property
    def function(self) -> OperationFunction:
        return OperationFunction(self.run, resume=self.resume)


@pytest.mark.asyncio
async def test_what_will_be_done_is_written_down_before_it_is() -> None:
    """The plan stands in the ledger before the act, and its heads in the record of the result."""
    ledger, merge = MemoryLedger(), Merging()
    at = dispatcher(ledger, merge=merge.function)
    first = asyncio.create_task(result(at, call("merge", idempotency_key="k")))
    await merge.planned.wait()
    assert (ledger.written, merge.acted) == (["intent", "note"], 0)
    other = await result(at, call("merge", idempotency_key="k2"))
    assert (other.error and other.error.code) == "in_progress"
    assert "k2" not in ledger.keys
    merge.go_on.set()
    assert (await first).error is None
    record = ledger.keys["k"].record
    assert (record.head_before, record.head_after, record.status) == ("a", "b", "done")
    assert (await result(at, call("merge", idempotency_key="k2"))).error is None


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("age_s", "planned", "fails", "code"),
    [
        (1, True, None, None),
        (1, False, None, None),
        (3600, False, None, "deadline_passed"),
        (1, True, OperationError(ErrorCode.GIT_FAILED, "the disk is away"), "unknown"),
        (1, True, ZeroDivisionError(), "unknown"),
        (1, False, OperationError(ErrorCode.GIT_FAILED, "the disk is away"), "git_failed"),
        (1, True, OperationError(ErrorCode.TARGET_MOVED, "it moved"), "target_moved"),
    ],
)
async def test_what_was_planned_is_resumed(
    age_s: float,
    planned: bool,
    fails: Exception | None,
    code: str | None,
) -> None:
    """It is resumed with what was asked and planned, or begun; what cannot be told is unknown."""
    ledger, merge = MemoryLedger(), Merging()
    merge.fails = fails
    record = OperationRecord(
        key="k",
        operation="merge",
        attempt_id="a1",
        started_at_ms=int((time.time() - age_s) * 1000),
    )
    plan = msgspec.msgpack.encode(Plan(head_before="a")) if planned else None
    request = msgspec.msgpack.encode(MergeRequest(strategy="merge"))
    await ledger.intend(record, "h", Asked(request=request, expected_head="a", plan=plan))
    merge.go_on.set()
    await dispatcher(ledger, merge=merge.function).settle_unsettled()
    assert [one.plan for one in merge.resumed] == ([plan] if planned else [])
    for asking in [one.asking for one in merge.resumed] + merge.asked:
        assert asking.request == MergeRequest(strategy="merge")
        assert (asking.expected_head, asking.attempt_id) == ("a", "a1")
    assert len(merge.asked) == (not planned and code != "deadline_passed")
    error = ledger.keys["k"].error
    assert (error and error.code) == code
    if code == "unknown":
        assert error
        assert error.details["planned"]["head_before"] == "a"


async def pieces_of(*pieces: bytes) -> AsyncIterator[bytes]:
    """Yield these."""
    for piece in pieces:
        yield piece


@hypothesis.given(strategies.lists(strategies.integers(0, 3 * limits.PART_BYTES_MAX), max_size=6))
def test_recut_keeps_every_byte(sizes: list[int]) -> None:
    """Parts are at most as large as the wire takes, and their bytes are the pieces' bytes."""
    pieces = [bytes([n + 1]) * size for n, size in enumerate(sizes)]

    async def run() -> list[bytes]:
        return [part async for part in recut(pieces_of(*pieces))]

    parts = asyncio.run(run())
    assert b"".join(parts) == b"".join(pieces)
    assert all(0 < len(part) <= limits.PART_BYTES_MAX for part in parts)
    assert all(len(part) == limits.PART_BYTES_MAX for part in parts[:-1])


def streaming(pieces: AsyncIterator[bytes]) -> OperationFunction:
    """A diff that answers these pieces."""

    async def run(_: Asking) -> Streamed:
        return Streamed(StreamHead(media_type="application/json"), pieces)

    return OperationFunction(run)


@pytest.mark.asyncio
async def test_a_stream_opens_carries_its_bytes_and_ends() -> None:
    """A streamed reply is Opened, numbered Parts whose bytes are untouched, and End."""
    content = bytes(range(256)) * 400
    at = dispatcher(diff=streaming(pieces_of(content[:7], content[7:])))
    opened, *parts, end = await frames(at, call("diff"))
    assert isinstance(opened, Opened)
    assert msgspec.msgpack.decode(opened.body, type=StreamHead).media_type == "application/json"
    assert [part.n for part in parts if isinstance(part, Part)] == list(range(len(parts)))
    assert b"".join(part.data for part in parts if isinstance(part, Part)) == content
    assert end == End(call_id=opened.call_id)


@pytest.mark.asyncio
async def test_a_stream_that_breaks_says_so() -> None:
    """A stream that fails after its head ends with the error."""

    async def breaking() -> AsyncIterator[bytes]:
        yield b"x" * limits.PART_BYTES_MAX
        raise OperationError(ErrorCode.GIT_FAILED, "git died")

    *_, part, end = await frames(dispatcher(diff=streaming(breaking())), call("diff"))
    assert isinstance(part, Part)
    assert isinstance(end, End)
    assert (end.error and end.error.code) == "git_failed"


@pytest.mark.asyncio
async def test_a_stream_whose_reader_leaves_is_closed() -> None:
    """When the link drops a stream, what feeds it is closed at once."""
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * limits.PART_BYTES_MAX
        finally:
            closed.set()

    replies = dispatcher(diff=streaming(endless())).run_call(call("diff"), now_s=NOW_S, hive=HIVE)
    async with contextlib.aclosing(replies):
        async for reply in replies:
            if isinstance(reply, Part):
                break
    assert closed.is_set()


@pytest.mark.asyncio
async def test_a_stream_ends_with_its_right() -> None:
    """A stream lives as long as its capability, and then ends with deadline_passed."""

    async def idle() -> AsyncIterator[bytes]:
        await asyncio.sleep(60)
        yield b""

    row = OPERATIONS["diff"]
    short = msgspec.structs.replace(row, deadline_s=0.05)
    at = dispatcher(diff=streaming(idle()))
    asked = call("diff", expires_at_s=int(NOW_S) - 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OPERATIONS, "diff", short)
        *_, end = await frames(at, asked)
    assert isinstance(end, End)
    assert (end.error and end.error.code) == "deadline_passed"


@pytest.mark.asyncio
async def test_a_call_for_another_run_does_nothing() -> None:
    """One that waited, for a run that is not the newest any more: refused, and no key is kept."""
    ledger, runs, ran = MemoryLedger(), ["e1"], []

    async def stop(asking: Asking) -> AttemptReply:
        ran.append(asking.key)
        return AttemptReply(attempt=ATTEMPT)

    async def runs_of(asking: Asking) -> list[str]:
        assert asking.attempt_id == "a1"
        return runs

    at = OperationDispatcher(
        {"stop": OperationFunction(stop)}, ledger, node_id=NODE, runs_of=runs_of
    )

    async def asked(key: str, expected: str | None) -> Result:
        more = {"idempotency_key": key, "expected_execution": expected}
        return await result(at, call("stop", StopRequest(), **more))

    assert (await asked("k1", "e1")).error is None
    runs.append("e2")
    refused = (await asked("k2", "e1")).error
    assert refused is not None
    assert refused.code == ErrorCode.EXPECTED_EXECUTION_MOVED
    assert "k2" not in ledger.keys
    # What was done before is answered as it was, whatever runs now.
    assert (await asked("k1", "e1")).error is None
    assert (await asked("k3", None)).error is None
    assert ran == ["k1", "k3"]
