"""What the whole log of an ended execution is, said anew where the log was renumbered since."""

import msgspec

from node_agent.stamps import now_ms
from node_agent.store import attempts
from node_agent.store.contract import ChunkStore, Log
from node_agent.store.database import Database
from node_agent.store.transaction import Transaction
from protocol.entities import LogEnd


async def say_log_end_again(database: Database, chunks: ChunkStore, execution_id: str) -> bool:
    """Write the log's end with the numbers it has now; False where it was right already."""
    log = await chunks.log(execution_id)
    if log is None or not log.closed or log.purged:
        return False
    return await database.write(_say_again, log)


async def _say_again(tx: Transaction, log: Log) -> bool:
    chunks, entries = log.next_chunk - 1, log.next_entry - 1
    said = await attempts.log_end_of(tx, log.execution_id)
    if said is None or (said.chunks, said.entries, said.chain) == (chunks, entries, log.digest):
        return False
    # The hive holds chunks this node does not know: nobody can say the digest of the whole.
    end: LogEnd = msgspec.structs.replace(
        said, chunks=chunks, entries=entries, digest=b"", chain=log.digest
    )
    await attempts.save_log_end(tx, end, now_ms())
    return True
