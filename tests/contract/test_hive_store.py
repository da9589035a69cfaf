"""What every store of the hive must do, whichever backend: links, journals, logs, needs."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import pytest
import pytest_asyncio

from hive.store import backend, events, links, logs, nodes, statistics
from hive.store.backend import IngestStore
from hive.store.ingest_store import SqliteIngestStore
from hive.store.sqlite import SqliteDatabase
from protocol import digest, limits
from protocol.errors import ErrorCode, SkepError
from protocol.log_chunks import GapChunk, LogChunk, chain, through
from protocol.messages import EpochMark, LogState, Need, NeedDone, NeedOutcome, Skip, Snapshot
from protocol.ops import EpochState, Op, OpKind, decode_body
from tests.hive import reported
from tests.hive.reported import NODE, NOW_MS, OTHER, hello, states, uid
from tests.simulation.memory_hive import MemoryHive, Node


class Shown(NamedTuple):
    """What a viewer is told of a node's fact: one telling word of it, and if it is forgotten."""

    word: str
    forgotten: bool


class Hive(Protocol):
    """A store under test, and what the rest of a hive does to it."""

    store: IngestStore

    async def enrol(self, node_id: str) -> None:
        """Take a node in."""

    async def revoke(self, node_id: str) -> None:
        """Let a node never write again."""

    async def release(self, node_id: str, instance: int) -> None:
        """Let one holder of a quarantined identity on."""

    async def shown(self, kind: str, entity_id: str) -> Shown | None:
        """An attempt's branch, a checkout's path, an execution's status."""

    async def held(self, execution_id: str) -> list[LogChunk | GapChunk]:
        """The chunks that are held of a log."""

    async def kept_aside(self) -> int:
        """How many ops were kept aside, dead or unknown."""

    async def refusals(self, node_id: str) -> int:
        """How often the node was caught reaching for what is not its own."""


_WORDS = {"attempt": "branch", "checkout": "path", "execution": "status"}


class SqliteHive:
    """The store on SQLite."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.database = database
        self.store: IngestStore = SqliteIngestStore(database, clock=lambda: NOW_MS)

    async def enrol(self, node_id: str) -> None:
        async def unit(tx: backend.Transaction) -> None:
            await nodes.enrol(
                tx, node_id=node_id, name="", public_key=b"k" * 32, labels=[], now_ms=NOW_MS
            )

        await self.database.write(unit)

    async def revoke(self, node_id: str) -> None:
        await self.database.write(nodes.revoke_node, node_id, actor="admin", now_ms=NOW_MS)

    async def release(self, node_id: str, instance: int) -> None:
        await self.database.write(links.release, node_id, instance, actor="admin", now_ms=NOW_MS)

    async def shown(self, kind: str, entity_id: str) -> Shown | None:
        async def unit(tx: backend.Transaction) -> Shown | None:
            row = await tx.fetch_one(f"SELECT * FROM {kind} WHERE id = :id", {"id": entity_id})  # noqa: S608  a test
            if row is None:
                return None
            return Shown(row[_WORDS[kind]], row["forgotten_at_ms"] is not None)

        return await self.database.read(unit)

    async def held(self, execution_id: str) -> list[LogChunk | GapChunk]:
        return await self.database.read(
            logs.chunks_from, execution_id, 1, chunks_max=1000, bytes_max=2**30
        )

    async def kept_aside(self) -> int:
        return (await self.database.read(statistics.totals)).ops_aside

    async def refusals(self, node_id: str) -> int:
        found = await self.database.read(
            events.list_events, audit=True, node_id=node_id, kind="refused"
        )
        return len(found)


@contextlib.asynccontextmanager
async def sqlite_hives(folder: Path) -> AsyncIterator[Hive]:
    """Open a store in a file of its own."""
    database = await SqliteDatabase.open(folder / "hive.db", on_fatal=_fatal)
    try:
        yield SqliteHive(database)
    finally:
        await database.close()


class MemoryUnderTest:
    """The simulator's store."""

    def __init__(self) -> None:
        self.memory = MemoryHive()
        self.store: IngestStore = self.memory

    async def enrol(self, node_id: str) -> None:
        self.memory.nodes[node_id] = Node(key=b"k" * 32)

    async def revoke(self, node_id: str) -> None:
        self.memory.nodes[node_id].revoked = True

    async def release(self, node_id: str, instance: int) -> None:
        self.memory.release(node_id, instance)

    async def shown(self, kind: str, entity_id: str) -> Shown | None:
        for node in self.memory.nodes.values():
            row = node.rows.get((kind, entity_id))
            if row is not None:
                return Shown(getattr(decode_body(kind, row.body), _WORDS[kind]), row.forgotten)
        return None

    async def held(self, execution_id: str) -> list[LogChunk | GapChunk]:
        return list(self.memory.logs[execution_id].chunks)

    async def kept_aside(self) -> int:
        return self.memory.kept_aside

    async def refusals(self, node_id: str) -> int:
        raise NotImplementedError("the simulator audits nothing")


@contextlib.asynccontextmanager
async def memory_hives(folder: Path) -> AsyncIterator[Hive]:
    """Make a store of the simulator."""
    yield MemoryUnderTest()


def _fatal(error: Exception) -> None:
    raise AssertionError(error)


Opened = Callable[[Path], contextlib.AbstractAsyncContextManager[Hive]]
BACKENDS: dict[str, Opened] = {"sqlite": sqlite_hives, "memory": memory_hives}


@pytest_asyncio.fixture(params=BACKENDS)
async def hive(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hive]:
    """A hive with two nodes enrolled."""
    async with BACKENDS[request.param](tmp_path) as opened:
        await opened.enrol(NODE)
        await opened.enrol(OTHER)
        yield opened


