"""The journal against a plain model of it: any order of appends, prunes, forks and restarts."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from node_agent.store import journal as journal_module
from node_agent.store.database import Database
from node_agent.store.journal import SqliteJournal
from protocol import digest
from protocol.ops import Op, OpKind

ENTITIES = st.sampled_from(["a", "b", "c"])


class Epoch:
    """One epoch as it should be."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.first_kept = 1


class JournalHistories(RuleBasedStateMachine):
    """Appends, rolled-back appends, prunes, forks and restarts; everything is checked each time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.epochs: dict[int, Epoch] = {}
        self.states: dict[str, tuple[bytes, int, int]] = {}
        self.numbers = 0

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def open(self) -> None:
        path = Path(self.folder.name, "state.db")
        self.database = self.run(Database.open(path, "state", on_fatal=lambda _: None))
        self.journal = SqliteJournal(self.database)

    def begin(self) -> None:
        self.numbers += 1
        # Neither order nor size of an epoch's number means anything.
        epoch = (self.numbers * 0x9E3779B97F4A7C15) % 2**63
        self.run(self.journal.open_epoch(epoch))
        self.epochs[epoch] = Epoch()

    @property
    def current(self) -> int:
        return list(self.epochs)[-1]

    def tell(self, epoch: int, op: Op) -> None:
        self.epochs[epoch].ops.append(op)
        self.states[op.entity_id] = (op.body, epoch, len(self.epochs[epoch].ops))

    @initialize()
    def first_start(self) -> None:
        self.open()
        self.begin()

    @rule(entity=ENTITIES, body=st.binary(max_size=40), at_ms=st.integers(0, 2**40))
    def append(self, entity: str, body: bytes, at_ms: int) -> None:
        op = Op(OpKind.CHECKOUT.value, entity, at_ms, body)
        position = self.run(
            self.database.write(journal_module.append, op.kind, entity, at_ms, body)
        )
        self.tell(self.current, op)
        assert position == (self.current, len(self.epochs[self.current].ops))

    @rule(entity=ENTITIES)
    def append_and_fail(self, entity: str) -> None:
        async def unit(tx: Any) -> None:
            await journal_module.append(tx, OpKind.CHECKOUT, entity, 1, b"never")
            raise LookupError

        try:
            self.run(self.database.write(unit))
        except LookupError:
            return
        raise AssertionError

    @rule(restart=st.booleans())
    def restart(self, restart: bool) -> None:
        if restart:
            self.run(self.database.close())
            self.open()
        self.begin()

    @rule(data=st.data())
    def prune(self, data: Any) -> None:
        number = data.draw(st.sampled_from(list(self.epochs)))
        epoch = self.epochs[number]
        through = data.draw(st.integers(0, len(epoch.ops) + 2))
        pruned = self.run(self.journal.prune(number, through))
        kept = max(epoch.first_kept, min(through, len(epoch.ops)) + 1)
        assert pruned == kept - epoch.first_kept
        epoch.first_kept = kept

    @precondition(lambda self: any(epoch.ops for epoch in self.epochs.values()))
    @rule(data=st.data())
    def refork(self, data: Any) -> None:
        number = data.draw(st.sampled_from([n for n, epoch in self.epochs.items() if epoch.ops]))
        epoch = self.epochs[number]
        agreed = data.draw(st.integers(epoch.first_kept - 1, len(epoch.ops)))
        self.numbers += 1
        new = (self.numbers * 0x9E3779B97F4A7C15) % 2**63
        moved = epoch.ops[agreed:]
        told = sorted({op.entity_id for op in moved})
        newer = [
            Op(OpKind.CHECKOUT.value, name, 0, self.states[name][0])
            for name in told
            if self.states[name][1] != number
        ]
        self.run(self.journal.refork(number, agreed, new))
        del epoch.ops[agreed:]
        self.epochs[new] = Epoch()
        for op in moved:
            self.tell(new, op)
        again = self.run(self.journal.ops_after(new, len(moved), ops_max=99, bytes_max=1 << 20))
        assert [(op.entity_id, op.body) for op in again] == [
            (op.entity_id, op.body) for op in newer
        ]
        for op in again:
            self.tell(new, op)

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        if not self.epochs:
            return
        found = self.run(self.journal.epochs())
        assert [epoch.epoch for epoch in found] == list(self.epochs)
        for held in found:
            epoch = self.epochs[held.epoch]
            digests = [digest.EMPTY, *digest.running(digest.EMPTY, held.epoch, 1, epoch.ops)]
            assert held.last == len(epoch.ops)
            assert held.first_kept == epoch.first_kept
            assert held.digest == digests[-1]
            for seq in range(epoch.first_kept - 1, held.last + 1):
                assert self.run(self.journal.digest_at(held.epoch, seq)) == digests[seq]
            kept = self.run(
                self.journal.ops_after(
                    held.epoch, epoch.first_kept - 1, ops_max=10_000, bytes_max=1 << 30
                )
            )
            assert kept == epoch.ops[epoch.first_kept - 1 :]
        position, records = self.run(self.journal.snapshot())
        assert position == (self.current, len(self.epochs[self.current].ops))
        assert {
            record.entity_id: (record.body, record.epoch, record.seq) for record in records
        } == self.states

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.run(self.database.close())
        self.loop.close()
        self.folder.cleanup()


JournalHistories.TestCase.settings = hypothesis.settings(
    max_examples=60, stateful_step_count=25, deadline=None
)
TestJournalHistories = JournalHistories.TestCase
