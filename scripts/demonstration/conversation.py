"""The part of the story in which people and an agent talk, and what was seen of it by the end.

Owns what is said to the agent and how its requests are answered. Must not judge it:
`conversation_checks` does, from what is kept here.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from scripts.demonstration import repository
from scripts.demonstration.actors import Hive, Node, wait_for
from scripts.demonstration.agents import SpokenTo
from scripts.demonstration.processes import DemoFolder
from scripts.demonstration.screen import Screen, StepFailed

NOTES: Final = "SKEP-NOTES.md"
TITLE: Final = "Write notes"
TEXT: Final = f"Write {NOTES}, a line for each of the last 3 commits.\nDo not commit it yet."
FOLLOW_UP: Final = f"Commit {NOTES}, and nothing else."
#: For questions, which a real agent may ask beside what it wants to be allowed.
_ANY_ANSWER: Final = "Do as you think best."
#: Lines shown of what is longer than one.
_BELOW_MAX: Final = 2
_NAMES: Final = {"user": "you", "assistant": "agent", "thinking": "thinks"}
_MARKS: Final = {"completed": "✓", "failed": "✕", "cancelled": "✕"}


@dataclass(frozen=True)
class Seen:
    """What git said of the attempt's worktree at one moment."""

    head: str
    notes: str


@dataclass
class Conversation:
    """One attempt with an agent, and what was seen of it."""

    agent: SpokenTo
    node: Node
    id: str = ""
    task_id: str = ""
    worktree: Path = Path()
    #: Requests as the hive listed them while they were open, and as they ended.
    asked: list[dict[str, Any]] = field(default_factory=list)
    settled: list[dict[str, Any]] = field(default_factory=list)
    #: At the first request, after the first turn, after the second.
    seen: list[Seen] = field(default_factory=list)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    ended: dict[str, Any] = field(default_factory=dict)

    @property
    def session(self) -> dict[str, Any]:
        return self.sessions[0]