@pytest_asyncio.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Hive]:
    """A real hive. The simulator's nodes are honest: its store does not guard against others."""
    async with sqlite_hives(tmp_path) as opened:
        await opened.enrol(NODE)
        await opened.enrol(OTHER)
        yield opened


@contextlib.contextmanager
def refused(code: ErrorCode) -> AsyncIterator[None]:
    """The body must be refused with this code."""
    with pytest.raises(SkepError) as caught:
        yield
    assert caught.value.code is code


class Link:
    """One node's present link, in short words."""

    def __init__(self, hive: Hive, node_id: str, link_no: int, epoch: int) -> None:
        self.hive, self.node_id, self.link_no, self.epoch = hive, node_id, link_no, epoch

    async def ops(self, *ops: Op, first_seq: int = 1) -> int:
        return await self.hive.store.commit_ops(
            self.node_id, self.link_no, self.epoch, first_seq, list(ops)
        )

    async def chunks(self, *chunks: LogChunk | GapChunk) -> list[str]:
        outcomes = await self.hive.store.commit_chunks(self.node_id, self.link_no, chunks)
        return [outcome.kind for outcome in outcomes]

    async def snapshot(
        self, *ops: Op, seq: int = 0, snapshot_id: str = "s", last: bool = True
    ) -> None:
        page = Snapshot(
            snapshot_id=snapshot_id,
            epoch=self.epoch,
            seq=seq,
            records=[reported.record(op) for op in ops],
            last=last,
        )
        await self.hive.store.commit_snapshot(self.node_id, self.link_no, page)

    async def state(self, *epochs: EpochState) -> backend.JournalState:
        return await self.hive.store.journal_state(self.node_id, self.link_no, list(epochs))

    async def lacking(self) -> list[backend.Lacking]:
        return await self.hive.store.lacking(self.node_id, 10)


async def link(
    hive: Hive,
    node_id: str = NODE,
    *,
    instance: int = 1,
    connect_no: int = 1,
    at: int = 1,
    epochs: list[EpochState] | None = None,
) -> Link:
    """Open a link. `at` orders challenges and acceptances."""
    link_no = await hive.store.accept_link(
        hello(node_id, instance, connect_no, epochs), challenged_at=at, accepted_at=at
    )
    return Link(hive, node_id, link_no, instance)


# --- links ----------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_link_numbers_rise(hive: Hive):
    """Each accepted hello gets a higher number, and a restart of the node is no second holder."""
    first = await link(hive)
    again = await link(hive, connect_no=2, at=2)
    restarted = await link(hive, instance=2, at=3)
    assert first.link_no < again.link_no < restarted.link_no


@pytest.mark.asyncio
async def test_an_older_link_writes_nothing(hive: Hive):
    """Only the present link commits: every kind of write of an older one is refused."""
    old = await link(hive)
    await link(hive, connect_no=2, at=2)
    with refused(ErrorCode.SUPERSEDED):
        await old.ops(reported.checkout())
    with refused(ErrorCode.SUPERSEDED):
        await old.chunks(reported.chunk())
    with refused(ErrorCode.SUPERSEDED):
        await old.snapshot()
    with refused(ErrorCode.SUPERSEDED):
        await hive.store.commit_skip(NODE, old.link_no, Skip(epoch=1, through=1, digest=b"d" * 16))
    with refused(ErrorCode.SUPERSEDED):
        await hive.store.commit_records(NODE, old.link_no, "r", [])
    with refused(ErrorCode.SUPERSEDED):
        await hive.store.need_done(NODE, old.link_no, NeedDone(request_id="r", outcomes=[]))
    assert await hive.shown("checkout", uid(1)) is None


@pytest.mark.asyncio
async def test_unknown_and_revoked_nodes_are_refused(hive: Hive):
    """A node that is not known or was revoked gets no link, and a live one stops writing."""
    with refused(ErrorCode.UNKNOWN_NODE):
        await link(hive, uid(99))
    with refused(ErrorCode.UNKNOWN_NODE):
        await hive.store.node_key(uid(99))
    live = await link(hive)
    await hive.revoke(NODE)
    with refused(ErrorCode.REVOKED):
        await live.ops(reported.checkout())
    with refused(ErrorCode.REVOKED):
        await link(hive, connect_no=2, at=2)
    with refused(ErrorCode.REVOKED):
        await hive.store.node_key(NODE)


@pytest.mark.asyncio
async def test_a_late_nonce_is_superseded(hive: Hive):
    """A hello on a nonce given before the present link was accepted is no verdict on anybody."""
    await hive.store.accept_link(hello(), challenged_at=1, accepted_at=5)
    with refused(ErrorCode.SUPERSEDED):
        await hive.store.accept_link(hello(instance=2), challenged_at=3, accepted_at=6)
    await hive.store.accept_link(hello(connect_no=2), challenged_at=7, accepted_at=8)


@pytest.mark.asyncio
async def test_two_holders_are_quarantined(hive: Hive):
    """An instance that comes back after it was replaced stops both, until a person lets one on."""
    await link(hive, instance=1)
    second = await link(hive, instance=2, at=2)
    with refused(ErrorCode.QUARANTINED):
        await link(hive, instance=1, connect_no=2, at=3)
    with refused(ErrorCode.QUARANTINED):
        await second.ops(reported.checkout())
    with refused(ErrorCode.QUARANTINED):
        await link(hive, instance=2, connect_no=2, at=4)
    await hive.release(NODE, 2)
    with refused(ErrorCode.QUARANTINED):
        await link(hive, instance=1, connect_no=3, at=5)
    on = await link(hive, instance=2, connect_no=3, at=6)
    assert await on.ops(reported.checkout()) == 1


