"""A usage limit through all that is real: parked, shown at the hive, killed, and on its way."""

import time
from pathlib import Path

from node_agent.sessions.rules import CONTINUE_TEXT
from tests.end_to_end.agents import AgentJournal, NodeConversation
from tests.end_to_end.installation import Installation
from tests.end_to_end.waiting import until

#: Time enough to see that it waits and to kill its node agent, on a machine that is busy.
_WAIT_S = 15


def test_a_limit_is_waited_for(
    installation: Installation, repository: Path, tmp_path: Path
) -> None:
    """It waits while its node agent is dead, and goes on by itself, once; the hive tells it all."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    journal = AgentJournal(tmp_path / "journal")
    task = installation.task("project")
    reset_s = int(time.time()) + _WAIT_S
    command = journal.command_of("@write made.txt hello", f"@limit {reset_s}", "@say done")
    attempt = hive.json(
        *("tasks", "run", task, "--node", node.node_name),
        *("--executor", "acp", "--command", command, "--prompt", "Make it."),
    )["id"]
    waits = until(
        lambda: hive.attempt(attempt),
        "the hive tells that it waits",
        holds=lambda shown: shown["parked_until_ms"] is not None,
    )
    assert (waits["phase"], waits["parked_until_ms"]) == ("running", reset_s * 1000)
    assert waits["reason"].startswith("usage_limit: ")
    assert "parked" in hive.call("attempts", "list").stdout
    (session,) = hive.json("sessions", "--attempt", attempt)["items"]
    assert session["parked_until_ms"] == reset_s * 1000
    node.kill()
    node.process = None
    node.start()
    ended = hive.wait_ended(attempt)
    assert (ended["outcome"], ended["parked_until_ms"]) == ("succeeded", None)
    assert journal.prompts == ["Make it.", CONTINUE_TEXT]
    assert len(journal.pids) == 2
    (turn,) = NodeConversation(node, attempt).turns()
    assert (turn.no, turn.stop_reason) == (1, "end_turn")
    said = hive.json("sessions", "messages", session["id"])["items"]
    assert [(one["author_kind"], one["author"]) for one in said if one["role"] == "user"][1:] == [
        ("node", "Skep")
    ]
    events = hive.json("events", "--attempt", attempt)["items"]
    told = [one["kind"] for one in events if one["kind"] in {"attempt_parked", "attempt_went_on"}]
    assert sorted(told) == ["attempt_parked", "attempt_went_on"]
