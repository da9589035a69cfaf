"""An attempt with a worktree and its operations behind a real dispatcher and ledger, for tests.

Checks belong to plain git: nothing here reads what a reply says.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from node_agent.git.repository import open_repository
from node_agent.git.worktrees import Worktree, create_worktree
from node_agent.operations.asking import Asking, Plan
from node_agent.operations.dispatcher import OperationDispatcher
from node_agent.operations.ledger import Asked, KnownKey
from node_agent.operations.table import functions_of
from node_agent.store import attempts
from protocol.entities import Attempt, OperationRecord
from protocol.errors import OperationError
from protocol.operation_values import Request
from protocol.operations import OPERATIONS
from protocol.states import AttemptPhase
from tests.node_agent.git.repositories import Sample, git
from tests.node_agent.operations.conftest import StoredNode
from tests.node_agent.operations.test_attempts import RecordingRunner


class Died(BaseException):
    """Stands for the process's end, which nothing can catch."""


class Branching:
    """One attempt, its user's checkout, its worktree, and whoever asks."""

    def __init__(self, stored: StoredNode) -> None:
        self.stored = stored
        self.keys = 0
        self._functions = functions_of(
            stored.stores,
            stored.changes,
            worktrees_dir=stored.worktrees_dir,
            runner=RecordingRunner(stored.attempt),
            forge=stored.forge,
            node_name=lambda: "laptop",
        )
        self.dispatcher = self.new_dispatcher()

    @classmethod
    async def make(cls, stored: StoredNode) -> "Branching":
        """Give the attempt a worktree with one commit on its branch."""
        made = cls(stored)
        await stored.change(phase=AttemptPhase.PREPARING)
        made.worktree = await create_worktree(
            await open_repository(stored.sample.path),
            stored.worktrees_dir,
            attempt_id=stored.attempt.id,
            branch=stored.attempt.branch,
            base=stored.attempt.base_commit,
        )
        await stored.change(phase=AttemptPhase.RUNNING, worktree=str(made.worktree.path))
        made.first = made.commit("work", {"work.txt": "work\n"})
        return made

    worktree: Worktree
    first: str

    def new_dispatcher(self) -> OperationDispatcher:
        """A dispatcher as after a restart: it knows what the ledger knows."""
        return OperationDispatcher(self._functions, self.stored.stores.ledger, node_id="n")

    @property
    def sample(self) -> Sample:
        return self.stored.sample

    @property
    def branch(self) -> str:
        return self.stored.attempt.branch

    def write(self, name: str, content: str) -> Path:
        """Write a file of the worktree."""
        path = self.worktree.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def commit(self, message: str, files: dict[str, str]) -> str:
        """Commit in the worktree, as an agent does."""
        for name, content in files.items():
            self.write(name, content)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def git(self, *args: str, check: bool = True) -> str:
        """Plain git in the worktree."""
        return git(self.worktree.path, *args, check=check)

    def at(self, ref: str) -> str:
        """The commit of a ref, by plain git in the user's repository; empty where there is none."""
        return self.sample.git("rev-parse", "-q", "--verify", f"{ref}^{{commit}}", check=False)

    async def attempt(self) -> Attempt:
        """The attempt as it is stored."""
        return await self.stored.stores.database.read(attempts.get, self.stored.attempt.id)

    def asking(self, name: str, request: Request | None = None, **more: Any) -> Asking:
        """Ask under a fresh key."""
        self.keys += 1
        return self.stored.asking(name, request, **{"key": f"key-{self.keys}", **more})

    async def ask(self, name: str, request: Request | None = None, **more: Any) -> Any:
        """Ask, and return the decoded reply."""
        answer = await self.dispatcher.perform(self.asking(name, request, **more))
        assert isinstance(answer, bytes)
        return msgspec.msgpack.decode(answer, type=OPERATIONS[name].reply)

    async def refused(self, name: str, request: Request | None = None, **more: Any) -> Any:
        """Ask what is refused; return the error."""
        try:
            await self.ask(name, request, **more)
        except OperationError as error:
            return error
        raise AssertionError(f"{name} was not refused")

    async def crash(
        self,
        name: str,
        request: Request | None = None,
        *,
        acted: bool,
        age_s: float = 1.0,
        meanwhile: Callable[[], object] = bool,
    ) -> KnownKey:
        """Leave behind what a crash would, before or after it acted; restart, and let it settle."""
        asking = self.asking(name, request)
        plans: list[Plan] = []

        async def intend(plan: Plan) -> None:
            plans.append(plan)
            if not acted:
                raise Died

        function = self._functions[name]
        try:
            await function.run(replace(asking, intend=intend))
        except Died:
            assert not acted
        except OperationError:
            # It came to an end, and only its RESULT was not written.
            assert acted
        record = OperationRecord(
            key=asking.key or "",
            operation=name,
            attempt_id=asking.attempt_id,
            status="started",
            started_at_ms=int((time.time() - age_s) * 1000),
        )
        asked = Asked(
            request=msgspec.msgpack.encode(asking.request), plan=msgspec.msgpack.encode(plans[0])
        )
        meanwhile()
        ledger = self.stored.stores.ledger
        await ledger.intend(record, asking.body_hash, asked)
        self.dispatcher = self.new_dispatcher()
        await self.dispatcher.settle_unsettled()
        known = await ledger.find(record.key)
        assert known is not None
        assert known.settled
        return known
