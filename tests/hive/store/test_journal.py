"""The journal under everything a bad link can do: repeats, overlaps, holes, old epochs."""

import asyncio
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hive.store.ingest_store import SqliteIngestStore
from hive.store.journal import newest_epochs
from hive.store.sqlite import SqliteDatabase
from protocol import digest
from protocol.errors import ErrorCode, RemoteProtocolError
from protocol.log_chunks import GapChunk, LogChunk, chain, through
from protocol.messages import Skip
from protocol.ops import EpochState, Op, OpKind
from tests.hive import reported
from tests.hive.reported import NODE, NOW_MS, hello, uid
from tests.hive.store.open_hive import OpenHive

EPOCHS = (11, 5, 8)
POISON = Op(OpKind.ATTEMPT, uid(10), NOW_MS, b"\xff")


def op_of(epoch: int, seq: int) -> Op:
    """What the node wrote: the same for the same number, now and then what cannot be applied."""
    if seq % 5 == 0:
        return POISON
    if seq % 7 == 0:
        return Op("sparkle", uid(3), NOW_MS, b"\xc0")
    return reported.attempt(10 + seq % 3, branch=f"{epoch}/{seq}")


class Journals(RuleBasedStateMachine):
    """A node with three epochs, and a hive that hears of them in every order."""

    @initialize()
    def begin(self) -> None:
        """Open a store and a link; nothing is committed."""
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.link_no = 0
        self.marks = dict.fromkeys(EPOCHS, 0)
        self.digests = dict.fromkeys(EPOCHS, digest.EMPTY)
        self.skipped: dict[int, set[int]] = {epoch: set() for epoch in EPOCHS}
        self.told: list[tuple[int, int]] = []
        self.log: list[LogChunk | GapChunk] = []
        self.connect_no = 0
        self.order = 0
        self.database = self.run(SqliteDatabase.open(Path(self.folder.name) / "h.db", readers=1))
        self.hive = OpenHive(self.database)
        self.store: SqliteIngestStore = self.hive.store
        self.run(self.hive.enrol(NODE))
        self.connect()

    def run(self, work):
        """Drive the store."""
        return self.runner.run(work)

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.run(self.database.close())
        if hasattr(self, "runner"):
            self.runner.close()
            self.folder.cleanup()

    @rule()
    def connect(self) -> None:
        """The node calls anew: marks and newest are what was committed."""
        self.connect_no += 1
        self.order += 1
        epochs = [EpochState(epoch, 1, 0, digest.EMPTY) for epoch in EPOCHS]
        self.link_no = self.run(
            self.store.accept_link(
                hello(NODE, EPOCHS[-1], self.connect_no, epochs),
                challenged_at=self.order,
                accepted_at=self.order,
            )
        )
        state = self.run(self.store.journal_state(NODE, self.link_no, epochs))
        assert {mark.epoch: mark.mark for mark in state.marks} == self.marks
        newest = max(self.told, key=lambda place: (EPOCHS.index(place[0]), place[1]), default=None)
        assert state.newest == newest

    @rule()
    def restart(self) -> None:
        """The hive stops and starts: everything committed is there."""
        self.run(self.database.close())
        path = self.database.path
        self.database = self.run(SqliteDatabase.open(path, readers=1))
        self.hive = OpenHive(self.database)
        self.store = self.hive.store

    @rule(
        epoch=st.sampled_from(EPOCHS),
        before=st.integers(-3, 2),
        count=st.integers(1, 6),
        stale=st.booleans(),
    )
    def ops(self, epoch: int, before: int, count: int, stale: bool) -> None:
        """A frame that overlaps, follows or misses the mark, perhaps of a link that is gone."""
        first = max(1, self.marks[epoch] + 1 + before)
        ops = [op_of(epoch, seq) for seq in range(first, first + count)]
        commit = self.store.commit_ops(NODE, self.link_no - stale, epoch, first, ops)
        last = first + count - 1
        refusal = None
        try:
            mark = self.run(commit)
        except RemoteProtocolError as error:
            refusal = error.code
        hole = first > self.marks[epoch] + 1
        if stale or hole:
            assert refusal is (ErrorCode.SUPERSEDED if stale else ErrorCode.HOLE)
            return
        assert refusal is None
        for seq in range(self.marks[epoch] + 1, last + 1):
            self.digests[epoch] = digest.after(self.digests[epoch], epoch, seq, op_of(epoch, seq))
        if last > self.marks[epoch]:
            self.marks[epoch] = last
            self.told.append((epoch, last))
        assert mark == self.marks[epoch]

    @rule(epoch=st.sampled_from(EPOCHS), ahead=st.integers(-2, 4))
    def skip(self, epoch: int, ahead: int) -> None:
        """The node no longer has some ops."""
        through_seq = self.marks[epoch] + ahead
        if through_seq < 1:
            return
        skip = Skip(epoch=epoch, through=through_seq, digest=b"s" * 16)
        mark = self.run(self.store.commit_skip(NODE, self.link_no, skip))
        if through_seq > self.marks[epoch]:
            self.skipped[epoch] |= set(range(self.marks[epoch] + 1, through_seq + 1))
            self.marks[epoch] = through_seq
            self.digests[epoch] = b"s" * 16
            self.told.append((epoch, through_seq))
        assert mark == self.marks[epoch]

    @rule(ahead=st.integers(-2, 2), gap=st.integers(0, 3), shift=st.integers(0, 1))
    def chunk(self, ahead: int, gap: int, shift: int) -> None:
        """A chunk or a gap of the one log, in turn or not."""
        next_chunk = through(self.log[-1]) + 1 if self.log else 1
        next_entry = self.log[-1].first_entry + self.log[-1].entries if self.log else 1
        seq, first = max(1, next_chunk + ahead), next_entry + shift
        sent = (
            reported.gap(seq, seq + gap, first, 2)
            if gap
            else reported.chunk(seq, first_entry=first)
        )
        [outcome] = self.run(self.store.commit_chunks(NODE, self.link_no, [sent]))
        if through(sent) < next_chunk:
            assert outcome.kind == "known"
        elif seq == next_chunk and first == next_entry:
            assert outcome.kind == "stored"
            self.log.append(sent)
        else:
            assert outcome.kind == "hole"
        running = bytes(16)
        for one in self.log:
            running = chain(running, one)
        assert outcome.mark.digest == running

    @invariant()
    def each_op_is_there_exactly_once(self) -> None:
        """Below the mark every op not skipped has one row, in order, and above it there is none."""
        rows = self.run(self.hive.rows("SELECT epoch, seq, kind FROM op ORDER BY epoch, seq"))
        expected = [
            (epoch, seq, op_of(epoch, seq).kind)
            for epoch in sorted(EPOCHS)
            for seq in range(1, self.marks[epoch] + 1)
            if seq not in self.skipped[epoch]
        ]
        assert [tuple(row) for row in rows] == expected
        marks = self.run(self.store.marks(NODE, list(EPOCHS)))
        assert [mark.digest for mark in marks] == [self.digests[epoch] for epoch in EPOCHS]

    @invariant()
    def the_newest_position_shows(self) -> None:
        """Each attempt shows the op of highest rank and number that told of it."""
        newest: dict[str, str] = {}
        for epoch in EPOCHS:
            for seq in range(1, self.marks[epoch] + 1):
                told = op_of(epoch, seq)
                if seq not in self.skipped[epoch] and told.kind == "attempt" and told != POISON:
                    newest[told.entity_id] = f"{epoch}/{seq}"
        rows = self.run(self.hive.rows("SELECT id, branch FROM attempt"))
        assert {row["id"]: row["branch"] for row in rows} == newest

    @invariant()
    def what_could_not_be_applied_is_kept_aside(self) -> None:
        """Every poisonous op and every unknown one below the mark is counted."""
        told = [
            op_of(epoch, seq)
            for epoch in EPOCHS
            for seq in range(1, self.marks[epoch] + 1)
            if seq not in self.skipped[epoch]
        ]
        [dead] = self.run(self.hive.rows("SELECT count(*) AS n FROM dead_op"))
        [unknown] = self.run(self.hive.rows("SELECT count(*) AS n FROM unknown_op"))
        assert dead["n"] == sum(op == POISON for op in told)
        assert unknown["n"] == sum(op.kind == "sparkle" for op in told)

    @invariant()
    def the_log_is_what_was_taken(self) -> None:
        """The chunks held are those that followed, and no others."""
        rows = self.run(
            self.hive.rows("SELECT chunk_seq, through_seq FROM chunk ORDER BY chunk_seq")
        )
        assert [tuple(row) for row in rows] == [
            (chunk.chunk_seq, through(chunk)) for chunk in self.log
        ]


