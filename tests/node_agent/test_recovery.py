"""Killing the node agent anywhere: programs go on, nothing runs twice, no byte is lost."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from node_agent.attempt_outcome import NEVER_STARTED, NO_EXIT_RECORD
from node_agent.attempt_runner import StartKey
from node_agent.checkouts import add_checkout
from node_agent.run_folder import EXIT
from node_agent.store import attempts, turns
from protocol.attempt_requests import StartRequest
from protocol.digest import running
from protocol.entities import Attempt, Execution
from protocol.log_chunks import STDERR, STDOUT, GapChunk, LogCursor, advance, check_follows
from protocol.log_chunks import Outcome as Follows
from protocol.messages import LogMark
from protocol.states import AttemptOutcome, ExecutionKind, ExecutionStatus
from tests.node_agent.workshop import Workshop, make_repository, open_workshop

LINES = 400
#: Prints lines over a second or so, and leaves one line for each time it was run. Where it is given
#: a file, it waits in the middle until that is there.
AGENT = """
import os, sys, time
with open(sys.argv[1], "a") as runs: runs.write(f"{os.getpid()}\\n")
for n in range(400):
    while n == 200 and sys.argv[3:] and not os.path.exists(sys.argv[3]): time.sleep(0.02)
    stream = sys.stderr if n % 7 == 0 else sys.stdout
    stream.write(f"line {n} " + "x" * (n * 13 % 900) + "\\n")
    stream.flush()
    time.sleep(float(sys.argv[2]))
