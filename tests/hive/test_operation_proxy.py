"""Operations through the hive: once per key, whatever the caller, the link or the hive does."""

import asyncio

import msgspec
import pytest

from hive.access import Principal
from hive.operation_proxy import Intent, OperationProxy, Recorded, Target
from protocol.attempt_requests import StopRequest
from protocol.errors import ErrorCode, OperationError
from protocol.operations import Role

ANN = Principal(token_id="t", name="ann", role=Role.OPERATOR)
BOB = Principal(token_id="u", name="bob", role=Role.OPERATOR)
TARGET = Target(node_id="n1", attempt_id="a1")


class Records:
    """Records in memory, as the store keeps them."""

    def __init__(self) -> None:
        self.rows: dict[str, Recorded] = {}

    async def begin(self, *, key, body_hash, operation, target, actor, expected_head, body):
        if key in self.rows:
            return self.rows[key]
        self.rows[key] = Recorded(
            key=key,
            body_hash=body_hash,
            actor=actor,
            status="sent",
            node_id=target.node_id,
            body=body,
        )
        return None

    async def send_again(self, key, node_id, body):
        self.rows[key] = msgspec.structs.replace(
            self.rows[key], status="sent", node_id=node_id, body=body
        )

    async def settle(self, key, *, status, reply, error):
        self.rows[key] = msgspec.structs.replace(
            self.rows[key], status=status, reply=reply, error=error
        )


