"""How the hive says it is."""

from pathlib import Path

import pytest

from tests.hive.api.running import RunningHive, running_hive


@pytest.mark.asyncio
async def test_status_counts_nodes(running: RunningHive):
    """Online and offline nodes, the hive's id and generation."""
    await running.node("one")
    away = await running.node("two")
    await away.leave()
    status = (await running.get("status")).json
    assert status["nodes"] == {"online": 1, "offline": 1}
    assert status["ready"]
    assert status["hive_id"] == running.hive.context.hive_id
    assert status["generation"] > 1_700_000_000


@pytest.mark.asyncio
async def test_ready_ends_when_the_hive_is_about_to_stop(running: RunningHive):
    """A load balancer sends nobody to a hive that drains; the process still answers."""
    assert (await running.get("/readyz", token=None)).status == 200
    running.hive.context.stopping = True
    refused = await running.get("/readyz", token=None)
    assert (refused.status, refused.error["code"]) == (503, "draining")
    assert (await running.get("/healthz", token=None)).status == 200


@pytest.mark.asyncio
async def test_metrics_count_what_is_held(running: RunningHive):
    """Ops, chunks and bytes are counted, in Prometheus' text format."""
    node = await running.node("one")
    execution = await node.runs(await node.has_attempt())
    await node.prints(execution, "a\n")
    answer = await running.get("/metrics", token=None)
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = answer.content.decode().splitlines()
    values = dict(line.split(" ") for line in lines if not line.startswith("#"))
    assert values["skep_hive_nodes_online"] == "1"
    assert values["skep_hive_log_chunks_total"] == "1"
    assert int(values["skep_hive_ops_total"]) == node.seq
    assert int(values["skep_hive_log_bytes_total"]) > 0


@pytest.mark.asyncio
async def test_metrics_need_a_token_from_elsewhere(tmp_path: Path):
    """Other machines learn nothing without one."""
    async with running_hive(tmp_path, behind_proxy=True) as running:
        here = {"X-Forwarded-For": "10.0.0.9"}
        assert (await running.get("/metrics", token=None, headers=here)).status == 401
        assert (await running.get("/metrics", headers=here)).status == 200
