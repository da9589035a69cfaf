"""What answers to the hive's needs are read from."""

from pathlib import Path

import pytest

from node_agent.store.answers import StoredAnswers
from protocol.ops import OpKind
from tests.node_agent.workshop import make_repository, open_workshop


@pytest.mark.asyncio
async def test_an_attempt_and_its_logs(tmp_path: Path):
    """State with positions, executions, chunks; what is gone says why, what never was does not."""
    async with open_workshop(tmp_path / "data", 3) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        attempt = await shop.run("echo one")
        answers = StoredAnswers(shop.database, shop.journal, shop.chunks)
        (execution_id,) = await answers.executions_of(attempt.id) or []
        assert await answers.executions_of("unknown") is None
        (record,) = await answers.records(OpKind.LOG_END, [execution_id, "unknown"])
        assert (record.epoch, record.entity_id) == (3, execution_id)
        assert record.seq > 0
        assert await answers.has_log(execution_id)
        assert await answers.tombstone(execution_id) is None
        assert await answers.chunks_from(execution_id, 1, chunks_max=9, bytes_max=1 << 20)
        await shop.chunks.purge(execution_id)
        assert not await answers.has_log(execution_id)
        assert await answers.tombstone(execution_id) == "purged"
        assert await answers.tombstone("unknown") is None
