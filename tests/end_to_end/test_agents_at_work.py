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


def answer(node: NodeProgram, request_id: str, option: str) -> None:
    """Answer a request at its node."""
    node.client.send("POST", f"requests/{request_id}/answer", {"option": option}, key=request_id)


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
    answer(node, before.id, "allow")
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
    assert (shown["outcome"], shown["reason"]) == ("failed", "agent: the agent's process ended")
    conversation = NodeConversation(node, attempt)
    (turn,) = conversation.turns()
    assert (turn.status, turn.stop_reason) == ("ended", "agent")
    assert ("assistant", "before") in conversation.told()
    assert [session.status for session in conversation.sessions()] == ["idle"]
    hive.json("attempt", "follow-up", attempt, "--prompt", "@say again")
    assert hive.json("attempts", "wait", attempt, "--timeout", "60")["outcome"] == "succeeded"
    assert conversation.told()[-1] == ("assistant", "again")