class Conversing:
    """Has a conversation by the commands a person would type."""

    def __init__(self, screen: Screen, folder: DemoFolder, hive: Hive, kept: Conversation) -> None:
        self._screen = screen
        self._folder = folder
        self._hive = hive
        self._kept = kept

    def begin(self, project: str, base_words: list[str]) -> None:
        """Give the agent a task; answer what it asks until its turn is over. Raises StepFailed."""
        kept, node = self._kept, self._kept.node.name
        words = ["--project", project, "--title", TITLE, "--description", TEXT]
        kept.task_id = self._hive.json("tasks", "create", *words)["id"]
        self._screen.command(f"hive tasks run {kept.task_id[-8:]} --node {node} {kept.agent.shown}")
        asked = ["tasks", "run", kept.task_id, "--node", node, *kept.agent.words, *base_words]
        kept.id = self._hive.json(*asked)["id"]
        self._listen(turns=1)
        self._look()

    def follow_up(self) -> None:
        """Say something more in the same session. Raises StepFailed."""
        kept = self._kept
        self._screen.command(f"hive attempt follow-up {kept.id[-8:]} --prompt '{FOLLOW_UP}'")
        self._hive.json("attempt", "follow-up", kept.id, "--prompt", FOLLOW_UP)
        self._listen(turns=2)
        self._look()

    def show(self, *, after: int = 0) -> None:
        """Read the conversation, and show each message as one line."""
        kept = self._kept
        session_id = str(kept.session["id"])
        self._screen.command(f"hive sessions messages {session_id[-8:]}")
        argv = ["sessions", "messages", session_id, "--after", str(after), "--limit", "200"]
        page = self._hive.json(*argv)["items"]
        kept.messages += page
        for message in page:
            for who, said in lines_of(message):
                self._screen.said(who, said)

    # --- what the agent asks ------------------------------------------------------------------

    def _listen(self, *, turns: int) -> None:
        """Answer requests until so many turns are over, and all of it is at the hive."""
        kept = self._kept
        deadline_s = time.monotonic() + kept.agent.within_s
        while not self._over(turns):
            open_now = self._hive.get("requests", attempt=kept.id, status="open")["items"]
            known = {one["id"] for one in kept.asked}
            if any(one["id"] not in known for one in open_now):
                self._answer_new(known)
            elif time.monotonic() > deadline_s:
                raise StepFailed(
                    f"{kept.agent.title} did not end its turn within {kept.agent.within_s:.0f} s",
                    kept.agent.hint,
                )
            else:
                time.sleep(0.05)

    def _over(self, turns: int) -> bool:
        kept = self._kept
        # The sessions first: an attempt that had ended before a follow-up would look as if it had
        # ended after it.
        kept.sessions = self._hive.get("sessions", attempt=kept.id)["items"]
        kept.ended = self._hive.attempt(kept.id)
        if kept.ended.get("phase") != "ended" or kept.ended["sync_state"] != "complete":
            return False
        if kept.ended["outcome"] != "succeeded":
            raise StepFailed(
                f"{kept.agent.title}: the attempt {kept.ended['outcome']}"
                f" ({kept.ended.get('reason') or 'no reason given'})",
                kept.agent.hint,
            )
        return bool(kept.sessions) and (
            kept.session["turn_count"] >= turns and kept.session["status"] == "idle"
        )

    def _answer_new(self, known: set[str]) -> None:
        kept = self._kept
        listed = self._hive.json("requests", "--open", "--attempt", kept.id)["items"]
        for request in listed:
            if request["id"] in known:
                continue
            kept.worktree = Path(self._hive.attempt(kept.id)["worktree"])
            if not kept.asked:
                self._look()
                self._screen.command("hive requests --open")
            kept.asked.append(request)
            short = request["id"][-8:]
            self._screen.said("asks", f"{short}  {request['title']}  on {request['node_name']}")
            if request["options"]:
                named = (f"{one['id']}: {one['name']}" for one in request["options"])
                self._screen.said("", " · ".join(named))
            answer = answer_to(request)
            self._screen.command(f"hive requests answer {short} {answer}")
            self._hive.json("requests", "answer", request["id"], answer)
            kept.settled.append(self._settled(request["id"]))

    def _settled(self, request_id: str) -> dict[str, Any]:
        """Wait until the hive has an answer back from the node, as a fact."""
        look: Callable[[], dict[str, Any]] = partial(self._hive.get, f"requests/{request_id}")
        return wait_for(look, "the answer was not taken", lambda one: one["status"] != "open")

    def _look(self) -> None:
        kept = self._kept
        kept.worktree = Path(self._hive.attempt(kept.id)["worktree"])
        kept.seen.append(seen_in(self._folder, kept.worktree))


def seen_in(folder: DemoFolder, worktree: Path) -> Seen:
    """Return what plain git says of a worktree: where it stands, and how the notes are there."""
    status = ["status", "--porcelain", "--ignored", "--", NOTES]
    return Seen(
        head=repository.git(folder, worktree, "rev-parse", "HEAD").strip(),
        notes=repository.git(folder, worktree, *status).strip(),
    )


def answer_to(request: dict[str, Any]) -> str:
    """Return how a request is answered: yes, this once, where it can be said so."""
    options = request["options"]
    allowed = [one["id"] for one in options if one["kind"] == "allow_once"]
    allowed += [one["id"] for one in options if one["kind"] != "reject_always"]
    return str(allowed[0]) if allowed else _ANY_ANSWER


def lines_of(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a message as a few lines of who and what; a plan's steps are one line."""
    role, tool = str(message["role"]), message.get("tool")
    if tool is not None:
        yield "tool", f"{_mark(tool)} {tool['kind']}: {tool['name'] or tool['target']}"
        diffs = (f"+ {line}" for one in tool["diffs"] for line in one["new_text"].splitlines())
        below = [*diffs, *tool["output"].splitlines()]
    elif message.get("plan"):
        steps = (f"{_mark(step)} {step['content'].strip()}" for step in message["plan"])
        yield "plan", "  ".join(steps)
        below = []
    else:
        first, *below = _full_lines(message["content"].splitlines()) or [""]
        yield _NAMES.get(role, role), first
    for line in _full_lines(below)[:_BELOW_MAX]:
        yield "", line


def _mark(of: dict[str, Any]) -> str:
    return _MARKS.get(of["status"], "…")


def _full_lines(lines: list[str]) -> list[str]:
    return [line for line in lines if line.strip(" +")]
