"""Conversations through everything that is real: hive, node agent, supervisor, scripted agent."""

from pathlib import Path

import pytest

from tests.end_to_end.agents import AgentJournal, NodeConversation
from tests.end_to_end.installation import Installation
from tests.end_to_end.node_program import NodeProgram
from tests.end_to_end.waiting import until


def begin(installation: Installation, node: NodeProgram, journal: AgentJournal, text: str) -> str:
    """Start an attempt of the scripted agent from the hive's command line."""
    task = installation.task("project")
    attempt: str = installation.hive.json(
        *("tasks", "run", task, "--node", node.node_name),
        *("--executor", "acp", "--command", journal.command, "--prompt", text),
    )["id"]
    return attempt


def die_and_come_back(installation: Installation, node: NodeProgram) -> None:
    """Kill the node agent, and start it again."""
    node.kill()
    node.process = None
    node.start()
    installation.hive.wait_node(node.node_name)


@pytest.mark.parametrize("moment", ["turn", "request"])
def test_a_node_agent_dies(
    installation: Installation, repository: Path, tmp_path: Path, moment: str
) -> None:
    """The turn goes on, the open request is the same and is answered; a follow-up resumes."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    journal = AgentJournal(tmp_path / "journal")
    text = "@say before\n@await gate\n@permit asked.txt granted\n@say after"
    attempt = begin(installation, node, journal, text)
    journal.wait("prompt")
    worktree = Path(until(lambda: node.attempt(attempt)["worktree"], "its worktree is known"))
    conversation = NodeConversation(node, attempt)
    if moment == "turn":
        die_and_come_back(installation, node)
    (worktree / "gate").touch()
    before = conversation.request()
    until(
        lambda: hive.attempt(attempt)["phase"],
        "the hive knows that it waits",
        holds=lambda phase: phase == "awaiting_input",
    )
    if moment == "request":
        die_and_come_back(installation, node)
    assert conversation.requests() == [before]
    assert hive.json("requests", "answer", before.id, "allow")["status"] == "answered"
    assert hive.wait_ended(attempt)["outcome"] == "succeeded"
    assert (worktree / "asked.txt").read_text().strip() == "granted"
    assert (journal.prompts, journal.outcomes, len(journal.pids)) == ([text], ["allow"], 1)
    hive.json("attempt", "follow-up", attempt, "--prompt", "@recall")
    assert hive.json("attempts", "wait", attempt, "--timeout", "60")["outcome"] == "succeeded"
    assert len(journal.pids) == 2
    (session,) = conversation.sessions()
    assert session.turn_count == 2
    role, said = conversation.told()[-1]
    assert role == "assistant"
    assert "@say before" in said
    raw = [line["text"] for line in hive.lines("attempts", "logs", attempt)]
    assert sum('"session/request_permission"' in line for line in raw) == 1


def test_the_agent_crashes(installation: Installation, repository: Path, tmp_path: Path) -> None:
    """Its turn ends with the reason and the attempt fails; a follow-up goes on in the session."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    journal = AgentJournal(tmp_path / "journal")
    attempt = begin(installation, node, journal, "@say before\n@crash")
    shown = hive.wait_ended(attempt)
    why = "the agent's process ended with exit code 3, while it used a tool: Crash"
    assert (shown["outcome"], shown["reason"]) == ("failed", f"agent: {why}")
    conversation = NodeConversation(node, attempt)
    (turn,) = conversation.turns()
    assert (turn.status, turn.stop_reason) == ("ended", "agent")
    assert ("assistant", "before") in conversation.told()
    assert [session.status for session in conversation.sessions()] == ["idle"]
    hive.json("attempt", "follow-up", attempt, "--prompt", "@say again")
    assert hive.json("attempts", "wait", attempt, "--timeout", "60")["outcome"] == "succeeded"
    assert conversation.told()[-1] == ("assistant", "again")


def test_the_agent_knows_its_session(
    installation: Installation, repository: Path, tmp_path: Path
) -> None:
    """The environment names the session that the hive shows, in a follow-up's process too."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    journal = AgentJournal(tmp_path / "journal")
    noted = tmp_path / "noted"
    command = f"sh -c 'echo $SKEP_SESSION_ID >> {noted}; exec {journal.command}'"
    task = installation.task("project")
    attempt = hive.json(
        *("tasks", "run", task, "--node", node.node_name),
        *("--executor", "acp", "--command", command, "--prompt", "@say hello"),
    )["id"]
    hive.wait_ended(attempt)
    hive.json("attempt", "follow-up", attempt, "--prompt", "@say again")
    assert hive.json("attempts", "wait", attempt, "--timeout", "60")["outcome"] == "succeeded"
    (session,) = hive.json("sessions", "--attempt", attempt)["items"]
    assert noted.read_text().split() == [session["id"]] * 2
    assert hive.attempt(attempt)["sessions"] == [session["id"]]
    said = hive.json("sessions", "messages", session["id"])["items"]
    roles = [(one["role"], one["content"]) for one in said if one["role"] != "system"]
    assert roles == [
        ("user", "@say hello"),
        ("assistant", "hello"),
        ("user", "@say again"),
        ("assistant", "again"),
    ]