TestJournals = Journals.TestCase
TestJournals.settings = settings(max_examples=25, stateful_step_count=25)


@pytest.mark.asyncio
async def test_a_part_of_a_snapshot_overtakes(hive: OpenHive):
    """What a copy told under higher numbers stands above: who knows less begins a new epoch."""
    copy = await hive.reporting()
    await copy.tells(reported.checkout(2))
    known = await hive.store.marks(NODE, [copy.epoch])
    copy.seq = 5
    await copy.snapshot(reported.attempt(), last=False)
    kept = EpochState(copy.epoch, 1, 1, known[0].digest)
    state = await hive.store.journal_state(NODE, copy.link_no, [kept])
    assert (state.newest, state.snapshot_wanted) == ((copy.epoch, 5), True)
    assert [fork.epoch for fork in state.forks] == [copy.epoch]


@pytest.mark.asyncio
async def test_the_newest_epochs_are_those_seen_last(hive: OpenHive):
    """Their numbers are random: which came last, their rank alone says."""
    for at, epoch in enumerate((50, 7, 93, 20), start=1):
        await hive.reporting(instance=epoch, at=at)
    assert await hive.read(newest_epochs, NODE, 3) == [20, 93, 7]
    assert await hive.read(newest_epochs, uid(99), 3) == []
