"""What must hold when a history has settled: I1, I2, I3 and I8 of the design's list of faults."""

from collections.abc import Sequence
from typing import Any

from protocol.log_chunks import GapChunk, LogChunk


def judge(world: Any) -> None:
    """Raise AssertionError, naming what is wrong, unless every promise was kept."""
    for node_id in {node.node_id for node in world.nodes}:
        holders = [node for node in world.nodes if node.node_id == node_id]
        assert len(holders) == 1, "two holders of an identity were never found out"
        _judge_node(world, holders[0])
    _judge_contents(world)


def _judge_node(world: Any, node: Any) -> None:
    assert node.quiet(), f"{node.node_id} has not converged"
    held = world.hive.store.nodes[node.node_id]
    run_now = node.run_now
    for state in run_now(node.disk.journal.epochs()):
        if not state.last:
            continue
        at_hive = held.epochs[state.epoch]
        assert at_hive.mark >= state.last, f"op {at_hive.mark + 1} is missing at the hive (I1)"
        truth = world.history.epochs[state.epoch]
        for seq in range(1, state.last + 1):
            if seq in at_hive.ops:
                assert at_hive.ops[seq][0] == truth[seq - 1], f"op {seq} is another (I3)"
            else:
                assert world.history.ancient, f"op {seq} is lost (I1)"
                assert any(first <= seq <= last for first, last in at_hive.gaps), "a silent gap"
    _judge_rows(node, held)
    _judge_logs(world, node)


def _judge_rows(node: Any, held: Any) -> None:
    _, records = node.run_now(node.disk.journal.snapshot())
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
        if log.purged:
            continue
        theirs = _blobs(at_hive.chunks if at_hive is not None else [])
        remaining = iter(theirs)
        for blob in _blobs(chunks):
            assert blob in remaining, f"a chunk of {execution_id} is lost or out of order (I4)"
        if at_hive is not None:
            assert at_hive.cursor.next_chunk >= log.next_chunk, "the log is not whole"


def _judge_contents(world: Any) -> None:
    """Nothing at the hive that no node committed, nothing there twice."""
    for execution_id, log in world.hive.store.logs.items():
        blobs = _blobs(log.chunks)
        assert len(blobs) == len(set(blobs)), f"a chunk of {execution_id} is there twice"
        for blob in blobs:
            assert blob in world.history.blobs, f"a chunk of {execution_id} is invented"


def _blobs(chunks: Sequence[LogChunk | GapChunk]) -> list[bytes]:
    return [chunk.blob for chunk in chunks if isinstance(chunk, LogChunk)]
