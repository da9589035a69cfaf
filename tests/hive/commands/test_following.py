"""Following a log: every line once, soon, and across a restart of the hive."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hive.client import Event, HiveClient
from hive.commands.following import LogReader, Printer
from protocol.errors import ErrorCode, SkepError
from protocol.states import ExecutionKind
from tests.hive.api.running import RunningHive, running_hive, serving_again
from tests.hive.commands.programs import Commands


class Follower:
    """A running `hive attempts logs -f --json`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.entries: list[dict] = []

    async def next(self, timeout_s: float = 60.0) -> dict:
        """The next line it prints."""
        assert self.process.stdout is not None
        async with asyncio.timeout(timeout_s):
            line = await self.process.stdout.readline()
        assert line, "it ended"
        self.entries.append(msgspec.json.decode(line))
        return self.entries[-1]

    async def ended(self) -> int:
        """Wait until it ends by itself; take what it still printed."""
        async with asyncio.timeout(60):
            out, err = await self.process.communicate()
        self.entries += [msgspec.json.decode(line) for line in out.splitlines()]
        assert self.process.returncode == 0, err.decode()
        return self.process.returncode

    @property
    def texts(self) -> list[str]:
        return [entry["text"] for entry in self.entries]


async def follow(hive: Commands, attempt_id: str, *words: str) -> Follower:
    """Start following."""
    return Follower(await hive.process("attempts", "logs", attempt_id, "-f", "--json", *words))


@pytest.mark.asyncio
async def test_a_line_shows_while_one_follows(running: RunningHive, hive: Commands):
    """What comes while one follows is printed at once; at the end of the attempt it ends."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    execution = await node.runs(attempt)
    await node.prints(execution, "before\n")
    follower = await follow(hive, attempt.id)
    assert (await follower.next())["text"] == "before"
    for number in range(2, 6):
        await node.prints(execution, f"line {number}\n", chunk=number, entry=number)
        assert (await follower.next())["n"] == number
    await node.ends_log(execution, chunks=5, entries=5)
    await node.ends(attempt, [execution])
    assert await follower.ended() == 0
    assert [entry["n"] for entry in follower.entries] == [1, 2, 3, 4, 5]


@pytest.mark.asyncio
async def test_executions_come_one_after_the_other(running: RunningHive, hive: Commands):
    """The setup's lines first, all of them, then the agent's; each with its own numbers."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    setup = await node.runs(attempt, 1, kind=ExecutionKind.SETUP)
    await node.prints(setup, "setup 1\n")
    follower = await follow(hive, attempt.id)
    await follower.next()
    agent = await node.runs(node.attempt(executions=[setup]), 2)
    await node.prints(agent, "agent 1\n")
    await node.prints(setup, "setup 2\n", chunk=2, entry=2)
    await node.ends_log(setup, chunks=2, entries=2)
    await node.ends_log(agent, chunks=1, entries=1)
    await node.ends(attempt, [setup, agent])
    await follower.ended()
    assert follower.texts == ["setup 1", "setup 2", "agent 1"]


@pytest.mark.asyncio
async def test_a_line_is_printed_once_it_is_whole(running: RunningHive, hive: Commands):
    """A line that grows is not printed in halves, nor does it hold up the other stream."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    execution = await node.runs(attempt)
    await node.prints(execution, "one\n", "half ")
    follower = await follow(hive, attempt.id)
    assert (await follower.next())["text"] == "one"
    await node.prints(execution, "from stderr\n", chunk=2, entry=3, stderr=True)
    assert (await follower.next())["text"] == "from stderr"
    from protocol.log_chunks import STDOUT, Segment, seal_all

    rest = seal_all(
        [Segment(STDOUT, 1_000_001, b"a line\n", continued=True)],
        execution_id=execution,
        chunk_seq=3,
        first_entry=4,
    )
    await running.hive.ingest.chunks(node.id, node.link_no, rest)
    whole = await follower.next()
    assert (whole["n"], whole["text"]) == (2, "half a line")
    follower.process.terminate()
    await follower.process.wait()


@pytest.mark.asyncio
async def test_a_restart_of_the_hive_loses_and_doubles_nothing(tmp_path: Path):
    """The follower waits for the hive, takes up the stream again and misses no line."""
    async with running_hive(tmp_path) as running:
        node = await running.node("one")
        attempt = await node.has_attempt()
        execution = await node.runs(attempt)
        hive = Commands(tmp_path, running)
        port, token = running.port, running.token
        follower = await follow(hive, attempt.id)
        await node.prints(execution, "1\n", "2\n")
        await follower.next()
        await follower.next()
    await asyncio.sleep(0.5)
    async with serving_again(tmp_path, token, port=port) as running:
        node.running = running
        await node.connect()
        await node.prints(execution, "3\n", chunk=2, entry=3)
        assert (await follower.next())["text"] == "3"
        await node.ends_log(execution, chunks=2, entries=3)
        await node.ends(attempt, [execution])
        await follower.ended()
    assert follower.texts == ["1", "2", "3"]


def test_a_follower_is_woken_by_the_node_too():
    """A log that is left at its node raises no events here; the node's coming back is one."""
    asked: list[str] = []

    class Hive(HiveClient):
        def events(self, topics: str, **given: object) -> Iterator[Event | None]:
            asked.append(topics)
            raise SkepError(ErrorCode.FORBIDDEN, "that is all of it")

    with Hive("http://127.0.0.1:1", "token") as hive, pytest.raises(SkepError, match="all of it"):
        LogReader(hive, "a-1", Printer(as_json=True), node_id="n-1").run(follow=True)
    assert asked == ["attempt:a-1,node:n-1"]


