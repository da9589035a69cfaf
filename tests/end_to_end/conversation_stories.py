"""Stories for the failpoint sweep about conversations: turns, a request, a usage limit.

As in `crash_stories`, what a story does is done again in `check`, under the same idempotency key.
"""

import contextlib
import uuid
from pathlib import Path

from node_agent.sessions.rules import CONTINUE_TEXT
from protocol.errors import SkepError
from tests.end_to_end.agents import AgentJournal, NodeConversation
from tests.end_to_end.life_stories import AskedUnderAKey
from tests.end_to_end.waiting import until

_PROMPT = "@write made.txt hello\n@permit asked.txt granted\n@say one"
_NEXT = "@say two"


class TalkToAnAgent(AskedUnderAKey):
    """A turn asks for permission and gets it, and a second follows it; the agent hears all once."""

    prompt = _PROMPT

    def prepare(self) -> None:
        self.journal = AgentJournal(self.sweep.new_folder().with_suffix(".journal"))
        self.command = self.journal.command
        self.task = self.sweep.task("full")
        self.keys = [uuid.uuid4().hex for _ in range(3)]

    def act(self) -> None:
        self._begin()
        self.ask("follow-up", {"prompt": _NEXT}, self.keys[1])
        request = self._conversation().request()
        self._answer(request.id)
        self.sweep.hive.wait_ended(self.attempt)

    def check(self) -> None:
        until(self._begun, "the attempt is there")
        self.ask_surely("follow-up", {"prompt": _NEXT}, self.keys[1])
        conversation = self._conversation()
        request = conversation.request()
        until(lambda: self._answered(request.id), "the answer is taken")
        shown = self.sweep.hive.wait_ended(self.attempt)
        assert shown["outcome"] == "succeeded", shown
        assert self.journal.prompts == [_PROMPT, _NEXT]
        assert self.journal.outcomes == ["allow"]
        assert len(self.journal.pids) == 1
        worktree = Path(shown["worktree"])
        assert (worktree / "made.txt").read_text().strip() == "hello"
        assert (worktree / "asked.txt").read_text().strip() == "granted"
        told = conversation.told()
        assert [role for role, _ in told] == [
            *("user", "tool", "tool", "assistant"),
            *("user", "assistant"),
        ], told
        assert [text for role, text in told if role == "assistant"] == ["one", "two"]
        assert [turn.stop_reason for turn in conversation.turns()] == ["end_turn", "end_turn"]
        assert [one.status for one in conversation.requests()] == ["answered"]
        (session,) = conversation.sessions()
        assert (session.status, session.turn_count) == ("idle", 2)

    def _begin(self) -> None:
        body = {
            "node_id": "node1",
            "executor": "acp",
            "command": self.command,
            "prompt": self.prompt,
        }
        asked = self.sweep.hive.client.post(f"tasks/{self.task}/attempts", body, key=self.keys[0])
        self.attempt = asked["id"]

    def _begun(self) -> bool:
        with contextlib.suppress(SkepError):
            self._begin()
            return True
        return False

    def _answer(self, request_id: str) -> None:
        """Answer at the node itself: the way of the hive's is a story of its own."""
        self.sweep.node.client.send(
            "POST", f"requests/{request_id}/answer", {"option": "allow"}, key=self.keys[2]
        )

    def _answered(self, request_id: str) -> bool:
        try:
            self._answer(request_id)
        except SkepError as error:
            if not error.meaning.retryable:
                raise
            return False
        return True

    def _conversation(self) -> NodeConversation:
        return NodeConversation(self.sweep.node, self.attempt)


class WaitForALimit(TalkToAnAgent):
    """A turn waits for a usage limit in the middle of its work, and goes on once, as asked."""

    prompt = "Make it."

    def prepare(self) -> None:
        super().prepare()
        self.command = self.journal.command_of("@write made.txt hello", "@limit 4000000000")

    def act(self) -> None:
        self._begin()
        self._go_on()
        self.sweep.hive.wait_ended(self.attempt)

    def check(self) -> None:
        until(self._begun, "the attempt is there")
        self._go_on()
        shown = self.sweep.hive.wait_ended(self.attempt)
        assert (shown["outcome"], shown["parked_until_ms"]) == ("succeeded", None), shown
        assert self.journal.prompts == [self.prompt, CONTINUE_TEXT]
        assert len(self.journal.pids) == 2
        conversation = self._conversation()
        assert [turn.stop_reason for turn in conversation.turns()] == ["end_turn"]
        said = [text for role, text in conversation.told() if role == "user"]
        assert said == [self.prompt, CONTINUE_TEXT]

    def _go_on(self) -> None:
        until(
            lambda: self.sweep.hive.attempt(self.attempt),
            "the hive knows that it waits, or waited",
            holds=lambda shown: shown["parked_until_ms"] or shown["phase"] == "ended",
        )
        self.journal.command_of("@say done")
        self.ask_surely("go-on", {}, self.keys[1])
