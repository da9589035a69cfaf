"""Stories for the failpoint sweep about an attempt's life: turns, interrupts, scripts, cleanups.

As in `crash_stories`, what a story does is done again in `check`, under the same idempotency key.
"""

import uuid
from pathlib import Path
from typing import Any

from protocol.errors import SkepError
from tests.end_to_end.crash_stories import Story
from tests.end_to_end.installation import git
from tests.end_to_end.waiting import until


class AskedUnderAKey(Story):
    """A story of one changing operation of an attempt, asked again until it is answered."""

    def ask(self, path: str, body: dict[str, Any], key: str) -> Any:
        """Ask once."""
        return self.sweep.hive.client.post(f"attempts/{self.attempt}/{path}", body, key=key)

    def ask_surely(self, path: str, body: dict[str, Any], key: str) -> Any:
        """Ask until it is answered: what was cut short may be `in_progress` for a moment."""
        answers: list[Any] = []

        def asked() -> bool:
            try:
                answers.append(self.ask(path, body, key))
            except SkepError as error:
                if not error.meaning.retryable:
                    raise
                return False
            return True

        until(asked, f"{path} is answered")
        return answers[-1]

    def run(self, command: str) -> None:
        """Begin an attempt of this command."""
        self.notes = self.sweep.new_folder()
        self.notes.mkdir()
        self.attempt = self.sweep.run("full", command, self.sweep.node)

    def noting(self, word: str) -> str:
        """A command that notes that it ran."""
        return f"sh -c 'sleep 0.3; echo {word} >> {self.notes}/ran'"

    def noted(self) -> list[str]:
        """What was noted."""
        file = self.notes / "ran"
        return file.read_text().split() if file.exists() else []


class FollowUpAnAttempt(AskedUnderAKey):
    """Two follow-ups of an attempt whose worktree was removed: one runs, the other is queued."""

    def prepare(self) -> None:
        self.run("sh -c 'echo work > left.txt'")
        self.sweep.hive.wait_ended(self.attempt)
        self.ask("cleanup", {"save": True}, uuid.uuid4().hex)
        self.turns = [
            ({"command": self.noting(word)}, uuid.uuid4().hex) for word in ("first", "second")
        ]

    def act(self) -> None:
        for body, key in self.turns:
            self.ask("follow-up", body, key)

    def check(self) -> None:
        for body, key in self.turns:
            self.ask_surely("follow-up", body, key)
        # Both have begun or are queued by now, so the end that is waited for is the last.
        until(self.noted, "both turns ran", holds=lambda noted: len(noted) >= 2)
        shown = self.sweep.hive.wait_ended(self.attempt)
        assert self.noted() == ["first", "second"]
        assert shown["outcome"] == "succeeded", shown
        assert (Path(shown["worktree"]) / "left.txt").read_text() == "work\n"


class InterruptATurn(AskedUnderAKey):
    """The turn that runs is interrupted, by this node agent or by the next."""

    def prepare(self) -> None:
        self.run("sleep 1000")
        until(
            lambda: self.sweep.node.attempt(self.attempt)["executions"],
            "the turn runs",
            holds=lambda executions: bool(executions and executions[0]["process"]),
        )
        self.key = uuid.uuid4().hex

    def act(self) -> None:
        self.ask("interrupt", {}, self.key)

    def check(self) -> None:
        assert self.ask_surely("interrupt", {}, self.key)["no"] == 1
        shown = self.sweep.hive.wait_ended(self.attempt)
        assert shown["reason"] == "interrupted: signal 2", shown


class RunAScript(AskedUnderAKey):
    """A review by a command: it runs once, or is told never to have started."""

    def prepare(self) -> None:
        self.run("true")
        self.sweep.hive.wait_ended(self.attempt)
        self.body = {"command": self.noting("reviewed")}
        self.key = uuid.uuid4().hex

    def act(self) -> None:
        self.ask("review", self.body, self.key)

    def check(self) -> None:
        own = self.ask_surely("review", self.body, self.key)["id"]

        def execution() -> dict[str, Any]:
            found: dict[str, Any] = self.sweep.node.attempt(self.attempt)
            return next(one for one in found["executions"] if one["id"] == own)

        done = until(execution, "the script ended", holds=lambda one: one["status"] != "running")
        expected = {"succeeded": ["reviewed"], "lost": []}
        assert self.noted() == expected[done["status"]], done


class CleanUpAnAttempt(AskedUnderAKey):
    """A worktree is removed once its work is saved."""

    def prepare(self) -> None:
        self.run("sh -c 'echo work > left.txt'")
        self.worktree = Path(self.sweep.hive.wait_ended(self.attempt)["worktree"])
        self.key = uuid.uuid4().hex

    def act(self) -> None:
        self.ask("cleanup", {"save": True}, self.key)

    def check(self) -> None:
        answered = self.ask_surely("cleanup", {"save": True}, self.key)
        assert answered["worktree"] is None
        assert not self.worktree.exists()
        saved = git(self.sweep.folder / "full", "show", f"{answered['saved_ref']}:left.txt")
        assert saved == "work\n"
