"""Needs put into the store of a hive that is down: what a person's look had left there.

Owns nothing: each function opens the hive's own store, does one thing, and closes it.
"""

import asyncio
import secrets
import time

from hive.store import needs
from hive.store.sqlite import SqliteDatabase
from protocol.messages import Need
from tests.end_to_end.hive_program import HiveProgram


def store_need(hive: HiveProgram, node_id: str, kind: str, ids: list[str]) -> str:
    """Store a need for a node; return its request id."""
    assert not hive.running

    async def store() -> str:
        database = await SqliteDatabase.open(hive.data_dir / "hive.db")
        try:
            need = Need(request_id=secrets.token_hex(16), kind=kind, ids=ids)
            stored = await database.write(
                needs.store_need, node_id, need, round(time.time() * 1000)
            )
        finally:
            await database.close()
        assert stored is not None
        return stored.request_id

    return asyncio.run(store())


def outcomes(hive: HiveProgram, request_id: str) -> dict[str, tuple[str, str]]:
    """What came of each id of a need: its outcome and the reason."""
    rows = hive.rows("SELECT id, outcome, reason FROM need_item WHERE request_id = ?", request_id)
    return {entity_id: (outcome, reason) for entity_id, outcome, reason in rows}


def is_open(hive: HiveProgram, request_id: str) -> bool:
    """Whether the node has not answered a need yet."""
    [(status,)] = hive.rows("SELECT status FROM need WHERE request_id = ?", request_id)
    return bool(status == "open")
