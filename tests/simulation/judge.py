"""What must hold when a history has settled: I1, I2, I3, I4 and I8 of the list of faults."""

from collections.abc import Iterable
from typing import Any

from protocol import limits
from protocol.credit import cost
from protocol.hive_link import CommitChunk, CommitOps, NeedAnswered
from protocol.log_chunks import GapChunk
from protocol.messages import Ack, LogAck, NeedDone
from protocol.ops import OpKind, decode_body
from tests.simulation.disk import blobs, is_lazy


def judge(world: Any) -> None:
    """Raise AssertionError, naming what is wrong, unless every promise was kept."""
    names = {node.node_id for node in world.nodes}
    assert len(names) == len(world.nodes), "two holders of an identity were never found out"
    for node in world.nodes:
        assert node.settled(), f"{node.node_id} has not converged (I8)"
        assert world.hive.settled(node.node_id), f"the hive lacks a part of {node.node_id} (I8)"
        _judge_journal(world, node)
        _judge_rows(world, node)
        _judge_logs(world, node)
    _judge_contents(world)
    _judge_opened(world)


def judge_commit(world: Any, socket: Any, commit: CommitOps) -> None:
    """What is committed over a link stands on the disk at its other end; all else is invented."""
    if socket.node.node_id in world.history.cloned or not socket.node_open:
        return
    first = commit.first_seq - 1
    truth = socket.node.disk.epochs.get(commit.epoch, [])[first : first + len(commit.ops)]
    assert list(commit.ops) == truth, "ops are shown that their node does not have (I1)"


def judge_ack(store: Any, node_id: str, message: Any) -> None:
    """What is acknowledged is committed."""
    match message:
        case Ack(epoch=epoch, seq=seq):
            assert store.nodes[node_id].epochs[epoch].mark >= seq, "acknowledged, not committed"
        case LogAck(marks=marks):
            for mark in marks:
                held = store.cursor(mark.execution_id).next_chunk
                assert held >= mark.next_chunk, "chunks are acknowledged and not committed"


def judge_pruned(world: Any, node: Any, safe: Any, epoch: int, pruned: range) -> None:
    """What a node deletes as safe stands in each backup that said so."""
    backups = [images for told, images in world.hive.told_safe if told is safe]
    truth = node.disk.epochs[epoch]
    for image in backups[0] if backups else ():
        held = image.nodes[node.node_id].epochs.get(epoch)
        assert held is not None, f"epoch {epoch} is deleted and not safe (I2)"
        for seq in pruned:
            if seq <= len(truth) and seq in held.ops:
                assert held.ops[seq][0] == truth[seq - 1], f"op {seq} is deleted and not safe (I2)"


def judge_waiting(history: Iterable[Any]) -> None:
    """What waits for its commit is within the widest window, and what began on its last byte."""
    waiting = [
        cost(one.chunk if isinstance(one, CommitChunk) else one.records)
        for one in history
        if not isinstance(one, NeedAnswered)
    ]
    begun = max(waiting, default=0)
    assert sum(waiting) - begun < limits.CREDIT_WINDOW_BYTES_MAX, "more is sent than fits (I9)"


def judge_answer(world: Any, socket: Any, done: NeedDone) -> None:
    """Once a need for messages is answered, what its node then had is there, and nothing gone.

    What is told as lost, its node does not have either.
    """
    asked = socket.asked.get(done.request_id)
    if asked is None or not socket.came(done) or socket.node.node_id in world.history.cloned:
        return
    rows = world.hive.store.nodes[socket.node.node_id].rows
    for place, outcome in enumerate(done.outcomes, 1):
        said = asked[outcome.id]
        # A session may begin between the asking and the answer.
        begun = said is None and outcome.id in socket.node.disk.sessions
        sent = outcome.outcome == "sent"
        assert begun or sent == (said is not None), "an answer is not the truth"
        has = len(socket.node.disk.sessions.get(outcome.id, ())) if socket.node_open else 0
        lost = world.hive.store.lost(outcome.id)
        # A snapshot that is still to be committed shows it again.
        told_again = bool(socket.hive_end.ops)
        assert told_again or not lost or min(lost) > has, (
            f"of {outcome.id} is lost what its node has"
        )
        if said is None or (done.more and place == len(done.outcomes)):
            continue
        for message_id in said:
            row = rows.get((OpKind.MESSAGE, message_id))
            assert row is not None, f"{message_id} was answered for and did not come"
            assert told_again or not row.forgotten, f"{message_id} came and is forgotten"


