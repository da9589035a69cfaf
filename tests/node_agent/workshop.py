"""A node without its agent: stores, runner and a repository in one folder, for tests of attempts.

The same folder can be opened again, as the next process of a node would.
"""

import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from node_agent.attempt_runner import AttemptRunner, StartKey
from node_agent.checkouts import add_checkout
from node_agent.notices import Notices
from node_agent.recovery import Recovered, recover
from node_agent.run_context import RunContext
from node_agent.script_runs import WantedScript
from node_agent.stamps import new_id, now_ms
from node_agent.store import attempts
from node_agent.store.database import Database
from node_agent.store.journal import SqliteJournal
from node_agent.store.log_chunks import SqliteChunkStore
from node_agent.turn_steps import done_record
from protocol.attempt_requests import StartRequest
from protocol.entities import Attempt, Checkout, Execution, LogEnd
from protocol.log_chunks import GapChunk, LogChunk, open_chunk
from protocol.states import ExecutionKind
from protocol.turn_requests import FollowUpRequest, GoOnRequest, InterruptRequest, Turn


def git(folder: Path, *args: str) -> str:
    """Run git as a user would, with an identity of its own."""
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    done = subprocess.run(
        ("git", *identity, *args), cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def make_repository(folder: Path) -> Path:
    """Make a repository with one commit on main."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "README").write_text("hello\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


@dataclass
class Workshop:
    """An open node."""

    folder: Path
    database: Database
    journal: SqliteJournal
    chunks: SqliteChunkStore
    context: RunContext
    runner: AttemptRunner
    fatal: list[Exception] = field(default_factory=list)

    async def start(self, command: str, *, key: str | None = None, **fields: Any) -> Attempt:
        """Start an attempt of this command."""
        wanted = {"task_title": "Try it", **fields}
        reply = await self.runner.start(
            StartRequest(command=command, **wanted),
            StartKey(key or new_id(), f"{command} {fields}", "tester"),
        )
        return reply.attempt

    async def run(self, command: str, **fields: Any) -> Attempt:
        """Start an attempt and wait for its end."""
        attempt = await self.start(command, **fields)
        return await self.runner.wait_ended(attempt.id)

    async def follow_up(
        self,
        attempt: Attempt,
        command: str | None = None,
        *,
        key: str | None = None,
        asked_for: str | None = None,
        **fields: Any,
    ) -> Turn:
        """Give an attempt another turn."""
        request = FollowUpRequest(command=command, **fields)
        body_hash = f"{command} {fields}"
        return await self.runner.follow_up(
            attempt.id, request, StartKey(key or new_id(), body_hash, "tester", asked_for)
        )

    async def interrupt(self, attempt: Attempt, *, key: str | None = None, **fields: Any) -> Turn:
        """Interrupt the turn that runs."""
        request = InterruptRequest(**fields)
        return await self.runner.interrupt(
            attempt.id, request, StartKey(key or new_id(), f"{fields}", "tester")
        )

    async def go_on(self, attempt: Attempt, *, key: str | None = None, **fields: Any) -> Turn:
        """Go on now with the turn that waits for a usage limit."""
        request = GoOnRequest(**fields)
        return await self.runner.go_on(
            attempt.id, request, StartKey(key or new_id(), f"{fields}", "tester")
        )

    async def script(
        self, attempt: Attempt, script: str, *, name: str = "setup", key: str | None = None
    ) -> Execution:
        """Begin a script in an attempt's worktree."""
        record = done_record("run_script", key or new_id(), attempt.id, "tester")
        wanted = WantedScript(name=name, script=script)
        reply = await self.runner.scripts.start(attempt.id, wanted, record, script)
        return reply.execution

    async def attempt(self, attempt: Attempt) -> Attempt:
        """The attempt as it stands now."""
        return await self.database.read(attempts.get, attempt.id)

    async def agents(self, attempt: Attempt) -> list[Execution]:
        """The executions of an attempt's turns."""
        found = await self.executions(attempt)
        return [one for one in found if one.kind is ExecutionKind.AGENT]

    async def executions(self, attempt: Attempt) -> list[Execution]:
        return await self.database.read(attempts.executions_of, attempt.id)

    async def log_end(self, execution: Execution) -> LogEnd | None:
        return await self.database.read(attempts.log_end_of, execution.id)

    async def chunks_of(self, execution: Execution) -> Sequence[LogChunk | GapChunk]:
        return await self.chunks.chunks_from(execution.id, 1, chunks_max=100_000, bytes_max=1 << 30)

    async def output(self, execution: Execution, stream: int) -> bytes:
        """What the log has of one stream, as bytes."""
        return b"".join(
            bytes(segment.data)
            for chunk in await self.chunks_of(execution)
            if isinstance(chunk, LogChunk)
            for segment in open_chunk(chunk)
            if segment.stream == stream
        )

    async def add_checkout(self, path: Path, name: str | None = None) -> Checkout:
        return await add_checkout(self.database, path, name)

    async def recover(self) -> Recovered:
        return await recover(self.context, self.runner)


@contextlib.asynccontextmanager
async def open_workshop(folder: Path, instance: int, **changes: Any) -> AsyncIterator[Workshop]:
    """Open the node in this folder, as its process number `instance` would."""
    folder.mkdir(exist_ok=True)
    fatal: list[Exception] = []
    database = await Database.open(folder / "state.db", "state", on_fatal=fatal.append)
    logs = await Database.open(folder / "logs.db", "logs", on_fatal=fatal.append, shrinks=True)
    chunks = SqliteChunkStore(logs, now_ms)
    journal = SqliteJournal(database)
    await journal.open_epoch(instance)
    context = RunContext(
        database=database,
        chunks=chunks,
        notices=Notices(database),
        node_id="node",
        node_name="bench",
        slots=2,
        worktrees_dir=folder / "worktrees",
        runs_dir=folder / "runs",
        environment={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "SKEP_OWN": "x"},
        grace_s=2.0,
    )
    runner = AttemptRunner(replace(context, **changes))
    try:
        yield Workshop(folder, database, journal, chunks, context, runner, fatal)
    finally:
        await runner.close()
        await chunks.close()
        await logs.close()
        await database.close()