"""


def expected(stream: int) -> bytes:
    """What the agent prints on one stream."""
    lines = [f"line {n} " + "x" * (n * 13 % 900) + "\n" for n in range(LINES)]
    return "".join(
        line for n, line in enumerate(lines) if (STDERR if n % 7 == 0 else STDOUT) == stream
    ).encode()


class Node:
    """A node in a folder, driven by processes that can be killed."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "data"
        self.runs = tmp_path / "runs.txt"
        self.project = make_repository(tmp_path / "project")
        self._instances = itertools.count(100)

    async def prepare(self) -> None:
        """Add the checkout."""
        async with open_workshop(self.folder, next(self._instances)) as shop:
            await add_checkout(shop.database, self.project)

    def request(
        self, pause_s: float = 0.0, until: Path | None = None, **fields: Any
    ) -> StartRequest:
        """An attempt of the agent above."""
        words = [self.runs, pause_s, *([] if until is None else [until])]
        command = shlex.join([sys.executable, "-c", AGENT, *map(str, words)])
        wanted = {"task_title": "Survive", "command": command, **fields}
        return StartRequest(**wanted)

    def drive(
        self, *todo: str, failpoint: str | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Start a process of the node agent."""
        environment = os.environ | ({"SKEP_FAILPOINT": failpoint} if failpoint else {})
        arguments = [str(self.folder), str(next(self._instances)), *todo]
        return subprocess.Popen(
            [sys.executable, "-m", "tests.node_agent.attempt_driver", *arguments],
            env=environment,
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )

    def start(self, request: StartRequest, **options: Any) -> subprocess.Popen[str]:
        return self.drive("start", msgspec.json.encode(request).decode(), **options)

    def recover(self, **options: Any) -> None:
        """Take everything up in another process, to its end."""
        with self.drive("recover", **options) as process:
            assert process.wait(timeout=60) == 0

    def open(self) -> Any:
        """Look at the node when no process has it."""
        return open_workshop(self.folder, next(self._instances))

    @property
    def pids(self) -> list[int]:
        """The processes the agent ran as."""
        return [int(line) for line in self.runs.read_text().split()] if self.runs.exists() else []


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node with one checkout, whose programs are gone after the test."""
    made = Node(tmp_path)
    asyncio.run(made.prepare())
    yield made
    for pid in made.pids:
        command = Path(f"/proc/{pid}/cmdline")
        if command.exists() and str(made.runs).encode() in command.read_bytes():
            os.kill(pid, signal.SIGKILL)


def told(process: subprocess.Popen[str], name: str) -> Any:
    """Wait for a line of the driver that tells this."""
    assert process.stdout is not None
    for line in process.stdout:
        said = json.loads(line)
        if name in said:
            return said[name]
    raise AssertionError(f"the driver ended without {name}")


async def check_whole(shop: Workshop, attempt: Attempt) -> list[Execution]:
    """The attempt ended well, its log is every byte once, and its journal holds together."""
    assert (attempt.phase, attempt.outcome) == ("ended", "succeeded")
    executions_found = await shop.executions(attempt)
    agents = [
        one
        for one in executions_found
        if one.kind is ExecutionKind.AGENT and one.reason != NEVER_STARTED
    ]
    (agent,) = agents
    assert agent.status is ExecutionStatus.SUCCEEDED
    assert await shop.output(agent, STDOUT) == expected(STDOUT)
    assert await shop.output(agent, STDERR) == expected(STDERR)
    for execution in executions_found:
        await check_log(shop, execution)
    await check_journal(shop)
    assert list((shop.folder / "runs").iterdir()) == []
    return executions_found


async def check_log(shop: Workshop, execution: Execution) -> None:
    """Chunks follow each other, and the log's end is what is there."""
    chunks = await shop.chunks_of(execution)
    cursor = LogCursor()
    for chunk in chunks:
        assert check_follows(cursor, chunk) is Follows.STORED
        assert not isinstance(chunk, GapChunk)
        cursor = advance(cursor, chunk)
    log = await shop.chunks.log(execution.id)
    end = await shop.log_end(execution)
    assert log is not None
    assert end is not None
    assert log.closed
    assert (log.next_chunk, log.next_entry) == (cursor.next_chunk, cursor.next_entry)
    assert log.digest == cursor.digest
    assert (end.chunks, end.entries) == (cursor.next_chunk - 1, cursor.next_entry - 1)


async def check_journal(shop: Workshop) -> None:
    """Every epoch's digest is that of its ops."""
    for epoch in await shop.journal.epochs():
        ops = await shop.journal.ops_after(epoch.epoch, 0, ops_max=10_000, bytes_max=1 << 30)
        assert len(ops) == epoch.last
        if ops:
            assert running(bytes(16), epoch.epoch, 1, ops)[-1] == epoch.digest


@pytest.mark.asyncio
async def test_the_program_outlives_the_node_agent(node: Node):
    """Killed in the middle, taken up by the next: the same process, and every byte once."""
    gate = node.folder / "gate"
    with node.start(node.request(pause_s=0.005, until=gate)) as process:
        attempt_id = told(process, "started")
        await until(lambda: node.pids)
        await asyncio.sleep(0.8)
        process.kill()
    pid = node.pids[0]
    assert is_alive(pid)
    gate.touch()
    await asyncio.to_thread(node.recover)
    async with node.open() as shop:
        attempt = await shop.database.read(attempts.get, attempt_id)
        (agent,) = await check_whole(shop, attempt)
        assert node.pids == [pid]
        assert agent.process is not None
        assert agent.process.pid == pid


def is_alive(pid: int) -> bool:
    """Whether the process runs: one that nobody has reaped yet does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


async def until(condition: Any) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_killed_again_and_again(node: Node):
    """However often the node agent dies, the log is every byte once."""
    with node.start(node.request(pause_s=0.01)) as process:
        attempt_id = told(process, "started")
        await asyncio.sleep(0.7)
        process.kill()
    for _ in range(3):
        with node.drive("recover") as process:
            told(process, "settled")
            await asyncio.sleep(0.4)
            process.kill()
    await asyncio.to_thread(node.recover)
    async with node.open() as shop:
        await check_whole(shop, await shop.database.read(attempts.get, attempt_id))
    assert len(node.pids) == 1


@pytest.mark.asyncio
async def test_ended_while_nobody_listened(node: Node):
    """The exit code and the rest of the output are picked up at the next start."""
    with node.start(node.request(pause_s=0.002)) as process:
        attempt_id = told(process, "started")
        await until(lambda: node.pids)
        process.kill()
    (pid,) = node.pids
    await until(lambda: not is_alive(pid))
    await until(lambda: list((node.folder / "runs").glob(f"*/{EXIT}")))
    await asyncio.to_thread(node.recover)
    async with node.open() as shop:
        await check_whole(shop, await shop.database.read(attempts.get, attempt_id))
    assert node.pids == [pid]


def failpoints_passed() -> list[str]:
    """The points an attempt passes on its way, by the names in the sources."""
    root = Path(__file__).parents[2] / "node_agent"
    sources = [*root.glob("*.py"), *(root / "store").glob("*.py")]
    names = {
        name
        for source in sources
        for name in re.findall(r'failpoint\("(node\.[a-z_.]+)"\)', source.read_text())
    }
    on_the_way = re.compile(r"node\.(start|attempt|execution|log|logs|journal|store)\.")
    elsewhere = {
        "node.journal.pruned",
        "node.journal.reforked",
        "node.journal.withheld",
        "node.logs.gap_made",
        "node.logs.adopted",
        "node.logs.purge_planned",
        "node.logs.purged_some",
    }
    return sorted(name for name in names - elsewhere if on_the_way.match(name))


@pytest.mark.parametrize("name", failpoints_passed())
def test_killed_at_each_point(node: Node, name: str):
    """Wherever the node agent dies, the next one ends the attempt well; its agent ran once."""
    killed_at(node, f"{name}:kill9")


@pytest.mark.parametrize("nth", [3, 6, 9, 12, 15, 18])
def test_killed_at_later_commits(node: Node, nth: int):
    """The same holds before and after commits on the way."""
    killed_at(node, f"node.store.{'before' if nth % 2 else 'after'}_commit:kill9:{nth}")


def killed_at(node: Node, failpoint: str) -> None:
    """Kill there, recover, and look."""
    request = node.request(setup_script="echo set up", cleanup_script="echo tidied")
    with node.start(request, failpoint=failpoint) as process:
        assert process.wait(timeout=60) == -signal.SIGKILL, "the point was never reached"
    node.recover()

    async def look() -> None:
        async with node.open() as shop:
            found = await shop.database.read(attempts.page, limit=10)
            if not found:
                # Killed before the start was committed: it never happened, and nothing ran.
                assert node.pids == []
                await check_journal(shop)
                return
            (attempt,) = found
            ran = await check_whole(shop, attempt)
            kinds = [one.kind for one in ran if one.reason != NEVER_STARTED]
            assert kinds == ["setup", "agent", "cleanup"]
            assert len(node.pids) == 1

    asyncio.run(look())


@pytest.mark.asyncio
async def test_a_supervisor_that_dies_loses_the_attempt_and_leaves_nothing(node: Node):
    """Nobody knows the end: lost, with its reason, its log kept, and no process left."""
    async with node.open() as shop:
        reply = await shop.runner.start(node.request(pause_s=0.05), start_key(), fence=None)
        await until(lambda: node.pids)
        (pid,) = node.pids
        running_now = await running_agent(shop, reply.attempt)
        identity = json.loads((shop.context.run_folder(running_now.id) / "identity").read_text())
        await asyncio.sleep(0.5)
        os.kill(identity["supervisor_pid"], signal.SIGKILL)
        ended = await shop.runner.wait_ended(reply.attempt.id)
        assert (ended.outcome, ended.reason) == ("lost", NO_EXIT_RECORD)
        (agent,) = await shop.executions(ended)
        assert (agent.status, agent.reason) == ("lost", NO_EXIT_RECORD)
        assert (await shop.output(agent, STDOUT)).startswith(b"line 1 ")
        assert not is_alive(pid)
        log = await shop.chunks.log(agent.id)
        assert log is not None
        assert log.closed


def start_key() -> StartKey:
    """A key for a start."""
    return StartKey("k", "h", "tester")


async def running_agent(shop: Workshop, attempt: Attempt) -> Execution:
    """The agent's execution, once its process is on record."""
    async with asyncio.timeout(60):
        while True:
            for execution in await shop.executions(attempt):
                if execution.kind is ExecutionKind.AGENT and execution.process is not None:
                    return execution
            await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_a_stop_survives_the_node_agent(node: Node):
    """What was asked to stop is stopped by the next process, if this one did not get to it."""
    request = StartRequest(task_title="t", command="sleep 1000")
    async with node.open() as shop:
        reply = await shop.runner.start(request, start_key())
        await running_agent(shop, reply.attempt)
        await shop.runner.close()
        # As if killed between writing the wish down and carrying it out.
        await shop.runner.stop(reply.attempt.id, grace_s=0.5)
    async with node.open() as shop:
        await shop.recover()
        ended = await shop.runner.wait_ended(reply.attempt.id)
        assert ended.outcome is AttemptOutcome.STOPPED


@pytest.mark.asyncio
async def test_an_execution_that_ran_is_never_run_again(node: Node):
    """Its run folder is gone, as after a restore of the state alone: lost, not run once more."""
    request = StartRequest(task_title="t", command="sh -c 'echo once; sleep 1000'")
    async with node.open() as shop:
        reply = await shop.runner.start(request, start_key())
        agent = await running_agent(shop, reply.attempt)
        await shop.runner.close()
        folder = shop.context.run_folder(agent.id)
        assert agent.process is not None
        identity = json.loads((folder / "identity").read_text())
        os.kill(identity["supervisor_pid"], signal.SIGKILL)
        os.kill(agent.process.pid, signal.SIGKILL)
        await asyncio.to_thread(subprocess.run, ["rm", "-rf", str(folder)], check=True)
    async with node.open() as shop:
        await shop.recover()
        ended = await shop.runner.wait_ended(reply.attempt.id)
        assert ended.outcome is AttemptOutcome.LOST
        assert len(await shop.executions(ended)) == 1


@pytest.mark.parametrize("point", ["node.attempt.worktree_made", "node.attempt.prepared"])
@pytest.mark.asyncio
async def test_a_state_older_than_what_it_began(node: Node, tmp_path: Path, point: str):
    """It is restored from before the program began: that is taken up, and not begun once more."""
    once, gate = tmp_path / "setup.txt", tmp_path / "gate"
    setup = f"echo >> {shlex.quote(str(once))}"
    request = node.request(pause_s=0.004, until=gate, setup_script=setup)
    with node.start(request, failpoint=f"{point}:kill9") as process:
        assert process.wait(timeout=60) == -signal.SIGKILL
    older = {path.name: path.read_bytes() for path in node.folder.glob("state.db*")}
    with node.drive("recover") as process:
        deadline_s = time.monotonic() + 60
        while not node.pids and time.monotonic() < deadline_s:
            await asyncio.sleep(0.02)
        process.kill()
    for path in node.folder.glob("state.db*"):
        path.unlink()
    for name, content in older.items():
        (node.folder / name).write_bytes(content)
    gate.touch()
    node.recover()
    async with node.open() as shop:
        (attempt,) = await shop.database.read(attempts.page, limit=10)
        (agent,) = [one for one in await shop.executions(attempt) if one.kind == "agent"]
        assert attempt.outcome is AttemptOutcome.SUCCEEDED
        assert agent.status is ExecutionStatus.SUCCEEDED
        assert await shop.output(agent, STDOUT) == expected(STDOUT)
    assert len(node.pids) == 1
    assert once.read_text() == "\n"


def cuts_in(folder: Path) -> list[tuple[int, int]]:
    """What the chunk store of a node holds, whichever process has it."""
    query = "SELECT chunk_seq, crc32 FROM chunk ORDER BY chunk_seq"
    with contextlib.suppress(sqlite3.OperationalError):
        reader = sqlite3.connect(f"file:{folder / 'logs.db'}?mode=ro", uri=True)
        with contextlib.closing(reader):
            return reader.execute(query).fetchall()
    # Not made yet.
    return []


async def until_cuts(node: Node, number: int) -> None:
    """Wait until the node's store holds so many chunks."""
    async with asyncio.timeout(60):
        while len(cuts_in(node.folder)) < number:
            await asyncio.sleep(0.05)


@pytest.mark.asyncio
async def test_databases_older_than_what_they_tell_of(node: Node, tmp_path: Path):
    """Both are restored under a program: it is taken up, and its log is cut again as it was."""
    copy, stop = tmp_path / "printed", tmp_path / "stop"
    program = f"""
    echo $$ >> {node.runs}
    until [ -e {stop} ]; do n=$((n + 1)); echo "line $n" | tee -a {copy}; sleep 0.05; done
    """
    with node.start(node.request(command=shlex.join(["sh", "-c", program]))) as process:
        told(process, "started")
        await until_cuts(node, 2)
        process.kill()
    older = {path.name: path.read_bytes() for path in node.folder.glob("*.db*")}
    held = len(cuts_in(node.folder))
    with node.drive("recover") as process:
        await until_cuts(node, held + 2)
        process.kill()
    # The last one may not have been noted any more.
    sent = cuts_in(node.folder)[:-1]
    assert len(sent) > held
    for path in node.folder.glob("*.db*"):
        path.unlink()
    for name, content in older.items():
        (node.folder / name).write_bytes(content)
    stop.touch()
    await asyncio.to_thread(node.recover)
    assert cuts_in(node.folder)[: len(sent)] == sent
    async with node.open() as shop:
        (attempt,) = await shop.database.read(attempts.page, limit=10)
        (agent,) = await shop.executions(attempt)
        assert agent.status is ExecutionStatus.SUCCEEDED
        assert await shop.output(agent, STDOUT) == copy.read_bytes()
        await check_log(shop, agent)
    assert len(node.pids) == 1


@pytest.mark.asyncio
async def test_a_log_renumbered_under_its_writer(node: Node):
    """The hive was ahead: the writer goes on behind the gap, and loses and repeats nothing."""
    async with node.open() as shop:
        gate = node.folder / "gate"
        request = node.request(pause_s=0.004, until=gate)
        reply = await shop.runner.start(request, start_key())
        agent = await running_agent(shop, reply.attempt)
        await asyncio.sleep(0.5)
        log = await shop.chunks.log(agent.id)
        assert log is not None
        mark = LogMark(agent.id, log.next_chunk, log.next_entry, log.digest)
        await shop.chunks.acked([mark])
        ahead = LogMark(agent.id, log.next_chunk + 5, log.next_entry + 50, b"h" * 16)
        await shop.chunks.adopt(ahead, log.next_chunk - 1)
        gate.touch()
        ended = await shop.runner.wait_ended(reply.attempt.id)
        assert ended.outcome is AttemptOutcome.SUCCEEDED
        assert await shop.output(agent, STDOUT) == expected(STDOUT)
        assert await shop.output(agent, STDERR) == expected(STDERR)
        chunks = await shop.chunks.chunks_from(
            agent.id, ahead.next_chunk, chunks_max=9999, bytes_max=1 << 30
        )
        cursor = LogCursor(
            next_chunk=ahead.next_chunk, next_entry=ahead.next_entry, digest=ahead.digest
        )
        for chunk in chunks:
            assert check_follows(cursor, chunk) is Follows.STORED
            cursor = advance(cursor, chunk)
        assert isinstance(chunks[0], GapChunk)
        end = await shop.log_end(agent)
        assert end is not None
        assert (end.chunks, end.entries) == (cursor.next_chunk - 1, cursor.next_entry - 1)


@pytest.mark.asyncio
async def test_logs_nobody_will_write_are_closed(node: Node):
    """The state is older than the logs, as after a restore: such a log does not stay open."""
    async with node.open() as shop:
        await shop.chunks.open_log("unknown-execution", "a", "c")
        found = await shop.recover()
        assert found.logs_closed == 1
        log = await shop.chunks.log("unknown-execution")
        assert log is not None
        assert log.closed


@pytest.mark.asyncio
async def test_a_run_folder_nobody_knows_is_left(node: Node):
    """It may hold the only copy of some output; one whose end is recorded is removed."""
    async with node.open() as shop:
        attempt = await shop.run("true")
        (agent,) = await shop.executions(attempt)
        shop.context.run_folder(agent.id).mkdir()
        shop.context.run_folder("unknown").mkdir()
        found = await shop.recover()
        assert found.folders_removed == 1
        assert not shop.context.run_folder(agent.id).exists()
        assert shop.context.run_folder("unknown").exists()


@pytest.mark.asyncio
async def test_a_closed_log_that_is_renumbered_says_its_end_anew(node: Node):
    """The hive learns how many chunks and entries the whole has now."""
    async with node.open() as shop:
        attempt = await shop.run("echo done")
        (agent,) = await shop.executions(attempt)
        before = await shop.log_end(agent)
        assert before is not None
        assert before.chunks == 1
        await shop.chunks.adopt(LogMark(agent.id, 6, 9, b"h" * 16), 1)

        async with asyncio.timeout(60):
            while (said := await shop.log_end(agent)) == before:
                await asyncio.sleep(0.01)
        log = await shop.chunks.log(agent.id)
        assert said is not None
        assert log is not None
        assert (said.chunks, said.entries) == (log.next_chunk - 1, log.next_entry - 1) == (6, 8)


# --- turns ----------------------------------------------------------------------------------------


def turn_command(node: Node, number: int) -> str:
    """A turn that notes that it ran, and when it ended."""
    log = node.folder.parent / "turns.txt"
    return f"sh -c 'echo begin {number} >> {log}; sleep 0.2; echo end {number} >> {log}'"


def turns_told(node: Node) -> list[str]:
    """What the turns noted."""
    return (node.folder.parent / "turns.txt").read_text().splitlines()


async def check_turns(node: Node, attempt_id: str, count: int) -> None:
    """Each turn ran once, in order, and the attempt ended after the last of them."""
    async with node.open() as shop:
        attempt = await shop.database.read(attempts.get, attempt_id)
        assert (attempt.phase, attempt.outcome) == ("ended", "succeeded")
        assert await shop.database.read(turns.queued, attempt_id) == []
        assert await shop.database.read(turns.running, attempt_id) is None
    expected_turns = [f"{word} {n}" for n in range(1, count + 1) for word in ("begin", "end")]
    assert turns_told(node) == expected_turns


#: Where a node dies on its way from one turn to the next. Some are passed once for each turn.
BETWEEN_TURNS = [
    "node.follow_up.committed:kill9",
    "node.follow_up.committed:kill9:3",
    "node.turn.begun:kill9",
    "node.turn.begun:kill9:2",
    "node.execution.recorded:kill9:2",
    "node.execution.log_opened:kill9:2",
    "node.execution.started:kill9:2",
    "node.execution.process_recorded:kill9:2",
    "node.execution.log_closed:kill9:1",
    "node.execution.ended:kill9:3",
    "node.attempt.decided:kill9",
    "node.attempt.ended:kill9",
]


@pytest.mark.parametrize("point", BETWEEN_TURNS)
def test_a_node_dies_between_turns(node: Node, point: str):
    """Queued turns outlive their node: each runs once and in order, whatever was asked again."""
    request = {"task_title": "Turns", "command": turn_command(node, 1)}
    commands = [turn_command(node, number) for number in (2, 3, 4)]
    wanted = json.dumps({"request": request, "commands": commands})
    with node.drive("turns", wanted, failpoint=point) as process:
        attempt_id = told(process, "started")
        assert process.wait(timeout=60) == -signal.SIGKILL
    # Whoever asked had no answer, and asks again under the same keys.
    again = json.dumps({"attempt": attempt_id, "commands": commands})
    with node.drive("turns", again) as process:
        assert process.wait(timeout=60) == 0
    asyncio.run(check_turns(node, attempt_id, 4))


def test_a_turn_goes_on_without_its_node(node: Node):
    """A follow-up's process is found again by the next node agent, and not started twice."""
    first = json.dumps({"request": {"task_title": "T", "command": "true"}, "commands": []})
    with node.drive("turns", first) as process:
        attempt_id = told(process, "ended")
    again = json.dumps({"attempt": attempt_id, "commands": [node.request(0.01).command]})
    with node.drive("turns", again) as process:
        told(process, "taken")
        wait_for(lambda: node.pids)
        process.kill()
    node.recover()
    assert len(node.pids) == 1

    async def look() -> None:
        async with node.open() as shop:
            attempt = await shop.database.read(attempts.get, attempt_id)
            assert (attempt.phase, attempt.outcome) == ("ended", "succeeded")
            *_, agent = await shop.executions(attempt)
            assert await shop.output(agent, STDOUT) == expected(STDOUT)

    asyncio.run(look())


def wait_for(holds: Callable[[], object]) -> None:
    """Wait until something another process brings about is so."""
    deadline_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