@pytest.mark.asyncio
async def test_without_follow_it_prints_what_there_is(running: RunningHive, hive: Commands):
    """From after a number, of one execution, with gaps as what they are."""
    from protocol.log_chunks import GapChunk

    node = await running.node("one")
    attempt = await node.has_attempt()
    execution = await node.runs(attempt)
    await node.prints(execution, *(f"{number}\n" for number in range(1, 2001)))
    gap = GapChunk(
        execution_id=execution,
        chunk_seq=2,
        through_seq=4,
        first_entry=2001,
        entries=50,
        reason="quota",
        bytes=900,
    )
    await running.hive.ingest.chunks(node.id, node.link_no, [gap])
    await node.prints(execution, "last", chunk=5, entry=2051)
    said = await hive.run("attempts", "logs", attempt.id, "--after", "1995", "--json")
    rows = [msgspec.json.decode(line) for line in said.out.splitlines()]
    assert [row.get("n") for row in rows] == [1996, 1997, 1998, 1999, 2000, None, 2051]
    assert rows[5] == {"gap": [2001, 2050], "reason": "quota", "bytes": 900}
    assert rows[6]["open"]
    people = await hive.run("attempts", "logs", attempt.id, "--execution", "agent", "--grep", "199")
    assert people.out.splitlines() == ["199", "1199", *(str(n) for n in range(1990, 2000))]
    assert "agent" in people.err
    missing = await hive.run("attempts", "logs", "ffffffff", "--json")
    assert missing.error["code"] == "not_found"


@pytest.mark.asyncio
async def test_a_log_left_at_a_node_that_is_away_is_no_empty_log(
    running: RunningHive, hive: Commands
):
    """What is printed is not all of it: that is an error which says where the rest is."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    execution = await node.runs(attempt)
    await node.prints(execution, "1\n", "2\n")
    await node.ends_log(execution, chunks=2, entries=4)
    await node.ends(attempt, [execution])
    await node.leave()
    said = await hive.run("attempts", "logs", attempt.id, "--json")
    assert (said.code, len(said.out.splitlines())) == (1, 2)
    error = msgspec.json.decode(said.err)["error"]
    assert error["code"] == "node_offline"
    assert error["details"] == {"execution_id": execution, "printed_through": 2}


@pytest.mark.asyncio
async def test_an_execution_is_named_as_everything_else_is(running: RunningHive, hive: Commands):
    """By its kind, its id, or eight digits of it that no other has."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    setup = await node.runs(attempt, 1, kind=ExecutionKind.SETUP)
    agent = await node.runs(node.attempt(executions=[setup]), 2)
    await node.prints(setup, "setup\n")
    await node.prints(agent, "agent\n")
    for name in ("agent", agent, agent[-8:].upper()):
        said = await hive.run("attempts", "logs", attempt.id, "--execution", name)
        assert said.out.splitlines() == ["agent"], said.err
    both = await hive.run("attempts", "logs", attempt.id, "--execution", agent[:8], "--json")
    assert (both.code, both.error["code"]) == (1, "invalid")
    for name in (agent[-7:], "cleanup"):
        said = await hive.run("attempts", "logs", attempt.id, "--execution", name, "--json")
        assert (said.code, said.error["code"]) == (1, "not_found")
