"""A hive's store at work in a process of its own, so that a test can kill it anywhere.

Run as `python kill_driver.py FOLDER [FAILPOINT]`. Says on stdout what it would have acknowledged,
one line each, as soon as it might; `done` at the end. Goes on from what is committed.
"""

import asyncio
import contextlib
import sys
from pathlib import Path

from hive import failpoints
from hive.ingest import Ingest
from hive.store import backups, identity, nodes
from hive.store.ingest_store import SqliteIngestStore
from hive.store.sqlite import SqliteDatabase
from protocol import digest
from protocol.errors import OperationError
from protocol.messages import LogState, Need, NeedDone, NeedOutcome, Records, Skip, Snapshot
from protocol.ops import EpochState
from tests.hive import reported
from tests.hive.reported import NODE, NOW_MS, hello, uid

OPS = [
    reported.checkout(1),
    reported.attempt(executions=[uid(20)]),
    reported.execution(),
    *(reported.attempt(executions=[uid(20)], branch=f"b{n}") for n in range(6)),
    reported.log_end(chunks=8),
]
CHUNKS = [reported.chunk(seq) for seq in range(1, 9)]
FRAME = 3
SKIPPED = Skip(epoch=2, through=9, digest=b"s" * 16)


def say(*words: object) -> None:
    """Acknowledge."""
    print(*words, flush=True)  # noqa: T201  its parent reads it


async def work(folder: Path) -> None:
    """Take in all there is, from wherever it stands."""
    database = await SqliteDatabase.open(folder / "hive.db")
    try:
        store = SqliteIngestStore(database, clock=lambda: NOW_MS)
        ingest = Ingest(store, database, lambda changes: say("published", len(changes)))
        await found(database)
        epochs = [EpochState(1, 1, len(OPS), b""), EpochState(2, 10, 9, b"")]
        connect_no = (await database.read(nodes.get_node, NODE)).link_no + 1
        link_no = await store.accept_link(
            hello(NODE, 1, connect_no, epochs), challenged_at=connect_no, accepted_at=connect_no
        )
        say("link", link_no)
        await tell(store, ingest, link_no)
        await fill(store, ingest, link_no)
        await asyncio.sleep(0)
    finally:
        await database.close()


async def found(database: SqliteDatabase) -> None:
    """Make the hive and its node where they are not there."""
    with contextlib.suppress(OperationError):
        await database.write(identity.found_hive, "hive-1", NOW_MS)
    try:
        await database.read(nodes.get_node, NODE)
    except OperationError:
        await database.write(
            nodes.enrol, node_id=NODE, name="alpha", public_key=b"k" * 32, labels=[], now_ms=NOW_MS
        )
    say("generation", await database.write(identity.start_generation, 1000))


async def tell(store: SqliteIngestStore, ingest: Ingest, link_no: int) -> None:
    """Send ops after the mark, a snapshot and a skip."""
    [mark] = await store.marks(NODE, [1])
    while mark.mark < len(OPS):
        frame = OPS[mark.mark : mark.mark + FRAME]
        say("ops", await ingest.ops(NODE, link_no, 1, mark.mark + 1, frame))
        [mark] = await store.marks(NODE, [1])
    records = [reported.record(op) for op in (OPS[0], OPS[-2], OPS[2])]
    page = Snapshot(snapshot_id="s", epoch=2, seq=9, records=records, last=True)
    await ingest.snapshot(NODE, link_no, page)
    say("skip", await ingest.skip(NODE, link_no, SKIPPED))


async def fill(store: SqliteIngestStore, ingest: Ingest, link_no: int) -> None:
    """Ask for the log, send it from its cursor, and answer."""
    asked = Need(request_id=f"r{link_no}", kind="logs", ids=[uid(20)])
    await store.store_need(NODE, asked)
    blank = LogState(uid(20), 1, 1, digest.EMPTY)
    [mark] = await store.log_marks(NODE, [blank])
    while mark.next_chunk <= len(CHUNKS):
        sent = CHUNKS[mark.next_chunk - 1 : mark.next_chunk + 1]
        outcomes = await ingest.chunks(NODE, link_no, sent, fetched=True)
        mark = outcomes[-1].mark
        say("chunks", mark.next_chunk - 1)
    record = reported.record(OPS[2], epoch=1, seq=3)
    await ingest.records(NODE, link_no, Records(request_id="r", records=[record]))
    for need in await store.open_needs(NODE):
        done = NeedDone(
            request_id=need.request_id, outcomes=[NeedOutcome(uid(20), "sent", len(CHUNKS))]
        )
        await ingest.need_done(NODE, link_no, done)


async def keep(folder: Path) -> None:
    """Copy the store and put the copy into another folder, twice."""
    record = backups.backup(
        folder / "hive.db", folder / "copy.db", folder / "backups.jsonl", NOW_MS
    )
    say("copy", record.path)
    other = folder / "other"
    other.mkdir(exist_ok=True)
    # Into the empty folder, then over what is there.
    for _ in range(1 if (other / "hive.db").exists() else 2):
        await backups.restore(
            folder / "copy.db",
            other / "hive.db",
            folder / "revocations.log",
            other / "hive.lock",
            force=(other / "hive.db").exists(),
            now_ms=NOW_MS + len(list(other.glob("*.replaced-*"))),
        )
    say("restored")


async def main() -> None:
    """Work, then keep a copy."""
    folder = Path(sys.argv[1])
    failpoints.arm(sys.argv[2] if len(sys.argv) > 2 else None)
    await work(folder)
    await keep(folder)
    say("done")


if __name__ == "__main__":
    asyncio.run(main())