# --- ops ------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_ops_move_the_mark_and_show(hive: Hive):
    """Ops are committed in order, shown, and counted by the mark and its digest."""
    live = await link(hive)
    told = [reported.checkout(), reported.attempt(), reported.execution()]
    assert await live.ops(*told) == 3
    state = await live.state(states(told))
    assert state.marks == [EpochMark(1, 3, states(told).digest)]
    assert state.newest == (1, 3)
    assert state.forks == []
    assert await hive.store.marks(NODE, [1, 77]) == [
        EpochMark(1, 3, states(told).digest),
        EpochMark(77, 0, digest.EMPTY),
    ]
    assert await hive.shown("attempt", uid(10)) == Shown("skep/10", forgotten=False)


@pytest.mark.asyncio
async def test_ops_sent_again_are_ignored(hive: Hive):
    """What is below the mark is not applied twice, also where a frame overlaps it."""
    live = await link(hive)
    first = reported.attempt(branch="one")
    assert await live.ops(first) == 1
    assert await live.ops(first) == 1
    changed = reported.attempt(branch="two")
    assert await live.ops(reported.attempt(branch="never"), changed) == 2
    assert await hive.shown("attempt", uid(10)) == Shown("two", forgotten=False)
    assert (await live.state()).newest == (1, 2)
    # The digest is over what was taken, not over what was sent again.
    assert await hive.store.marks(NODE, [1]) == [EpochMark(1, 2, states([first, changed]).digest)]


@pytest.mark.asyncio
async def test_a_hole_is_refused_whole(hive: Hive):
    """Ops that do not follow the mark are refused, and nothing of them is kept."""
    live = await link(hive)
    with refused(ErrorCode.HOLE):
        await live.ops(reported.attempt(), first_seq=2)
    assert await hive.store.marks(NODE, [1]) == [EpochMark(1, 0, digest.EMPTY)]
    assert await hive.shown("attempt", uid(10)) is None


@pytest.mark.asyncio
async def test_an_epoch_that_no_hello_named_is_refused(guarded: Hive):
    """Ops of an epoch the node never listed break the protocol."""
    live = await link(guarded)
    with refused(ErrorCode.BAD_FRAME):
        await guarded.store.commit_ops(NODE, live.link_no, 99, 1, [reported.attempt()])


@pytest.mark.asyncio
async def test_a_later_epoch_wins_over_an_earlier_one(hive: Hive):
    """Which state is newer is decided by rank and seq, not by the order of arrival."""
    both = [EpochState(7, 1, 1, b""), EpochState(3, 1, 1, b"")]
    live = await link(hive, instance=3, epochs=both)
    await live.ops(reported.attempt(branch="new"))
    await hive.store.commit_ops(
        NODE, live.link_no, 7, 1, [reported.attempt(branch="old"), reported.checkout(path="/old")]
    )
    assert await hive.shown("attempt", uid(10)) == Shown("new", forgotten=False)
    assert await hive.shown("checkout", uid(1)) == Shown("/old", forgotten=False)


@pytest.mark.asyncio
async def test_ranks_are_given_at_first_sight(hive: Hive):
    """A restored node lists fewer epochs: what it writes next is newer than all it wrote before."""
    lost = [EpochState(1, 1, 1, b""), EpochState(2, 1, 1, b"")]
    before = await link(hive, instance=2, epochs=lost)
    await before.ops(reported.attempt(branch="lost"))
    after = await link(
        hive, instance=3, at=2, epochs=[EpochState(1, 1, 1, b""), EpochState(3, 1, 1, b"")]
    )
    await after.ops(reported.attempt(branch="restored"))
    assert await hive.shown("attempt", uid(10)) == Shown("restored", forgotten=False)
    assert (await after.state()).newest == (3, 1)


@pytest.mark.asyncio
async def test_what_cannot_be_applied_does_not_block(guarded: Hive):
    """An unknown kind and a poisonous body are kept aside; the mark moves on past them."""
    live = await link(guarded)
    assert (
        await live.ops(
            Op("sparkle", uid(3), NOW_MS, b"\xc0"),
            Op(OpKind.ATTEMPT, uid(10), NOW_MS, b"\xff\x00"),
            Op(OpKind.ATTEMPT, uid(10), NOW_MS, reported.attempt(11).body),
            reported.attempt(12, created_at_ms=2**80 // 2**17),
            reported.attempt(13),
        )
        == 5
    )
    assert await guarded.kept_aside() == 4
    assert await guarded.shown("attempt", uid(10)) is None
    assert await guarded.shown("attempt", uid(13)) is not None


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "theft",
    [
        reported.checkout(path="/stolen"),
        reported.attempt(branch="stolen"),
        reported.execution(status="failed"),
        reported.execution(21),
        reported.log_end(),
        reported.node_state(name="stolen"),
    ],
    ids=["checkout", "attempt", "execution", "another's attempt", "log end", "node"],
)
async def test_what_is_another_nodes_is_refused(guarded: Hive, theft: Op):
    """An op about another node's entity refuses the whole frame, and is audited."""
    owner = await link(guarded)
    await owner.ops(reported.checkout(), reported.attempt(), reported.execution())
    await owner.chunks(reported.chunk())
    thief = await link(guarded, OTHER)
    own = reported.checkout(2, name="mine", identity="x/mine")
    with refused(ErrorCode.FORBIDDEN):
        await thief.ops(own, theft)
    assert await guarded.refusals(OTHER) == 1
    assert await guarded.store.marks(OTHER, [1]) == [EpochMark(1, 0, digest.EMPTY)]
    assert await guarded.shown("checkout", uid(2)) is None
    assert await guarded.shown("attempt", uid(10)) == Shown("skep/10", forgotten=False)
    with refused(ErrorCode.FORBIDDEN):
        await thief.snapshot(theft)
    assert await guarded.refusals(OTHER) == 2