def _judge_journal(world: Any, node: Any) -> None:
    held = world.hive.store.nodes[node.node_id]
    # Whose disk went back may have again what it once told the hive is gone for good.
    went_back = world.history.went_back | world.history.cloned
    for state in world.run_now(node.disk.journal.epochs()):
        truth = node.disk.epochs[state.epoch]
        assert state.last == len(truth), "the journal is not what was committed in it"
        if not truth:
            continue
        at_hive = held.epochs[state.epoch]
        if at_hive.mark == state.last:
            assert at_hive.digest == state.digest, "the two ends hold different histories (I3)"
        assert at_hive.mark >= state.last, f"op {at_hive.mark + 1} is missing at the hive (I1)"
        for seq, op in enumerate(truth, 1):
            if seq in at_hive.ops:
                if world.history.ancient and seq < state.first_kept and node.node_id in went_back:
                    # Of a life that nobody holds any more: there is nothing left to compare.
                    continue
                assert at_hive.ops[seq][0] == op, f"op {seq} is another (I3)"
            else:
                kept = seq >= state.first_kept and node.node_id not in went_back
                excused = world.history.ancient and not kept
                assert excused, f"op {seq} is lost (I2)"
                assert any(first <= seq <= last for first, last in at_hive.gaps), "a silent gap"


def _judge_rows(world: Any, node: Any) -> None:
    held = world.hive.store.nodes[node.node_id]
    _, records = world.run_now(node.disk.journal.snapshot())
    ours = {(record.kind, record.entity_id): record.body for record in records}
    for key, body in ours.items():
        assert key in held.rows, f"the hive lacks {key}"
        row = held.rows[key]
        assert row.body == body, f"the hive shows another state of {key}"
        assert not row.forgotten, f"{key} is shown as forgotten"
    for key, row in held.rows.items():
        assert key in ours or row.forgotten, f"{key} is unknown to its node and not marked so"


def _judge_logs(world: Any, node: Any) -> None:
    for execution_id, (log, chunks) in node.disk.chunks.all_logs().items():
        at_hive = world.hive.store.logs.get(execution_id)
        ours = node.disk.purged[execution_id] if log.purged else blobs(chunks)
        if is_lazy(execution_id) or (log.purged and world.history.ancient):
            continue
        remaining = iter(blobs(at_hive.chunks) if at_hive is not None else [])
        for blob in ours:
            assert blob in remaining, f"a chunk of {execution_id} is lost or out of order (I4)"
        if log.purged:
            continue
        if at_hive is not None:
            assert at_hive.cursor.next_chunk >= log.next_chunk, "the log is not whole"
            ends_alike = at_hive.digests.get(log.next_chunk - 1) == log.digest
            assert log.next_chunk == 1 or ends_alike, f"{execution_id} is of another history (I4)"
        said = world.run_now(node.disk.journal.records(OpKind.LOG_END, [execution_id]))
        if said:
            end: Any = decode_body(OpKind.LOG_END, said[0].body)
            assert end.chunks == log.next_chunk - 1, f"{execution_id} ends elsewhere"


def _judge_opened(world: Any) -> None:
    """What a person asked for came, all there was of it then, unless it was gone for good."""
    purged = {
        name
        for node in world.nodes
        for name, (log, _) in node.disk.chunks.all_logs().items()
        if log.purged and world.history.ancient
    }
    for execution_id, next_chunk in world.history.opened.items():
        if execution_id in purged:
            continue
        held = world.hive.store.cursor(execution_id).next_chunk
        assert held >= next_chunk, f"{execution_id} was opened and not fetched"


def _judge_contents(world: Any) -> None:
    """Nothing at the hive that no node committed, nothing there twice."""
    for execution_id, log in world.hive.store.logs.items():
        seen: dict[bytes, int] = {}
        lives = 0
        for chunk in log.chunks:
            if isinstance(chunk, GapChunk):
                lives += chunk.reason == "node_restored"
                continue
            assert chunk.blob in world.history.blobs, f"a chunk of {execution_id} is invented"
            first = seen.get(chunk.blob)
            seen.setdefault(chunk.blob, lives)
            # What one copy of a disk numbered anew, a second copy does not know: only then may a
            # chunk be told again, behind a gap that says so.
            twice = first is not None and not 0 < first < lives
            assert not twice, f"a chunk of {execution_id} is there twice"