class Nodes:
    """A node that does what it is told to, and remembers being asked."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.calls: list[tuple[str, str, str | None]] = []
        self.error: OperationError | None = None
        self.hold: asyncio.Event | None = None

    async def call(self, node_id, operation, attempt_id, body, *, idempotency_key=None, **rest):
        self.calls.append((node_id, operation, idempotency_key))
        assert idempotency_key in self.records.rows, "the key is stored before the call leaves"
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error
        return b"reply %d" % len(self.calls)

    async def open_stream(self, *args, **rest):
        raise AssertionError


async def under_way(nodes: Nodes, calls: int = 1) -> None:
    """Wait until so many calls have reached the node."""
    async with asyncio.timeout(30):
        while len(nodes.calls) < calls:
            await asyncio.sleep(0)


def intent(key: str = "k", said: bytes = b"{}", who: Principal = ANN) -> Intent:
    """A stop, as its caller asked for it."""
    return Intent(operation="stop", principal=who, key=key, said=said, deadline_s=5.0)


@pytest.fixture
def records() -> Records:
    """Records of one hive."""
    return Records()


@pytest.fixture
def nodes(records: Records) -> Nodes:
    """The connected nodes of that hive."""
    return Nodes(records)


@pytest.fixture
def proxy(nodes: Nodes, records: Records) -> OperationProxy:
    """The proxy between both."""
    return OperationProxy(nodes, records)


@pytest.mark.asyncio
async def test_the_same_key_again_gets_the_stored_reply(proxy, nodes, records):
    """A repeated request does nothing a second time."""
    assert await proxy.change(intent(), TARGET, StopRequest()) == b"reply 1"
    assert records.rows["k"].status == "done"
    assert await proxy.change(intent(), TARGET, StopRequest()) == b"reply 1"
    assert len(nodes.calls) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("other", [intent(said=b"{'grace_s': 1}"), intent(who=BOB)])
async def test_the_key_of_another_request_is_refused(proxy, nodes, other):
    """A key stands for one request of one person; another body or person is refused."""
    await proxy.change(intent(), TARGET, StopRequest())
    with pytest.raises(OperationError) as caught:
        await proxy.change(other, TARGET, StopRequest())
    assert caught.value.code is ErrorCode.KEY_REUSED
    assert len(nodes.calls) == 1


@pytest.mark.asyncio
async def test_a_key_under_way_is_in_progress(proxy, nodes):
    """While a call is out, the same key is told so and sends nothing."""
    nodes.hold = asyncio.Event()
    first = asyncio.create_task(proxy.change(intent(), TARGET, StopRequest()))
    await under_way(nodes)
    with pytest.raises(OperationError) as caught:
        await proxy.change(intent(), TARGET, StopRequest())
    assert caught.value.code is ErrorCode.IN_PROGRESS
    nodes.hold.set()
    assert await first == b"reply 1"
    assert len(nodes.calls) == 1


@pytest.mark.asyncio
async def test_a_caller_that_leaves_does_not_take_its_operation_along(proxy, nodes, records):
    """The call goes on and its result is recorded, also when nobody waits for it."""
    nodes.hold = asyncio.Event()
    caller = asyncio.create_task(proxy.change(intent(), TARGET, StopRequest()))
    await under_way(nodes)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    nodes.hold.set()
    while proxy.under_way:
        await asyncio.sleep(0.001)
    assert records.rows["k"].status == "done"


@pytest.mark.asyncio
async def test_an_unknown_outcome_is_recorded_and_the_same_key_asks_the_same_node(
    proxy, nodes, records
):
    """A timeout is never a failure; asked again, the node that may have done it answers."""
    nodes.error = OperationError(ErrorCode.UNKNOWN_OUTCOME, "no answer came in time")
    with pytest.raises(OperationError) as caught:
        await proxy.change(intent(), TARGET, StopRequest())
    assert caught.value.details["key"] == "k"
    assert records.rows["k"].status == "unknown"
    nodes.error = None
    elsewhere = Target(node_id="n2")
    assert await proxy.change(intent(), elsewhere, StopRequest()) == b"reply 2"
    assert [call[0] for call in nodes.calls] == ["n1", "n1"]


@pytest.mark.asyncio
async def test_what_a_node_knows_of_the_unknown_is_passed_on(proxy, nodes):
    """A node that looked what became of it says where to look on, and the hive repeats it."""
    nodes.error = OperationError(
        ErrorCode.UNKNOWN_OUTCOME, "nobody knows", hint="Look there.", host="github.com"
    )
    with pytest.raises(OperationError) as caught:
        await proxy.change(intent(), TARGET, StopRequest())
    assert caught.value.code is ErrorCode.UNKNOWN_OUTCOME
    assert caught.value.hint == "Look there."
    assert caught.value.details == {"host": "github.com", "key": "k"}


@pytest.mark.asyncio
async def test_a_failure_that_the_node_reported_is_asked_of_it(proxy, nodes, records):
    """Where its op said that it failed there, the words are that node's, whoever is asked now."""
    await proxy.change(intent(), TARGET, StopRequest())
    failed = {"status": "failed", "reply": None, "error": None}
    records.rows["k"] = msgspec.structs.replace(records.rows["k"], **failed)
    nodes.error = OperationError(ErrorCode.CONFLICT, "its own words")
    with pytest.raises(OperationError) as caught:
        await proxy.change(intent(), Target(node_id="n2"), StopRequest())
    assert caught.value.message == "its own words"
    assert [call[0] for call in nodes.calls] == ["n1", "n1"]


@pytest.mark.asyncio
async def test_a_refusal_is_stored(proxy, nodes):
    """The node's own error is the result, and stays it."""
    nodes.error = OperationError(ErrorCode.NO_CHECKOUT, "no checkout here", node="n1")
    for _ in range(2):
        with pytest.raises(OperationError) as caught:
            await proxy.change(intent(), TARGET, StopRequest())
        assert caught.value.code is ErrorCode.NO_CHECKOUT
        assert caught.value.details == {"node": "n1"}
    assert len(nodes.calls) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("code", [ErrorCode.NODE_OFFLINE, ErrorCode.NODE_FULL])
async def test_what_did_nothing_may_be_tried_again(proxy, nodes, code):
    """A node that was away or full did nothing: the same key tries again, there or elsewhere."""
    nodes.error = OperationError(code, "not now")
    with pytest.raises(OperationError):
        await proxy.change(intent(), TARGET, StopRequest())
    nodes.error = None
    assert await proxy.change(intent(), Target(node_id="n2"), StopRequest()) == b"reply 2"
    assert nodes.calls[-1][0] == "n2"


@pytest.mark.asyncio
async def test_a_stopping_hive_records_what_it_does_not_know(proxy, nodes, records):
    """Calls under way when the hive stops read as unknown, never as failed or lost."""
    nodes.hold = asyncio.Event()
    caller = asyncio.create_task(proxy.change(intent(), TARGET, StopRequest()))
    await under_way(nodes)
    await proxy.close(0.01)
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert records.rows["k"].status == "unknown"
    assert proxy.under_way == 0