# --- forks ----------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_history_that_differs_is_quarantined(hive: Hive):
    """Two histories under one number stop the node; once released, our digests are named."""
    ours = [reported.attempt(branch="a"), reported.attempt(branch="b")]
    theirs = [ours[0], reported.attempt(branch="c")]
    live = await link(hive)
    await live.ops(*ours)
    clone = await link(hive, connect_no=2, at=2)
    with refused(ErrorCode.QUARANTINED):
        await clone.state(states(theirs))
    with refused(ErrorCode.QUARANTINED):
        await clone.ops(reported.checkout(), first_seq=3)
    await hive.release(NODE, 1)
    on = await link(hive, connect_no=3, at=3)
    state = await on.state(states(theirs))
    assert [fork.epoch for fork in state.forks] == [1]
    # A backend may name the beginning, on which all agree.
    named = state.forks[0].digests[-2:]
    assert named == [(1, states(ours[:1]).digest), (2, states(ours).digest)]


@pytest.mark.asyncio
async def test_a_release_is_of_one_instance(hive: Hive):
    """Another process of the node that comes with the same forked history is not let on by it."""
    ours = [reported.attempt(branch="a"), reported.attempt(branch="b")]
    live = await link(hive)
    await live.ops(*ours)
    assert await hive.store.fork_seen(NODE, 1, 2, b"x" * 16)
    await hive.release(NODE, 1)
    forked = states([ours[0], reported.attempt(branch="c")])
    epochs = [forked, EpochState(9, 1, 0, digest.EMPTY)]
    other = await link(hive, instance=9, at=2, epochs=epochs)
    with refused(ErrorCode.QUARANTINED):
        await other.state(*epochs)


@pytest.mark.asyncio
async def test_a_settled_fork_is_forgotten(hive: Hive):
    """Once the node goes on from the last common op in a new epoch, there is no fork any more."""
    ours = [reported.attempt(branch="a"), reported.attempt(branch="b")]
    live = await link(hive)
    await live.ops(*ours)
    assert await hive.store.fork_seen(NODE, 1, 2, b"x" * 16)
    await hive.release(NODE, 1)
    on = await link(hive, connect_no=2, at=2)
    longer = [*ours, reported.attempt(branch="d")]
    assert [fork.epoch for fork in (await on.state(states(longer))).forks] == [1]
    settled = [states(ours[:1]), EpochState(9, 1, 0, digest.EMPTY)]
    moved = await link(hive, instance=9, at=3, epochs=settled)
    assert (await moved.state(*settled)).forks == []
    assert (await moved.state(*settled)).forks == []
    assert await moved.ops(reported.attempt(branch="d")) == 1
    assert await hive.shown("attempt", uid(10)) == Shown("d", forgotten=False)


@pytest.mark.asyncio
async def test_the_node_sees_a_fork_that_the_hello_hides(hive: Hive):
    """Where the node is ahead of the mark, its own comparison tells; agreement is no fork."""
    ours = [reported.attempt(branch="a"), reported.attempt(branch="b")]
    live = await link(hive)
    await live.ops(*ours)
    assert not await hive.store.fork_seen(NODE, 1, 2, states(ours).digest)
    assert await live.ops(reported.checkout(), first_seq=3) == 3
    assert await hive.store.fork_seen(NODE, 1, 2, b"x" * 16)
    with refused(ErrorCode.QUARANTINED):
        await live.ops(reported.checkout(), first_seq=4)


@pytest.mark.asyncio
async def test_a_released_instance_that_forks_again_calls_anew(hive: Hive):
    """A fork seen on a link of the released instance closes it, and its next hello settles it."""
    ours = [reported.attempt(branch="a"), reported.attempt(branch="b")]
    live = await link(hive)
    await live.ops(*ours)
    assert await hive.store.fork_seen(NODE, 1, 1, b"x" * 16)
    await hive.release(NODE, 1)
    on = await link(hive, connect_no=2, at=2)
    with refused(ErrorCode.HOLE):
        await hive.store.fork_seen(NODE, 1, 2, b"y" * 16)
    longer = [*ours, reported.attempt(branch="d")]
    assert [fork.epoch for fork in (await on.state(states(longer))).forks] == [1]


@pytest.mark.asyncio
async def test_a_released_holder_below_its_rival_goes_on_in_a_new_epoch(hive: Hive):
    """The epoch of a released instance that its rival outranks is named as a fork."""
    first = await link(hive, instance=1)
    await first.ops(reported.attempt(branch="first"))
    second = await link(hive, instance=2, at=2)
    await second.ops(reported.attempt(branch="second"))
    with refused(ErrorCode.QUARANTINED):
        await link(hive, instance=1, connect_no=2, at=3)
    await hive.release(NODE, 1)
    told = states([reported.attempt(branch="first")])
    on = await link(hive, instance=1, connect_no=3, at=4, epochs=[told])
    assert [fork.epoch for fork in (await on.state(told)).forks] == [1]
    empty = EpochState(5, 1, 0, digest.EMPTY)
    moved = await link(hive, instance=5, at=5, epochs=[told, empty])
    assert (await moved.state(told, empty)).forks == []
    await moved.ops(reported.attempt(branch="first again"))
    assert await hive.shown("attempt", uid(10)) == Shown("first again", forgotten=False)


@pytest.mark.asyncio
async def test_who_is_released_begins_anew(hive: Hive):
    """Links of before write no more; the hello gets an end of the epoch, and a snapshot is due."""
    told = [reported.attempt()]
    first = await link(hive, instance=1)
    await first.ops(*told)
    # The same process twice: a copy of a running machine.
    with refused(ErrorCode.QUARANTINED):
        await link(hive, instance=1, at=2)
    await hive.release(NODE, 1)
    with refused(ErrorCode.SUPERSEDED):
        await first.ops(reported.checkout(), first_seq=2)
    on = await link(hive, instance=1, connect_no=2, at=3)
    state = await on.state(states(told))
    assert [fork.epoch for fork in state.forks] == [1]
    both = [states(told), EpochState(2, 1, 0, digest.EMPTY)]
    anew = await link(hive, instance=2, at=4, epochs=both)
    state = await anew.state(*both)
    assert (state.forks, state.snapshot_wanted) == ([], True)


