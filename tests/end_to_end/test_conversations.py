"""Transcripts from a node's stores to the hive's command line, whatever is restarted."""

import contextlib
import http.client
import json
import signal
import sqlite3
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from protocol.conversation import Session
from protocol.entities import Attempt
from protocol.errors import ErrorCode, SkepError
from protocol.messages import LiveText, Ops
from protocol.ops import OpKind, encode_body
from protocol.states import AttemptPhase
from tests.end_to_end.agents import AgentJournal
from tests.end_to_end.hive_program import HiveProgram
from tests.end_to_end.installation import Installation
from tests.end_to_end.node_program import NodeProgram
from tests.end_to_end.programs import Command
from tests.end_to_end.rogue_node import RogueNode
from tests.end_to_end.talking import Talk
from tests.end_to_end.waiting import until

ATTEMPT = "01920000-0000-7000-8000-00000000000a"
SESSION = "01920000-0000-7000-8000-00000000000b"


@pytest.fixture
def node(installation: Installation, repository: Path) -> NodeProgram:
    """A node with the project."""
    return installation.add_node(repository=repository)


@pytest.fixture
def talk(installation: Installation, node: NodeProgram) -> Talk:
    """A conversation in an attempt of that node, whose agent is stopped."""
    attempt = installation.run("project", "echo hello", node)
    installation.hive.wait_ended(attempt)
    node.wait_sent()
    node.stop()
    return Talk(node, attempt)


def all_of(installation: Installation, session_id: str) -> list[tuple[int, str]]:
    """A whole session as the hive shows it, paged forward; nothing where it has not heard of it."""
    found, after = [], 0
    while after is not None:
        try:
            page = installation.hive.client.get(
                f"sessions/{session_id}/messages", after=after, limit=100
            )
        except SkepError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise
            break
        found += [(one["seq"], one["content"]) for one in page["items"]]
        after = page["next"]
    return found


def whole(talk: Talk) -> list[tuple[int, str]]:
    """What it is to show."""
    return list(enumerate(talk.said, 1))


class Following:
    """A command that follows a session with `-f --json`, as a process, read as it prints."""

    def __init__(self, program: Command, *words: str) -> None:
        self.lines: list[dict[str, Any]] = []
        self._process = program.popen(*words, "-f", "--json", stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self.lines.append(json.loads(line))

    def interrupt(self) -> int:
        """Press Ctrl-C; return its exit status."""
        self._process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> int:
        """Wait until it ends; return its exit status."""
        status = self._process.wait(60)
        self._reader.join(10)
        self._process.stdout.close()
        return status


class Pieces:
    """What a viewer of a session sees as it is written, read on a thread."""

    def __init__(self, hive: HiveProgram, session_id: str) -> None:
        self._seen: list[dict[str, Any]] = []
        self._connection = http.client.HTTPConnection("127.0.0.1", hive.port, timeout=120)
        token = hive.environment["SKEP_TOKEN"]
        self._connection.request(
            "GET",
            f"/api/v1/stream?topics=session:{session_id}",
            headers={"Authorization": f"Bearer {token}"},
        )
        self._response = self._connection.getresponse()
        while not self._response.readline().startswith(b"id: "):
            pass
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException, AttributeError):
            while line := self._response.readline():
                if line == b"event: message.delta\n":
                    data = self._response.readline().removeprefix(b"data: ")
                    self._seen.append(json.loads(data))

    def joined(self) -> dict[str, str]:
        """The text of each message, from its beginning as far as no piece is missing."""
        texts: dict[str, str] = {}
        for piece in list(self._seen):
            text = texts.get(piece["message_id"], "")
            if piece["at"] == len(text):
                texts[piece["message_id"]] = text + piece["text"]
        return {message_id: text for message_id, text in texts.items() if text}

    def close(self) -> None:
        """Leave."""
        if self._connection.sock is not None:
            self._connection.sock.shutdown(2)
        self._reader.join(10)
        self._connection.close()


