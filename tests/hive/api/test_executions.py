"""Logs over HTTP: from what is held, and straight from the node where that is not enough."""

import asyncio

import msgspec
import pytest

from protocol.messages import NeedDone, NeedOutcome
from protocol.states import ExecutionStatus
from tests.hive.api.running import FakeNode, RunningHive


def texts(page) -> list[str]:
    """The lines of a page."""
    return [entry["text"] for entry in page["entries"]]


async def running_log(node: FakeNode, **given) -> tuple[str, str]:
    """An attempt with one execution; returns both ids."""
    attempt = await node.has_attempt()
    return attempt.id, await node.runs(attempt, **given)


@pytest.mark.asyncio
async def test_pages_meet_without_gap_or_repeat(running: RunningHive):
    """Following `next` gives every line once, in order, numbered from 1; then it is closed."""
    node = await running.node("one")
    _, execution = await running_log(node)
    lines = [f"line {number}\n" for number in range(1, 101)]
    await node.prints(execution, *lines[:60])
    await node.prints(execution, *lines[60:], chunk=2, entry=61)
    await node.ends_log(execution, chunks=2, entries=100)
    found, after = [], 0
    while True:
        page = (await running.get(f"executions/{execution}/log", after=after, limit=7)).json
        found += page["entries"]
        after = page["next"]
        if not page["more"]:
            break
    assert [entry["n"] for entry in found] == list(range(1, 101))
    assert found[41]["text"] == "line 42"
    assert (page["closed"], page["source"]) == (True, "hive")


@pytest.mark.asyncio
async def test_nothing_stands_behind_the_greatest_number(running: RunningHive):
    """A page after the greatest number that can be asked for is empty, and no failure."""
    node = await running.node("one")
    _, execution = await running_log(node)
    await node.prints(execution, "one\n")
    page = await running.get(f"executions/{execution}/log", after=2**63 - 1)
    assert (page.status, page.json["entries"], page.json["next"]) == (200, [], 2**63 - 1)


@pytest.mark.asyncio
async def test_lines_are_found_by_text(running: RunningHive):
    """`grep` keeps the numbers of the lines it keeps."""
    node = await running.node("one")
    _, execution = await running_log(node)
    await node.prints(execution, *(f"line {number}\n" for number in range(1, 101)))
    page = (await running.get(f"executions/{execution}/log", grep="ne 4")).json
    assert [entry["n"] for entry in page["entries"]] == [4, *range(40, 50)]


@pytest.mark.asyncio
async def test_an_unfinished_line_is_open_and_comes_again_whole(running: RunningHive):
    """The page's `next` stays before a line that may grow."""
    node = await running.node("one")
    _, execution = await running_log(node)
    await node.prints(execution, "done\n", "50 %")
    page = (await running.get(f"executions/{execution}/log")).json
    assert [(entry["text"], entry.get("open")) for entry in page["entries"]] == [
        ("done", None),
        ("50 %", True),
    ]
    assert (page["next"], page["closed"]) == (1, False)


@pytest.mark.asyncio
async def test_one_may_wait_for_the_next_line(running: RunningHive):
    """With `wait_ms` the answer comes with the line, not before and not much after."""
    node = await running.node("one")
    _, execution = await running_log(node)
    await node.prints(execution, "one\n")
    path = f"executions/{execution}/log"
    waiting = asyncio.create_task(running.get(path, after=1, wait_ms=20_000))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await node.prints(execution, "two\n", chunk=2, entry=2)
    assert texts((await asyncio.wait_for(waiting, 30)).json) == ["two"]
    nothing = await running.get(path, after=2, wait_ms=50)
    assert nothing.json["entries"] == []


@pytest.mark.asyncio
async def test_what_is_not_kept_here_is_read_at_the_node(running: RunningHive):
    """Under `metadata` every page comes through the relay; with the node away that is told."""
    node = await running.node("one")
    await running.ask("PATCH", "projects/shop", body={"sync_policy": "metadata"})
    attempt_id, execution = await running_log(node)
    await node.prints(execution, "one\n")
    page = {
        "entries": [{"n": 8, "at_ms": 1, "stream": "stdout", "text": "from the node"}],
        "gaps": [],
        "next": 8,
        "closed": False,
        "more": True,
    }
    encoded = msgspec.json.encode(page)
    node.streams("log", encoded[:20], encoded[20:])
    answer = (await running.get(f"executions/{execution}/log", after=7, limit=1)).json
    assert texts(answer) == ["from the node"]
    assert (answer["next"], answer["more"], answer["source"]) == (8, True, "node")
    asked = msgspec.msgpack.decode(node.calls[0].body)
    assert (asked["execution_id"], asked["after"], asked["limit"]) == (execution, 7, 1)
    assert node.calls[0].attempt_id == attempt_id
    await node.leave()
    away = await running.get(f"executions/{execution}/log")
    assert (away.status, away.error["code"]) == (503, "node_offline")