@pytest.mark.asyncio
async def test_what_a_rival_lacks_is_asked_of_the_one_let_on(hive: Hive):
    """A log that one holder does not know is lacking again once another is released."""
    live = await link(hive)
    await live.ops(
        reported.checkout(),
        reported.attempt(executions=[uid(20)]),
        reported.execution(),
        reported.log_end(chunks=1),
    )
    await hive.store.store_need(NODE, _need("r1", uid(20)))
    unknown = NeedDone(request_id="r1", outcomes=[NeedOutcome(uid(20), "unknown")])
    await hive.store.need_done(NODE, live.link_no, unknown)
    assert await live.lacking() == []
    with refused(ErrorCode.QUARANTINED):
        await link(hive, at=2)
    await hive.release(NODE, 1)
    assert [one.attempt_id for one in await live.lacking()] == [uid(10)]
    assert await hive.store.store_need(NODE, _need("r2", uid(20))) == _need("r2", uid(20))


# --- snapshots and skips --------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_whole_snapshot_forgets_what_it_does_not_name(hive: Hive):
    """What the last page completes without naming is shown as forgotten, beside its facts."""
    old = await link(hive)
    await old.ops(reported.checkout(), reported.attempt(), reported.attempt(11))
    new = await link(hive, instance=2, at=2)
    await new.snapshot(reported.checkout(path="/now"), last=False)
    assert await hive.shown("attempt", uid(11)) == Shown("skep/11", forgotten=False)
    # A part of it stands above what was told before; that it is a part, the node hears.
    state = await new.state()
    assert (state.newest, state.snapshot_wanted) == ((2, 0), True)
    await new.snapshot(reported.attempt(branch="now"))
    assert await hive.shown("checkout", uid(1)) == Shown("/now", forgotten=False)
    assert await hive.shown("attempt", uid(10)) == Shown("now", forgotten=False)
    assert await hive.shown("attempt", uid(11)) == Shown("skep/11", forgotten=True)
    assert (await new.state()).newest == (2, 0)
    await new.ops(reported.attempt(11, branch="back"))
    assert await hive.shown("attempt", uid(11)) == Shown("back", forgotten=False)


@pytest.mark.asyncio
async def test_a_snapshot_does_not_undo_what_came_after_it(hive: Hive):
    """A record under a lower position than the row's changes nothing, and still names the row."""
    live = await link(hive)
    await live.ops(reported.checkout(), reported.attempt(branch="one"))
    await live.ops(reported.attempt(branch="two"), first_seq=3)
    await live.snapshot(reported.attempt(branch="one"), seq=2)
    assert await hive.shown("attempt", uid(10)) == Shown("two", forgotten=False)
    assert await hive.shown("checkout", uid(1)) == Shown("/src/1", forgotten=True)


@pytest.mark.asyncio
async def test_what_comes_late_of_before_a_snapshot_is_forgotten(hive: Hive):
    """What a whole snapshot stands above, and does not name, is history when it comes."""
    both = [EpochState(1, 1, 2, b""), EpochState(2, 1, 0, digest.EMPTY)]
    live = await link(hive, instance=2, epochs=both)
    await live.snapshot(reported.checkout())
    late = [reported.checkout(path="/old"), reported.attempt()]
    await hive.store.commit_ops(NODE, live.link_no, 1, 1, late)
    assert await hive.shown("checkout", uid(1)) == Shown("/src/1", forgotten=False)
    assert await hive.shown("attempt", uid(10)) == Shown("skep/10", forgotten=True)


@pytest.mark.asyncio
async def test_a_snapshot_that_broke_off_is_wanted_again(hive: Hive):
    """Between its first page and its last, what is shown is of two times: it is asked for anew."""
    live = await link(hive)
    assert not (await live.state()).snapshot_wanted
    await live.snapshot(reported.checkout(), snapshot_id="cut", last=False)
    again = await link(hive, connect_no=2, at=2)
    assert (await again.state()).snapshot_wanted
    await again.snapshot(reported.checkout(), snapshot_id="whole")
    assert not (await again.state()).snapshot_wanted


@pytest.mark.asyncio
async def test_a_node_that_lacks_what_was_seen_owes_a_snapshot(hive: Hive):
    """A restored node tells all it owns, also where ops of its new epoch came before."""
    live = await link(hive)
    await live.ops(reported.attempt())
    new = [states([reported.checkout()], epoch=2)]
    restored = await link(hive, instance=2, at=2, epochs=new)
    assert (await restored.state(*new)).snapshot_wanted
    await restored.ops(reported.checkout())
    again = await link(hive, instance=2, connect_no=2, at=3, epochs=new)
    assert (await again.state(*new)).snapshot_wanted
    await again.snapshot(reported.checkout(), seq=1)
    assert not (await again.state(*new)).snapshot_wanted
    assert await hive.shown("attempt", uid(10)) == Shown("skep/10", forgotten=True)


@pytest.mark.asyncio
async def test_what_was_written_in_a_nodes_own_epoch_by_another_is_a_fork(hive: Hive):
    """Where we hold more of the present epoch than its node has, the node goes on in a new one."""
    told = [reported.attempt(branch="a"), reported.attempt(branch="b")]
    live = await link(hive)
    await live.ops(*told)
    again = await link(hive, connect_no=2, at=2)
    assert [fork.epoch for fork in (await again.state(states(told[:1]))).forks] == [1]
    assert (await again.state(states(told))).forks == []
    # By a snapshot alone, too.
    await again.snapshot(*told, seq=4)
    assert [fork.epoch for fork in (await again.state(states(told))).forks] == [1]