def test_a_conversation_reaches_the_command_line(
    installation: Installation, node: NodeProgram, talk: Talk
) -> None:
    """What a node's agent said is listed, paged and read by the commands of hive and node."""
    hive = installation.hive
    talk.say(120)
    alone = node.json("messages", talk.session.id, "--limit", "5")
    assert [one["seq"] for one in alone["items"]] == [116, 117, 118, 119, 120]
    assert (alone["previous"], alone["next"]) == (116, None)
    [mine] = node.json("sessions")["items"]
    assert (mine["id"], mine["message_count"]) == (talk.session.id, 120)
    node.start()
    until(
        lambda: hive.json("sessions", "--attempt", talk.session.attempt_id)["items"],
        "the session is at the hive",
        holds=lambda items: items and items[0]["message_count"] == 120,
    )
    assert all_of(installation, talk.session.id) == whole(talk)
    assert hive.attempt(talk.session.attempt_id)["sessions"] == [talk.session.id]
    page = hive.json("sessions", "messages", talk.session.id, "--limit", "2", "--before", "3")
    assert [one["seq"] for one in page["items"]] == [1, 2]
    said = hive.call("sessions", "messages", talk.session.id[-8:], "--limit", "1")
    assert said.returncode == 0, said.stderr
    assert said.stdout == "#120 agent  scripted\n  said 120\n\n"
    assert "Mend the door" in hive.call("sessions", "show", talk.session.id).stdout
    theirs = hive.client.post(
        "sessions", {"agent_session_id": "theirs", "attempt_id": talk.session.attempt_id}
    )
    for persisted in (1, 0):
        sent = hive.json("sessions", "send", theirs["id"], "yes", "--id", "one")
        assert (sent["persisted"], sent["duplicates"]) == (persisted, 1 - persisted)
    assert "external" in hive.call("sessions", "--attempt", talk.session.attempt_id).stdout
    here = installation.add_node("here")
    token = hive.client.post("tokens", {"name": "operator", "role": "operator"})["token"]
    here.json("login", stdin=f"{token}\n")
    assert here.json("sessions")["items"] == []
    assert talk.session.id in {one["id"] for one in here.json("sessions", "--all")["items"]}
    page = here.json("messages", talk.session.id, "--limit", "2")
    assert [one["seq"] for one in page["items"]] == [119, 120]
    assert here.refused("messages", talk.session.id, "--follow")["code"] == "not_available"
    for program in (here, node):
        topic = f"As {program.node_name} calls it"
        assert program.json("sessions", "rename", talk.session.id, topic)["topic"] == topic
        until(
            lambda: hive.json("sessions", "show", talk.session.id)["topic"],
            "the hive shows the topic",
            holds=topic.__eq__,
        )
    node.stop()
    assert node.json("sessions", "show", talk.session.id)["topic"] == topic
    assert hive.refused("sessions", "show", "01920000-0000-7000")["code"] == "not_found"


def test_a_follower_sees_each_message_once(
    installation: Installation, node: NodeProgram, talk: Talk
) -> None:
    """Whatever is killed while it follows, each message comes once and in order, until the end."""
    hive = installation.hive
    talk.say(3)
    node.start()
    until(
        lambda: hive.client.get("sessions")["items"],
        "the session is at the hive",
        holds=lambda items: items and items[0]["message_count"] == 3,
    )
    following = Following(hive, "sessions", "messages", talk.session.id)
    at_the_node = Following(node, "messages", talk.session.id[-8:])
    until(lambda: len(following.lines) == 3, "what was said is printed")
    until(lambda: len(at_the_node.lines) == 3, "the node prints it too")
    left = Following(node, "messages", talk.session.id, "--after", "2")
    until(lambda: len(left.lines) == 1, "what comes behind the second is printed")
    assert left.interrupt() == 130
    node.stop()
    talk.say(40)
    hive.kill()
    node.start()
    hive.start()
    node.hurry()
    until(lambda: len(following.lines) >= 43, "what was said meanwhile is printed")
    node.kill()
    talk.say(2, closed=True)
    node.start()
    for one in (following, at_the_node):
        assert one.wait() == 0
        assert [(line["seq"], line["content"]) for line in one.lines] == whole(talk)


