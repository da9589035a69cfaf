"""Whether the conversation was as the hive tells it, judged with plain git and the agent's journal.

Must not change anything, and must not believe the hive where something else can be asked.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.demonstration import repository
from scripts.demonstration.checks import Check, same
from scripts.demonstration.conversation import FOLLOW_UP, NOTES, TEXT, TITLE, Conversation
from scripts.demonstration.processes import DemoFolder
from scripts.demonstration.screen import StepFailed


def check_conversation(folder: DemoFolder, kept: Conversation) -> Iterator[Check]:
    """Yield every check of a conversation that was had to its end."""
    name = f"{kept.node.name}, {kept.agent.title}"
    yield same(f"{name}: ended succeeded", kept.ended["outcome"], "succeeded")
    yield from _check_transcript(name, kept)
    yield from _check_requests(name, kept)
    if kept.agent.journal is not None:
        yield from _check_journal(name, kept, journal_of(kept.agent.journal))
    yield from _check_work(folder, kept)


def _check_transcript(name: str, kept: Conversation) -> Iterator[Check]:
    numbers = [one["seq"] for one in kept.messages]
    yield same(
        f"{name}: all {len(numbers)} messages are at the hive, in order",
        numbers,
        list(range(1, kept.session["message_count"] + 1)),
    )
    told = [one["content"] for one in kept.messages if one["role"] == "user"]
    yield same(f"{name}: it was told two things", told, [f"{TITLE}\n\n{TEXT}", FOLLOW_UP])
    roles = {one["role"] for one in kept.messages}
    wanted = {"user", "assistant", "tool"}
    if kept.agent.journal is not None:
        wanted |= {"thinking", "plan"}
    yield Check(
        f"{name}: its transcript has {len(wanted)} kinds of messages",
        wanted <= roles,
        f"found {sorted(roles)}, not all of {sorted(wanted)}",
    )
    yield same(
        f"{name}: both turns were in one session",
        (len(kept.sessions), kept.session["turn_count"]),
        (1, 2),
    )


def _check_requests(name: str, kept: Conversation) -> Iterator[Check]:
    asked = {one["id"] for one in kept.asked}
    settled = {one["id"]: one["status"] for one in kept.settled}
    yield same(
        f"{name}: what it asked was open, and then answered",
        settled,
        dict.fromkeys(asked, "answered"),
    )


def _check_journal(name: str, kept: Conversation, journal: list[dict[str, Any]]) -> Iterator[Check]:
    def noted(kind: str, field: str) -> list[Any]:
        return [one[field] for one in journal if one["kind"] == kind]

    heard = [one["content"] for one in kept.messages if one["role"] == "user"]
    yield same(f"{name}: it heard what the hive says, once", noted("prompt", "text"), heard)
    yield same(
        f"{name}: it asked once, and heard one answer: allow",
        (
            noted("asked", "method"),
            [one["outcome"]["optionId"] for one in noted("answer", "result")],
        ),
        (["session/request_permission"], ["allow"]),
    )
    opened = [one for one in noted("called", "method") if one.startswith("session/")]
    opened = [one for one in opened if one in {"session/new", "session/resume", "session/load"}]
    yield same(
        f"{name}: the follow-up took its session up again",
        opened,
        ["session/new", "session/resume"],
    )
    yield same(f"{name}: it wrote {NOTES} once", noted("wrote", "path"), [NOTES])


def _check_work(folder: DemoFolder, kept: Conversation) -> Iterator[Check]:
    name, base = f"{kept.node.name}: git", kept.ended["base_commit"]

    def git(*args: str) -> str:
        try:
            return repository.git(folder, kept.node.clone, *args)
        except StepFailed as failed:
            return failed.why

    if kept.asked:
        before, *_ = kept.seen
        yield same(f"{name} saw no change to {NOTES} before the answer", before.notes, "")
    first, last = kept.seen[-2:]
    yield Check(
        f"{name} saw {NOTES} edited after it, and not committed",
        bool(first.notes) and first.head == base,
        f"found {first}",
    )
    head = git("rev-parse", "--verify", f"refs/heads/{kept.ended['branch']}").strip()
    yield same(
        f"{name} has the follow-up's commit where the hive says",
        (last.head, kept.ended["head_commit"], last.notes),
        (head, head, ""),
    )
    changed = git("log", "--format=", "--name-only", f"{base}..{head}").split("\n")[:-1]
    yield same(f"{name} has that one commit, of {NOTES} alone", changed, [NOTES])
    written = (kept.worktree / NOTES).read_text(errors="replace")
    yield same(f"{name} has in it what the agent wrote", git("show", f"{head}:{NOTES}"), written)
    if kept.agent.journal is not None:
        shown = [
            diff["new_text"]
            for one in kept.messages
            for diff in (one["tool"] or {}).get("diffs") or ()
        ]
        yield same(f"{name} has in it what the transcript shows", shown, [written])


def journal_of(file: Path) -> list[dict[str, Any]]:
    """What an agent wrote down, each at once."""
    return [json.loads(line) for line in file.read_text().splitlines()]
