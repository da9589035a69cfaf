"""The raw bounds: what one process with one hop and no promises but durability can do.

Run as a program: `python -m scripts.benchmarks.raw_bounds KIND OUT INPUT...`, where each INPUT is
read through a real pipe from `cat`. Prints one JSON line: lines, bytes, wall and CPU seconds.
Kinds: `rows` (a SQLite row per line), `blocks` (zstd blocks as SQLite rows), `plain` (append and
fdatasync). All are synced as Skep's own stores are.
"""

import fcntl
import json
import os
import resource
import selectors
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import zstandard

_READ_BYTES = 256 * 1024
_SYNC_INTERVAL_S = 0.25


def _pieces(inputs: list[str]) -> Iterator[tuple[int, bytes]]:
    """Yield (which, bytes) as the pipes give them; the last of each is b""."""
    children = [subprocess.Popen(["cat", name], stdout=subprocess.PIPE) for name in inputs]
    with selectors.DefaultSelector() as selector:
        for index, child in enumerate(children):
            _enlarge(child.stdout.fileno())
            selector.register(child.stdout, selectors.EVENT_READ, index)
        while selector.get_map():
            for key, _ in selector.select():
                piece = os.read(key.fd, _READ_BYTES)
                yield key.data, piece
                if not piece:
                    selector.unregister(key.fileobj)
    for child in children:
        child.wait()
        child.stdout.close()


def _enlarge(descriptor: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, 1024 * 1024)


def _database(out: Path, ddl: str) -> sqlite3.Connection:
    connection = sqlite3.connect(out, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(ddl)
    return connection


def rows(out: Path, inputs: list[str]) -> tuple[int, int]:
    """A row per line, in transactions as large as the reads since the last sync give."""
    connection = _database(
        out, "CREATE TABLE line (stream INT, n INT, at_ms INT, body BLOB, PRIMARY KEY (stream, n))"
    )
    numbers = [0] * len(inputs)
    rest = [b""] * len(inputs)
    total = 0
    pending: list[tuple[int, int, int, bytes]] = []
    for index, piece in _pieces(inputs):
        total += len(piece)
        *lines, rest[index] = (rest[index] + piece).split(b"\n")
        now_ms = int(time.time() * 1000)
        for line in lines:
            numbers[index] += 1
            pending.append((index, numbers[index], now_ms, line))
        if len(pending) >= 2000 or not piece:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO line VALUES (?, ?, ?, ?)", pending)
            connection.execute("COMMIT")
            pending.clear()
    connection.close()
    return sum(numbers), total


def blocks(out: Path, inputs: list[str]) -> tuple[int, int]:
    """A compressed block per read, numbered and counted, each in its own synced commit."""
    connection = _database(
        out,
        "CREATE TABLE block (stream INT, seq INT, first INT, lines INT, at_ms INT, body BLOB,"
        " PRIMARY KEY (stream, seq)) WITHOUT ROWID",
    )
    compressor = zstandard.ZstdCompressor(level=1)
    waiting: list[list[bytes]] = [[] for _ in inputs]
    sizes = [0] * len(inputs)
    counts = [[0, 0] for _ in inputs]
    total = 0
    for index, piece in _pieces(inputs):
        total += len(piece)
        waiting[index].append(piece)
        sizes[index] += len(piece)
        if sizes[index] < _READ_BYTES and piece:
            continue
        raw = b"".join(waiting[index])
        waiting[index], sizes[index] = [], 0
        lines = raw.count(b"\n")
        counts[index][0] += 1
        row = (index, counts[index][0], counts[index][1] + 1, lines, int(time.time() * 1000))
        counts[index][1] += lines
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "INSERT INTO block VALUES (?, ?, ?, ?, ?, ?)", (*row, compressor.compress(raw))
        )
        connection.execute("COMMIT")
    connection.close()
    return sum(lines for _, lines in counts), total


def plain(out: Path, inputs: list[str]) -> tuple[int, int]:
    """Append what comes, fdatasync after each 256 KiB."""
    descriptor = os.open(out, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    total = lines = unsynced = 0
    for _, piece in _pieces(inputs):
        total += len(piece)
        lines += piece.count(b"\n")
        unsynced += len(piece)
        os.write(descriptor, piece)
        if unsynced >= _READ_BYTES:
            os.fdatasync(descriptor)
            unsynced = 0
    os.fdatasync(descriptor)
    os.close(descriptor)
    return lines, total


KINDS = {"rows": rows, "blocks": blocks, "plain": plain}


def main() -> None:
    """Run one bound."""
    kind, out, *inputs = sys.argv[1:]
    started = time.perf_counter()
    lines, total = KINDS[kind](Path(out), inputs)
    wall_s = time.perf_counter() - started
    # With the producers, as on the other side, where the supervisors' figures hold theirs.
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(
        json.dumps(
            {
                "lines": lines,
                "bytes": total,
                "wall_s": wall_s,
                "cpu_s": sum(each.ru_utime + each.ru_stime for each in used),
            }
        )
    )


if __name__ == "__main__":
    main()