def test_what_the_hive_lost_is_fetched_from_the_node(
    installation: Installation, node: NodeProgram, talk: Talk
) -> None:
    """A hole is shown as one, and filled from the node's own store because someone looked.

    What that node has lost as well is told as lost, and ends who follows the closed session.
    """
    hive = installation.hive
    talk.say(150, closed=True)
    node.start()
    until(
        lambda: len(all_of(installation, talk.session.id)), "it is at the hive", holds=(150).__eq__
    )
    hive.close_client()
    hive.stop()
    with sqlite3.connect(hive.data_dir / "hive.db") as lossy:
        lossy.execute("DELETE FROM message WHERE message_seq BETWEEN 20 AND 90")
    hive.start()
    page = hive.client.get(f"sessions/{talk.session.id}/messages", after=10, limit=20)
    assert [gap["gap"] for gap in page["gaps"]] == [[20, 90]]
    node.hurry()
    until(
        lambda: all_of(installation, talk.session.id),
        "the node has filled the hole",
        holds=lambda found: found == whole(talk),
    )
    node.stop()
    hive.close_client()
    hive.stop()
    for database, lost in (
        (hive.data_dir / "hive.db", "DELETE FROM message WHERE message_seq > 140"),
        (
            node.data_dir / "state.db",
            "DELETE FROM record WHERE entity_id IN (SELECT id FROM message WHERE seq > 145)",
        ),
    ):
        with contextlib.closing(sqlite3.connect(database)) as lossy, lossy:
            lossy.execute(lost)
    hive.start()
    following = Following(hive, "sessions", "messages", talk.session.id, "--after", "130")
    node.start()
    assert following.wait() == 0
    *there, gap = following.lines
    assert [line["seq"] for line in there] == list(range(131, 146))
    assert (gap["gap"], gap["lost"]) == ([146, 150], True)


def test_what_an_agent_says_is_read_at_the_hive(
    installation: Installation, node: NodeProgram, tmp_path: Path
) -> None:
    """A real conversation: live pieces, then messages with tools, then a turn sent by message."""
    hive = installation.hive
    journal = AgentJournal(tmp_path / "journal")
    text = "@await gate\n@think whether\n@say one two three\n@write made.txt hello\n@plan a; b"
    attempt: str = hive.json(
        *("tasks", "run", installation.task("project"), "--node", node.node_name),
        *("--executor", "acp", "--command", journal.command, "--prompt", text),
    )["id"]
    session = until(
        lambda: hive.attempt(attempt)["sessions"], "the attempt has a session at the hive"
    )[0]
    worktree = Path(until(lambda: hive.attempt(attempt)["worktree"], "its worktree is known"))
    pieces = Pieces(hive, session)
    (worktree / "gate").touch()
    assert hive.wait_ended(attempt)["outcome"] == "succeeded"
    page = hive.json("sessions", "messages", session)
    assert [one["seq"] for one in page["items"]] == list(range(1, len(page["items"]) + 1))
    by_role = {one["role"]: one for one in page["items"]}
    assert {"user", "assistant", "thinking", "tool", "plan"} <= set(by_role)
    until(pieces.joined, "what it said was seen as it was said")
    said = {one["id"]: one["content"] for one in page["items"]}
    for message_id, piece in pieces.joined().items():
        assert said[message_id].startswith(piece)
    sent = {"messages": [{"id": "more", "content": "@say again"}]}
    for persisted in (1, 0):
        told = hive.client.post(f"sessions/{session}/messages", sent)
        assert (told["persisted"], told["duplicates"]) == (persisted, 1 - persisted)
    until(
        lambda: [
            one["content"].strip() for one in hive.json("sessions", "messages", session)["items"]
        ],
        "the turn it became is done",
        holds=lambda found: found[-1] == "again" and found.count("@say again") == 1,
    )
    pieces.close()
    _while_the_node_is_away(hive, node, journal, session)