@pytest.mark.asyncio
async def test_a_snapshot_begun_twice_counts_once_whole(hive: Hive):
    """A snapshot that a broken link cut off names nothing for the one that replaces it."""
    old = await link(hive)
    await old.ops(reported.checkout(), reported.attempt())
    new = await link(hive, instance=2, at=2)
    await new.snapshot(reported.checkout(), snapshot_id="cut", last=False)
    again = await link(hive, instance=2, connect_no=2, at=3)
    await again.snapshot(reported.attempt(), snapshot_id="whole")
    assert await hive.shown("attempt", uid(10)) == Shown("skep/10", forgotten=False)
    # Named by the one that was cut off, under the very position of the one that was not.
    assert await hive.shown("checkout", uid(1)) == Shown("/src/1", forgotten=False)


@pytest.mark.asyncio
async def test_a_skip_moves_the_mark_up_only(hive: Hive):
    """A skip stands for ops that are gone: the next op follows it, and it never lowers the mark."""
    live = await link(hive)
    skip = Skip(epoch=1, through=40, digest=b"d" * 16)
    assert await hive.store.commit_skip(NODE, live.link_no, skip) == 40
    assert await hive.store.marks(NODE, [1]) == [EpochMark(1, 40, b"d" * 16)]
    lower = Skip(epoch=1, through=7, digest=b"e" * 16)
    assert await hive.store.commit_skip(NODE, live.link_no, lower) == 40
    assert await hive.store.marks(NODE, [1]) == [EpochMark(1, 40, b"d" * 16)]
    following = reported.attempt()
    assert await live.ops(following, first_seq=41) == 41
    after = digest.after(b"d" * 16, 1, 41, following)
    assert await hive.store.marks(NODE, [1]) == [EpochMark(1, 41, after)]
    assert (await live.state(EpochState(1, 41, 41, after))).forks == []


@pytest.mark.asyncio
async def test_records_fill_in_and_never_overwrite(guarded: Hive):
    """Each record of an answer counts by its own position."""
    live = await link(guarded)
    await live.ops(reported.checkout(), reported.attempt(branch="two"))
    records = [
        reported.record(reported.attempt(branch="one"), epoch=1, seq=1),
        reported.record(reported.attempt(11), epoch=1, seq=1),
        reported.record(reported.attempt(12)),
    ]
    await guarded.store.commit_records(NODE, live.link_no, "r", records)
    assert await guarded.shown("attempt", uid(10)) == Shown("two", forgotten=False)
    assert await guarded.shown("attempt", uid(11)) == Shown("skep/11", forgotten=False)
    assert await guarded.shown("attempt", uid(12)) == Shown("skep/12", forgotten=False)


@pytest.mark.asyncio
async def test_what_an_answer_tells_beyond_the_mark_counts_as_seen(hive: Hive):
    """A copy of the process may have told it: whoever has not told as much by ops tells anew."""
    live = await link(hive)
    assert await live.ops(reported.checkout()) == 1
    told = reported.record(reported.attempt(), epoch=1, seq=7)
    await hive.store.commit_records(NODE, live.link_no, "r", [told])
    assert (await live.state(EpochState(1, 1, 9, b"d" * 16))).newest == (1, 7)
    older = reported.record(reported.attempt(11), epoch=1, seq=3)
    await hive.store.commit_records(NODE, live.link_no, "r", [older])
    assert (await live.state(EpochState(1, 1, 9, b"d" * 16))).newest == (1, 7)


# --- logs -----------------------------------------------------------------------------------------


def _log_state(*chunks: LogChunk | GapChunk) -> LogState:
    running, next_chunk, next_entry = bytes(16), 1, 1
    for one in chunks:
        running = chain(running, one)
        next_chunk = (one.through_seq if isinstance(one, GapChunk) else one.chunk_seq) + 1
        next_entry = one.first_entry + one.entries
    return LogState(uid(20), next_chunk, next_entry, running)


@pytest.mark.asyncio
async def test_chunks_are_held_as_they_came(hive: Hive):
    """A chunk needs no op before it; what is held is byte for byte what was sent, gaps too."""
    live = await link(hive)
    sent = [reported.chunk(1), reported.gap(2, 5, 2, 10), reported.chunk(6, first_entry=12)]
    assert await live.chunks(*sent) == ["stored"] * 3
    assert await hive.held(uid(20)) == sent
    assert await live.chunks(*sent) == ["known"] * 3
    state = _log_state(*sent)
    [mark] = await hive.store.log_marks(NODE, [state])
    assert (mark.next_chunk, mark.next_entry, mark.digest) == (7, 13, state.digest)


@pytest.mark.asyncio
async def test_gaps_of_any_size_are_taken(hive: Hive):
    """A log whose gaps say that more is missing than can be counted is held all the same."""
    live = await link(hive)
    gaps = [
        GapChunk(
            execution_id=uid(20),
            chunk_seq=number,
            through_seq=number,
            first_entry=number,
            entries=1,
            reason="quota",
            bytes=limits.NUMBER_MAX,
        )
        for number in (1, 2, 3)
    ]
    for gap in gaps:
        await hive.store.commit_chunks(NODE, live.link_no, [gap])
    held = await hive.held(uid(20))
    assert [through(gap) for gap in held] == [1, 2, 3]


@pytest.mark.asyncio
async def test_only_the_next_chunk_is_taken(hive: Hive):
    """A chunk out of turn is a hole, also in the numbers of its entries; nothing of it is kept."""
    live = await link(hive)
    assert await live.chunks(reported.chunk(2)) == ["hole"]
    assert await live.chunks(reported.chunk(1), reported.chunk(3)) == ["stored", "hole"]
    assert await live.chunks(reported.chunk(2, first_entry=9)) == ["hole"]
    assert await live.chunks(reported.gap(1, 4, 1, 3)) == ["hole"]
    assert await hive.held(uid(20)) == [reported.chunk(1)]