@pytest.mark.asyncio
async def test_the_part_that_is_lacking_comes_from_the_node_while_it_is_fetched(
    running: RunningHive,
):
    """What is here is shown; past its end the node answers, and is asked for the rest once."""
    node = await running.node("one")
    _, execution = await running_log(node, status=ExecutionStatus.SUCCEEDED, ended_at_ms=9)
    await node.prints(execution, "one\n")
    await node.ends_log(execution, chunks=2, entries=2)
    rest = {"entries": [{"n": 2, "at_ms": 1, "stream": "stdout", "text": "two"}], "next": 2}
    node.streams("log", msgspec.json.encode({**rest, "gaps": [], "closed": True}))
    path = f"executions/{execution}/log"
    first = (await running.get(path)).json
    assert (texts(first), first["source"], first["closed"]) == (["one"], "hive", False)
    assert first["more"]
    second = (await running.get(path, after=1)).json
    assert (texts(second), second["source"], second["closed"]) == (["two"], "node", True)
    await asyncio.sleep(0.1)
    assert [need.ids for need in node.needs] == [[execution]]
    await node.leave()
    away = (await running.get(path, after=1)).json
    assert (texts(away), away["closed"], away["more"]) == ([], False, False)


@pytest.mark.asyncio
async def test_a_line_of_which_the_rest_is_lacking_comes_whole_from_the_node(running: RunningHive):
    """It is not shown in halves, nor twice: what is held ends inside of it."""
    node = await running.node("one")
    _, execution = await running_log(node, status=ExecutionStatus.SUCCEEDED, ended_at_ms=9)
    await node.prints(execution, "one\ntw")
    await node.ends_log(execution, chunks=2, entries=2)
    whole = [
        {"n": 1, "at_ms": 1, "stream": "stdout", "text": "one"},
        {"n": 2, "at_ms": 1, "stream": "stdout", "text": "two"},
    ]
    page = {"entries": whole, "gaps": [], "next": 2, "closed": True}
    node.streams("log", msgspec.json.encode(page))
    path = f"executions/{execution}/log"
    shown = (await running.get(path)).json
    assert (texts(shown), shown["source"], shown["closed"]) == (["one", "two"], "node", True)
    await node.leave()
    away = (await running.get(path)).json
    assert (texts(away), away["next"], away["more"]) == (["one", "tw"], 1, False)


@pytest.mark.asyncio
async def test_a_log_larger_than_one_answer_comes_whole(running: RunningHive):
    """Under `lazy`, too, where only a person wanted it: what was cut short is asked for on."""
    node = await running.node("one")
    await running.ask("PATCH", "projects/shop", body={"sync_policy": "lazy"})
    attempt_id, execution = await running_log(node, status=ExecutionStatus.SUCCEEDED, ended_at_ms=9)
    await node.ends_log(execution, chunks=2, entries=2)
    assert (await running.post(f"attempts/{attempt_id}/backfill")).status == 202
    [first] = node.needs
    await node.prints(execution, "one\n")
    outcomes = [NeedOutcome(execution, "sent", 1)]
    cut_short = NeedDone(request_id=first.request_id, outcomes=outcomes, more=True)
    await running.hive.ingest.need_done(node.id, node.link_no, cut_short)
    async with asyncio.timeout(30):
        while len(node.needs) < 2:
            await asyncio.sleep(0.01)
    assert (node.needs[1].ids, node.needs[1].from_chunk) == ([execution], [2])
    await node.prints(execution, "two\n", chunk=2, entry=2)
    done = NeedDone(request_id=node.needs[1].request_id, outcomes=outcomes)
    await running.hive.ingest.need_done(node.id, node.link_no, done)
    assert (await running.get(f"attempts/{attempt_id}")).json["sync_state"] == "complete"
    assert len(node.needs) == 2


@pytest.mark.asyncio
async def test_bounds_are_kept(running: RunningHive):
    """Numbers out of bounds are refused by name."""
    node = await running.node("one")
    _, execution = await running_log(node)
    for query in (
        {"limit": 0},
        {"limit": 5001},
        {"after": -1},
        {"after": 2**63},
        {"wait_ms": 60_000},
    ):
        refused = await running.get(f"executions/{execution}/log", **query)
        assert (refused.status, refused.error["details"]["field"]) == (422, next(iter(query)))
    missing = await running.get("executions/ffffffff-0000-7000-8000-000000000000/log")
    assert missing.status == 404


@pytest.mark.asyncio
async def test_executions_of_an_attempt_are_listed_in_order(running: RunningHive):
    """Those of another attempt are not among them."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    first = await node.runs(attempt, 1)
    second = await node.runs(attempt, 2)
    await node.runs(await node.has_attempt(2), 1)
    listed = (await running.get("executions", attempt=attempt.id)).json["items"]
    assert [item["id"] for item in listed] == [first, second]
    assert (await running.get(f"executions/{first}")).json["attempt_id"] == attempt.id
