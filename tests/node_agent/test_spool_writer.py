"""The spool's writing end: segments, quota, and what happens when the disk takes no more."""

import errno
import os
import random
import resource
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import node_agent.spool_writer
from node_agent.run_folder import write_record
from node_agent.spool import SpoolReader
from node_agent.spool_frames import STDERR, STDOUT
from node_agent.spool_writer import SpoolWriter
from tests.node_agent.run_folders import both_streams, gaps_of, read_rest
from tests.node_agent.test_spool import check_accounted


def writer_of(folder: Path, **bounds: int) -> SpoolWriter:
    """Return a writer with small bounds."""
    quota_bytes = bounds.get("quota_bytes", 1 << 30)
    segment_bytes = bounds.get("segment_bytes", 4096)
    return SpoolWriter(folder, quota_bytes=quota_bytes, segment_bytes=segment_bytes, sync_s=0.5)


def append(writer: SpoolWriter, stream: int, payload: bytes) -> None:
    """Append a payload as the supervisor does, from a buffer that is longer."""
    writer.append(stream, bytearray(payload + b"\nold\n"), len(payload))


def finish(folder: Path, writer: SpoolWriter) -> None:
    """End the spool, with the record that counts it."""
    writer.finish()
    streams = {str(stream): {"bytes": total} for stream, total in writer.totals.items()}
    write_record(folder / "exit", {"version": 1, "streams": streams})


def test_segments_roll_and_are_counted(tmp_path: Path) -> None:
    """Segments stay within their size, and totals count the bytes of each stream."""
    writer = writer_of(tmp_path)
    for n in range(100):
        append(writer, STDOUT if n % 3 else STDERR, b"%03d\n" % n * 50)
    finish(tmp_path, writer)
    sizes = [path.stat().st_size for path in tmp_path.glob("out.*")]
    assert len(sizes) > 5
    assert max(sizes) <= 4096
    assert sum(sizes) == writer.written_bytes == writer.kept_bytes
    assert writer.totals == {STDOUT: 66 * 200, STDERR: 34 * 200}
    out, err = both_streams(read_rest(SpoolReader(tmp_path)))
    assert out == b"".join(b"%03d\n" % n * 50 for n in range(100) if n % 3)
    assert err == b"".join(b"%03d\n" % n * 50 for n in range(100) if not n % 3)