def _while_the_node_is_away(
    hive: HiveProgram, node: NodeProgram, journal: AgentJournal, session: str
) -> None:
    """What is said twice meanwhile is two turns, one after the other; said again it is none."""
    before = len(journal.prompts)
    node.kill()
    hive.wait_node(node.node_name, "offline")
    later = ("--when", "online")
    kept = [
        hive.json("sessions", "send", session, "@say yes", "--id", name, *later)
        for name in ("first", "second", "second")
    ]
    assert [(one["kept"], one["duplicates"]) for one in kept] == [(1, 0), (1, 0), (1, 1)]
    renamed = hive.json("sessions", "rename", session, "Yes and yes", *later)
    hive.kill()
    hive.start()
    node.start()
    for key in [one["items"][0]["key"] for one in kept] + [renamed["key"]]:
        until(
            lambda key=key: hive.json("operations", "show", key)["status"],
            "what was kept is done",
            holds="done".__eq__,
        )
    until(
        lambda: hive.json("sessions", "turns", session)["items"],
        "both turns are over",
        holds=lambda turns: [one["status"] for one in turns] == ["ended"] * (before + 2),
    )
    assert journal.prompts[before:] == ["@say yes", "@say yes"]
    again = hive.json("sessions", "send", session, "@say yes", "--id", "second")
    assert (again["persisted"], again["duplicates"]) == (0, 1)
    turns = hive.json("sessions", "turns", session)["items"]
    assert [one["no"] for one in turns] == list(range(1, before + 3))
    assert {one["stop_reason"] for one in turns} == {"end_turn"}
    own = node.json("sessions", "turns", session)["items"]
    assert [(one["id"], one["no"]) for one in own] == [(one["id"], one["no"]) for one in turns]
    assert hive.json("sessions", "show", session)["topic"] == "Yes and yes"


def test_what_an_agent_is_writing_is_seen(installation: Installation, tmp_path: Path) -> None:
    """Text comes over a node's link to a viewer as it is written; nothing of it is stored."""
    hive = installation.hive
    node = installation.new_node("writer")
    node.json("join", hive.url, installation.join_token(), "--name", "writer")
    attempt = Attempt(
        id=ATTEMPT,
        task_id="01920000-0000-7000-8000-00000000000c",
        task_title="Write",
        checkout_id="01920000-0000-7000-8000-00000000000d",
        project_identity="example.org/team/shop",
        project_name="shop",
        executor="acp",
        branch="skep/write",
        phase=AttemptPhase.RUNNING,
        created_at_ms=1,
    )
    session = Session(id=SESSION, attempt_id=ATTEMPT, executor="acp", created_at_ms=1)
    with RogueNode(hive, node) as link:
        challenge = link.dial()
        link.greet(challenge, features=["live_text"])
        assert link.welcome.features == ["live_text"]
        facts = [
            link.op(OpKind.ATTEMPT, ATTEMPT, encode_body(attempt)),
            link.op(OpKind.SESSION, SESSION, encode_body(session)),
        ]
        link.send(Ops(epoch=link.epoch, first_seq=1, ops=facts))
        until(lambda: hive.client.get("sessions")["items"], "the session is at the hive")
        connection = http.client.HTTPConnection("127.0.0.1", hive.port, timeout=60)
        token = hive.environment["SKEP_TOKEN"]
        connection.request(
            "GET",
            f"/api/v1/stream?topics=session:{SESSION}",
            headers={"Authorization": f"Bearer {token}"},
        )
        response = connection.getresponse()
        while not response.readline().startswith(b"id: "):
            pass
        piece = LiveText(
            session_id=SESSION, message_id="m-1", role="assistant", at=0, text="Next I "
        )
        link.send(piece)
        while response.readline() != b"event: message.delta\n":
            pass
        data = json.loads(response.readline().removeprefix(b"data: "))
        assert (data["message_id"], data["text"]) == ("m-1", "Next I ")
        connection.close()
    assert hive.rows("SELECT count(*) FROM message") == [(0,)]