@pytest.mark.asyncio
async def test_a_damaged_chunk_is_not_taken(hive: Hive):
    """A blob that does not fit its checksum is bad, and the cursor stays."""
    live = await link(hive)
    whole = reported.chunk(1)
    damaged = msgspec.structs.replace(whole, blob=whole.blob[:-1] + b"\x00")
    assert await live.chunks(damaged) == ["bad"]
    assert await live.chunks(whole) == ["stored"]


@pytest.mark.asyncio
async def test_a_log_is_of_one_node(guarded: Hive):
    """Another node's log takes no chunk, tells no cursor, and the attempt is audited."""
    owner = await link(guarded)
    thief = await link(guarded, OTHER)
    await owner.ops(reported.attempt(), reported.execution())
    # Known to be the owner's by its op alone.
    assert await thief.chunks(reported.chunk(1)) == ["foreign"]
    await owner.chunks(reported.chunk(1))
    assert await thief.chunks(reported.chunk(2)) == ["foreign"]
    assert await guarded.refusals(OTHER) == 2
    with refused(ErrorCode.FORBIDDEN):
        await guarded.store.log_marks(OTHER, [_log_state()])
    assert await guarded.refusals(OTHER) == 3
    assert await guarded.held(uid(20)) == [reported.chunk(1)]


@pytest.mark.asyncio
async def test_cursors_say_whether_both_ends_agree(hive: Hive):
    """The cursor of an unknown log is its beginning; `agreed` compares at the node's last chunk."""
    live = await link(hive)
    first, second = reported.chunk(1), reported.chunk(2)
    [mark] = await hive.store.log_marks(NODE, [_log_state()])
    assert (mark.next_chunk, mark.next_entry, mark.digest) == (1, 1, bytes(16))
    await live.chunks(first, second)
    agreed = [
        (await hive.store.log_marks(NODE, [state]))[0].agreed
        for state in (
            _log_state(first, second),
            _log_state(first),
            _log_state(first, second, reported.chunk(3)),
            LogState(uid(20), 2, 2, b"x" * 16),
        )
    ]
    assert agreed == [True, True, False, False]


@pytest.mark.asyncio
async def test_the_newest_agreed_chunk_is_found(guarded: Hive):
    """Of the digests a node names, the newest that is ours too; a gap counts at its end alone."""
    live = await link(guarded)
    sent = [reported.chunk(1), reported.gap(2, 4, 2, 3), reported.chunk(5)]
    await live.chunks(*sent)
    ours = {len(held): _log_state(*held).digest for held in (sent[:1], sent[:2], sent)}
    named = [(6, b"x" * 16), (5, b"x" * 16), (4, ours[2]), (3, ours[2]), (1, ours[1])]
    assert await guarded.store.agreed_chunk(NODE, uid(20), named) == 4
    assert await guarded.store.agreed_chunk(NODE, uid(20), [(5, ours[3])]) == 5
    assert await guarded.store.agreed_chunk(NODE, uid(20), [(1, b"x" * 16)]) == 0
    assert await guarded.store.agreed_chunk(NODE, uid(77), named) == 0
    with refused(ErrorCode.FORBIDDEN):
        await guarded.store.agreed_chunk(OTHER, uid(20), named)


# --- needs ----------------------------------------------------------------------------------------


def _need(request_id: str, *ids: str, kind: str = "logs") -> Need:
    return Need(
        request_id=request_id,
        kind=kind,
        ids=list(ids),
        after=[0] * len(ids),
        from_chunk=[1] * len(ids),
        digests=[digest.EMPTY] * len(ids),
        max_bytes=1000,
    )


@pytest.mark.asyncio
async def test_a_need_is_asked_once_and_stays_open(hive: Hive):
    """A need is stored as it is sent, the same ids again give it, and it waits for its end."""
    live = await link(hive)
    first = _need("r1", uid(20), uid(21))
    assert await hive.store.store_need(NODE, first) == first
    assert await hive.store.store_need(NODE, _need("r2", uid(21))) == first
    assert await hive.store.store_need(NODE, _need("r3", uid(21), uid(22))) == _need("r3", uid(22))
    assert await hive.store.open_needs(NODE) == [first, _need("r3", uid(22))]
    assert await hive.store.open_needs(OTHER) == []
    done = NeedDone(request_id="r1", outcomes=[NeedOutcome(uid(20), "sent", 3)])
    await hive.store.need_done(NODE, live.link_no, done)
    assert await hive.store.open_needs(NODE) == [_need("r3", uid(22))]


@pytest.mark.asyncio
async def test_an_open_need_asks_from_where_the_log_stands_now(hive: Hive):
    """What came since the need was stored is not asked for again."""
    live = await link(hive)
    await hive.store.store_need(NODE, _need("r1", uid(20)))
    await live.chunks(reported.chunk(1), reported.chunk(2))
    [need] = await hive.store.open_needs(NODE)
    assert (need.after, need.from_chunk) == ([2], [3])
    assert need.digests == [_log_state(reported.chunk(1), reported.chunk(2)).digest]


@pytest.mark.asyncio
async def test_what_is_gone_is_not_asked_again(guarded: Hive):
    """Gone and unknown ids are left out of later needs; what was sent may be asked for again."""
    live = await link(guarded)
    await guarded.store.store_need(NODE, _need("r1", uid(20), uid(21), uid(22)))
    done = NeedDone(
        request_id="r1",
        outcomes=[
            NeedOutcome(uid(20), "gone", 0, "pruned"),
            NeedOutcome(uid(21), "unknown"),
            NeedOutcome(uid(22), "sent", 1),
            NeedOutcome(uid(23), "gone", 0, "never asked for"),
        ],
    )
    await guarded.store.need_done(NODE, live.link_no, done)
    assert await guarded.store.store_need(NODE, _need("r2", uid(20), uid(21))) is None
    again = _need("r3", uid(20), uid(22), uid(23))
    assert await guarded.store.store_need(NODE, again) == _need("r3", uid(22), uid(23))