@pytest.mark.asyncio
async def test_what_may_be_done_is_not_called_undone(proxy, nodes, records):
    """Unknown, then asked again while the node is away: still unknown, and still that node's."""
    nodes.error = OperationError(ErrorCode.UNKNOWN_OUTCOME, "the link broke")
    with pytest.raises(OperationError):
        await proxy.change(intent(), TARGET, StopRequest())
    nodes.error = OperationError(ErrorCode.NODE_OFFLINE, "the node is not connected")
    with pytest.raises(OperationError) as caught:
        await proxy.change(intent(), TARGET, StopRequest())
    assert caught.value.code is ErrorCode.NODE_OFFLINE
    assert records.rows["k"].status == "unknown"
    nodes.error = None
    assert await proxy.change(intent(), Target(node_id="n2"), StopRequest()) == b"reply 3"
    assert {call[0] for call in nodes.calls} == {"n1"}


@pytest.mark.asyncio
@pytest.mark.parametrize("status", ["done", "failed"])
async def test_what_its_node_reported_stays_so(proxy, nodes, records, status):
    """Settled by the node's op, its answer with the node: a node that is away changes nothing."""
    nodes.error = OperationError(ErrorCode.UNKNOWN_OUTCOME, "the link broke")
    with pytest.raises(OperationError):
        await proxy.change(intent(), TARGET, StopRequest())
    records.rows["k"] = msgspec.structs.replace(records.rows["k"], status=status, error=None)
    nodes.error = OperationError(ErrorCode.NODE_OFFLINE, "the node is not connected")
    with pytest.raises(OperationError) as caught:
        await proxy.change(intent(), TARGET, StopRequest())
    assert (caught.value.code, caught.value.details["status"]) == (ErrorCode.NODE_OFFLINE, status)
    assert records.rows["k"].status == status
    nodes.error = OperationError(ErrorCode.GIT_FAILED, "no") if status == "failed" else None
    assert await outcome(proxy) == (b"reply 3" if status == "done" else ErrorCode.GIT_FAILED)
    sent = len(nodes.calls)
    nodes.error = OperationError(ErrorCode.NODE_OFFLINE, "the node is not connected")
    # From here on the hive has the whole answer itself.
    assert await outcome(proxy) == (b"reply 3" if status == "done" else ErrorCode.GIT_FAILED)
    assert len(nodes.calls) == sent


async def outcome(proxy: OperationProxy) -> bytes | ErrorCode:
    """The reply of the same request again, or the code of its error."""
    try:
        return await proxy.change(intent(), TARGET, StopRequest())
    except OperationError as error:
        return error.code


@pytest.mark.asyncio
@pytest.mark.parametrize("status", ["waiting", "delivered"])
async def test_what_is_kept_for_its_node_is_not_sent_beside(proxy, nodes, records, status):
    """One way only: it leaves by itself, and the same key is told so."""
    await proxy.change(intent(), TARGET, StopRequest())
    records.rows["k"] = msgspec.structs.replace(records.rows["k"], status=status, reply=None)
    with pytest.raises(OperationError) as caught:
        await proxy.change(intent(), TARGET, StopRequest())
    assert caught.value.code is ErrorCode.IN_PROGRESS
    assert len(nodes.calls) == 1


@pytest.mark.asyncio
async def test_what_is_delivered_is_recorded_by_its_caller(proxy, nodes, records):
    """`deliver` writes nothing, and one key is under way once."""
    await proxy.change(intent(), TARGET, StopRequest())
    nodes.hold = asyncio.Event()
    first = asyncio.create_task(proxy.deliver(intent(), TARGET, b"body"))
    await under_way(nodes, calls=2)
    with pytest.raises(OperationError) as caught:
        await proxy.deliver(intent(), TARGET, b"body")
    assert caught.value.code is ErrorCode.IN_PROGRESS
    nodes.hold.set()
    assert await first == b"reply 2"
    assert records.rows["k"].reply == b"reply 1"
