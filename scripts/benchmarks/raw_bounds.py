"""The raw bounds: what one process with one hop and no promises but durability can do.

Run as a program: `python -m scripts.benchmarks.raw_bounds KIND OUT INPUT...`, where each INPUT is
read through a real pipe from `cat`. Prints one JSON line: lines, bytes, wall and CPU seconds.
Kinds: `rows` (a SQLite row per line), `blocks` (zstd blocks as SQLite rows), `plain` (append and
fdatasync). All are synced as Skep's own stores are. Both figures are of one span: from the start
of the producers, with everything open, to the return of the last sync. The interpreter's start,
making the file and closing it are in neither.
"""

import contextlib
import fcntl
import functools
import json
import os
import resource
import selectors
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import zstandard

_READ_BYTES = 256 * 1024


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


Copy = Callable[[list[str]], tuple[int, int]]


@contextlib.contextmanager
def rows(out: Path) -> Iterator[Copy]:
    """Open a table of lines."""
    connection = _database(
        out, "CREATE TABLE line (stream INT, n INT, at_ms INT, body BLOB, PRIMARY KEY (stream, n))"
    )
    yield functools.partial(_rows, connection)
    connection.close()


def _rows(connection: sqlite3.Connection, inputs: list[str]) -> tuple[int, int]:
    """A row per line, in transactions as large as the reads since the last sync give."""
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
    return sum(numbers), total


@contextlib.contextmanager
def blocks(out: Path) -> Iterator[Copy]:
    """Open a table of blocks."""
    connection = _database(
        out,
        "CREATE TABLE block (stream INT, seq INT, first INT, lines INT, at_ms INT, body BLOB,"
        " PRIMARY KEY (stream, seq)) WITHOUT ROWID",
    )
    yield functools.partial(_blocks, connection)
    connection.close()


def _blocks(connection: sqlite3.Connection, inputs: list[str]) -> tuple[int, int]:
    """A compressed block per read, numbered and counted, each in its own synced commit."""
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
    return sum(lines for _, lines in counts), total


@contextlib.contextmanager
def plain(out: Path) -> Iterator[Copy]:
    """Open a plain file."""
    descriptor = os.open(out, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    yield functools.partial(_plain, descriptor)
    os.close(descriptor)


def _plain(descriptor: int, inputs: list[str]) -> tuple[int, int]:
    """Append what comes, fdatasync after each 256 KiB."""
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
    return lines, total


KINDS = {"rows": rows, "blocks": blocks, "plain": plain}


def main() -> None:
    """Run one bound."""
    kind, out, *inputs = sys.argv[1:]
    with KINDS[kind](Path(out)) as copy:
        cpu_before_s, started = _cpu_s(), time.perf_counter()
        lines, total = copy(inputs)
        wall_s = time.perf_counter() - started
        cpu_s = _cpu_s() - cpu_before_s
    print(json.dumps({"lines": lines, "bytes": total, "wall_s": wall_s, "cpu_s": cpu_s}))


def _cpu_s() -> float:
    """Return the CPU seconds of this process and of the producers that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    main()