def test_frame_larger_than_a_segment(tmp_path: Path) -> None:
    """A read larger than a whole segment is kept in one of its own."""
    writer = writer_of(tmp_path, segment_bytes=1000)
    append(writer, STDOUT, bytes(5000))
    append(writer, STDOUT, b"after")
    finish(tmp_path, writer)
    assert both_streams(read_rest(SpoolReader(tmp_path)))[0] == bytes(5000) + b"after"


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_quota_accounts_for_every_byte(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Whatever is printed and consumed, and read on the way, each byte is read or in a gap."""
    numbers = random.Random(seed)
    folder = tmp_path_factory.mktemp("spool")
    quota_bytes = 20_000
    writer = writer_of(folder, quota_bytes=quota_bytes, segment_bytes=1000)
    reader = SpoolReader(folder)
    printed = {STDOUT: b"", STDERR: b""}
    pieces = []
    for _ in range(numbers.randrange(1, 300)):
        stream = numbers.choice([STDOUT, STDOUT, STDERR])
        payload = numbers.randbytes(numbers.randrange(1, 900))
        append(writer, stream, payload)
        printed[stream] += payload
        assert writer.kept_bytes <= quota_bytes + 1000
        on_disk = sum(path.stat().st_size for path in folder.glob("out.*"))
        assert on_disk <= quota_bytes + 4000
        chance = numbers.random()
        if chance < 0.05:
            pieces += reader.read(1)
        elif chance < 0.06:
            # After a restart: from the last position, with what has been taken so far.
            place = reader.position
            reader.close()
            taken = {STDOUT: 0, STDERR: 0}
            for piece in pieces:
                if hasattr(piece, "data"):
                    taken[piece.stream] += len(piece.data)
                else:
                    taken[STDOUT] += piece.stdout_bytes
                    taken[STDERR] += piece.stderr_bytes
            reader = SpoolReader(folder, place, (taken[STDOUT], taken[STDERR]))
        elif chance < 0.08:
            writer.consumed(reader.position.segment)
    finish(folder, writer)
    pieces += read_rest(reader)
    check_accounted(pieces, printed[STDOUT], printed[STDERR])
    assert {gap.reason for gap in gaps_of(pieces)} <= {"quota"}


def test_quota_keeps_the_beginning_and_the_end(tmp_path: Path) -> None:
    """Half of the quota is the head, half the tail, and one file stands for all between."""
    writer = writer_of(tmp_path, quota_bytes=40_000, segment_bytes=1000)
    for n in range(10_000):
        append(writer, STDOUT, b"%06d\n" % n)
    finish(tmp_path, writer)
    pieces = read_rest(SpoolReader(tmp_path))
    (gap,) = gaps_of(pieces)
    place = pieces.index(gap)
    head, tail = both_streams(pieces[:place])[0], both_streams(pieces[place:])[0]
    assert head.startswith(b"000000\n")
    assert tail.endswith(b"009999\n")
    assert gap.newlines == 10_000 - (len(head) + len(tail)) // 7
    head_kept = sum(
        path.stat().st_size for path in tmp_path.glob("out.*") if int(path.suffix[1:]) < 20
    )
    assert 18_000 < head_kept < 21_000
    assert len(list(tmp_path.glob("out.*"))) < 45


@pytest.mark.parametrize("consume_every", [7, 60, 400])
def test_gaps_count_the_lines_they_stand_for(tmp_path: Path, consume_every: int) -> None:
    """Also where the head was consumed and what was beyond it moved up before the quota was met."""
    writer = writer_of(tmp_path, quota_bytes=8_000, segment_bytes=1000)
    reader, pieces = SpoolReader(tmp_path), []
    for n in range(3_000):
        append(writer, STDOUT, b"%06d\n" % n)
        if n % 500 < 250 and n % consume_every == 0:
            pieces += reader.read(2_000)
            writer.consumed(reader.position.segment)
    finish(tmp_path, writer)
    pieces += read_rest(reader)
    gaps = gaps_of(pieces)
    assert gaps
    for gap in gaps:
        assert gap.newlines in {None, gap.stdout_bytes // 7}
    assert any(gap.newlines for gap in gaps)


def test_disk_without_room(tmp_path: Path) -> None:
    """What a full disk refuses is counted and told of once there is room, and output goes on."""
    writer = writer_of(tmp_path, segment_bytes=1 << 20)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    append(writer, STDOUT, b"a" * 1000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        append(writer, STDOUT, b"b" * 1000)
        for _ in range(10):
            append(writer, STDOUT, b"c\n" * 500)
            append(writer, STDERR, b"d\n" * 100)
        assert writer.failure == "disk_full"
        assert (tmp_path / "out.0").stat().st_size <= 3000
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    append(writer, STDERR, b"e")
    assert writer.failure == ""
    append(writer, STDOUT, b"f")
    finish(tmp_path, writer)
    pieces = read_rest(SpoolReader(tmp_path))
    gaps = gaps_of(pieces)
    out, err = both_streams(pieces)
    assert {gap.reason for gap in gaps} == {"disk_full"}
    assert len(out) + sum(gap.stdout_bytes for gap in gaps) == 12_001
    assert len(err) + sum(gap.stderr_bytes for gap in gaps) == 2001
    assert out.startswith(b"a" * 1000 + b"b" * 1000)
    assert (out[-1:], err[-1:]) == (b"f", b"e")
    newlines = sum(gap.newlines or 0 for gap in gaps)
    assert newlines + out.count(b"\n") + err.count(b"\n") == 5000 + 1000


def test_disk_full_to_the_end(tmp_path: Path) -> None:
    """Where even the last word finds no room, the record of the end shows what is missing."""
    writer = writer_of(tmp_path, segment_bytes=1 << 20)
    append(writer, STDOUT, b"a" * 100)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, hard))
    try:
        append(writer, STDOUT, b"b" * 100)
        writer.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert writer.failure == "disk_full"
    finish(tmp_path, writer_of(tmp_path / "none"))
    streams = {"1": {"bytes": 200}, "2": {"bytes": 0}}
    write_record(tmp_path / "exit", {"version": 1, "streams": streams})
    pieces = read_rest(SpoolReader(tmp_path))
    check_accounted(pieces, b"a" * 100 + b"b" * 100, b"")


def test_sync_is_due_and_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync is due half a second after the last, and only what changed is synced."""
    synced = []
    sync_file = node_agent.spool_writer._sync_file
    monkeypatch.setattr(
        node_agent.spool_writer,
        "_sync_file",
        lambda path: (synced.append(path.name), sync_file(path)),
    )
    writer = writer_of(tmp_path)
    assert writer.sync_due_s(100.0) is None
    append(writer, STDOUT, b"a")
    assert writer.sync_due_s(100.0) == 0.0
    writer.sync(100.0)
    append(writer, STDOUT, b"b")
    assert writer.sync_due_s(100.1) == pytest.approx(0.4)
    writer.sync(100.1)
    writer.finish()
    assert synced == ["out.0", "out.0"]
    assert writer.failure == ""


def test_failed_sync_is_never_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After one failed sync nothing is claimed to be on disk any more, and it is said why."""
    tries = []

    def fail(path: Path) -> None:
        tries.append(path.name)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(node_agent.spool_writer, "_sync_file", fail)
    writer = writer_of(tmp_path)
    for _ in range(3):
        append(writer, STDOUT, b"a")
        writer.sync(100.0, at_once=True)
    writer.finish()
    assert tries == ["out.0"]
    assert writer.failure == "sync failed: Input/output error"


def test_sync_without_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread is to be had the sync is made all the same."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    synced = []
    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(node_agent.spool_writer, "_sync_file", synced.append)
    writer = writer_of(tmp_path)
    append(writer, STDOUT, b"a")
    writer.sync(100.0)
    assert synced == [tmp_path / "out.0"]
    assert writer.sync_due_s(100.0) is None
    writer.finish()


def test_run_folder_taken_away(tmp_path: Path) -> None:
    """With the folder deleted under it the writer goes on and ends without an error."""
    folder = tmp_path / "run"
    folder.mkdir()
    writer = writer_of(folder, segment_bytes=1000)
    append(writer, STDOUT, b"a" * 900)
    (folder / "out.0").unlink()
    folder.rmdir()
    for _ in range(10):
        append(writer, STDOUT, b"b" * 900)
    writer.sync(100.0)
    writer.finish()
    assert writer.failure
    assert writer.totals[STDOUT] == 9900