@pytest.mark.asyncio
async def test_messages_that_were_gone_are_asked_for_again_after_a_snapshot(hive: Hive):
    """A node that tells anew of all it owns may have another history, with what it lacked."""
    live = await link(hive)
    need = _need("r1", uid(30), kind="messages")
    assert await hive.store.store_need(NODE, need) is not None
    gone = NeedDone(request_id="r1", outcomes=[NeedOutcome(uid(30), "unknown")])
    await hive.store.need_done(NODE, live.link_no, gone)
    assert await hive.store.store_need(NODE, _need("r2", uid(30), kind="messages")) is None
    page = Snapshot(snapshot_id="s", epoch=1, seq=1, records=[], last=True)
    await hive.store.commit_snapshot(NODE, live.link_no, page)
    assert await hive.store.store_need(NODE, _need("r3", uid(30), kind="messages")) is not None


@pytest.mark.asyncio
async def test_a_need_is_answered_by_the_node_it_was_asked_of(guarded: Hive):
    """Another node's answer is refused and audited; one to a need nobody knows is let be."""
    await link(guarded)
    thief = await link(guarded, OTHER)
    await guarded.store.store_need(NODE, _need("r1", uid(20)))
    done = NeedDone(request_id="r1", outcomes=[NeedOutcome(uid(20), "gone")])
    with refused(ErrorCode.FORBIDDEN):
        await guarded.store.need_done(OTHER, thief.link_no, done)
    assert await guarded.refusals(OTHER) == 1
    unknown = NeedDone(request_id="r9", outcomes=[NeedOutcome(uid(20), "gone")])
    await guarded.store.need_done(OTHER, thief.link_no, unknown)
    assert len(await guarded.store.open_needs(NODE)) == 1


@pytest.mark.asyncio
async def test_what_is_lacking_is_named_from_where_it_lacks(hive: Hive):
    """Unknown executions and closed logs that are short are lacking; newest first."""
    live = await link(hive)
    named = [uid(20), uid(21)]
    await live.ops(
        reported.checkout(),
        reported.attempt(executions=named),
        reported.execution(),
        reported.log_end(chunks=3, entries=3),
        reported.attempt(11, task_id=uid(6), executions=[uid(30)]),
    )
    await live.chunks(reported.chunk(1))
    newest, older = await live.lacking()
    assert (newest.attempt_id, newest.executions, newest.logs) == (uid(11), [uid(30)], [])
    assert (older.attempt_id, older.executions) == (uid(10), [uid(21)])
    held = _log_state(reported.chunk(1)).digest
    lack = backend.LogLack(execution_id=uid(20), from_chunk=2, after=1, digest=held)
    assert older.logs == [lack]
    await live.ops(reported.execution(21), first_seq=6)
    await live.chunks(reported.gap(2, 3, 2, 2))
    assert [one.attempt_id for one in await live.lacking()] == [uid(11)]


@pytest.mark.asyncio
async def test_a_log_of_another_history_is_not_whole(hive: Hive):
    """All its chunks by number, but not the ones its node says it ends with: it is lacking."""
    live = await link(hive)
    sent = [reported.chunk(1), reported.chunk(2)]
    ours = _log_state(*sent).digest
    await live.ops(
        reported.checkout(), reported.attempt(executions=[uid(20)]), reported.execution()
    )
    await live.ops(reported.log_end(chunks=2, entries=2, chain=ours), first_seq=4)
    await live.chunks(*sent)
    assert await live.lacking() == []
    await live.ops(reported.log_end(chunks=2, entries=2, chain=b"x" * 16), first_seq=5)
    [lacking] = await live.lacking()
    assert [(one.from_chunk, one.digest) for one in lacking.logs] == [(3, ours)]
    # Longer than its node says is another history too.
    await live.ops(reported.log_end(chunks=1, chain=_log_state(sent[0]).digest), first_seq=6)
    assert len(await live.lacking()) == 1
    await live.ops(reported.log_end(chunks=2, entries=2, chain=ours), first_seq=7)
    assert await live.lacking() == []


@pytest.mark.asyncio
async def test_what_is_being_fetched_or_gone_is_not_lacking(hive: Hive):
    """An open need takes its attempt off the list; a gone answer takes it off for good."""
    live = await link(hive)
    await live.ops(
        reported.checkout(),
        reported.attempt(executions=[uid(20)]),
        reported.execution(),
        reported.log_end(chunks=3, entries=3),
    )
    await hive.store.store_need(NODE, _need("r1", uid(20)))
    assert await live.lacking() == []
    done = NeedDone(request_id="r1", outcomes=[NeedOutcome(uid(20), "sent", 1)], more=True)
    await hive.store.need_done(NODE, live.link_no, done)
    assert [one.attempt_id for one in await live.lacking()] == [uid(10)]
    await hive.store.store_need(NODE, _need("r2", uid(20)))
    gone = NeedDone(request_id="r2", outcomes=[NeedOutcome(uid(20), "gone", 0, "pruned")])
    await hive.store.need_done(NODE, live.link_no, gone)
    assert await live.lacking() == []


def test_the_words_of_chunk_outcomes_are_json_able():
    """Outcome kinds are plain words: they stand in metrics and messages."""
    assert json.loads(json.dumps([kind.value for kind in backend.ChunkKind])) == [
        "stored",
        "known",
        "hole",
        "foreign",
        "bad",
    ]
