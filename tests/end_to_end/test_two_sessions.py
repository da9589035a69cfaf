"""Two conversations of one project, on two nodes at once, while everything is killed in turn."""

from pathlib import Path

from tests.end_to_end.agents import AgentJournal
from tests.end_to_end.installation import Installation, git, make_repository
from tests.end_to_end.node_program import NodeProgram
from tests.end_to_end.waiting import until

ROUNDS = 3


def begin(installation: Installation, node: NodeProgram, journal: AgentJournal) -> str:
    """Start an attempt whose agent waits for a file before each of the things it says."""
    name = node.node_name
    lines = [f"@await {number}\n@say {name} says {number}" for number in range(ROUNDS)]
    prompt = "\n".join([*lines, f"@permit {name}.txt {name}"])
    attempt: str = installation.hive.json(
        *("tasks", "run", installation.task("project"), "--node", name),
        *("--executor", "acp", "--command", journal.command, "--prompt", prompt),
    )["id"]
    return attempt


def test_two_sessions_never_mix(installation: Installation, tmp_path: Path) -> None:
    """Each transcript has its own agent's words in order, and each answer reaches its own agent."""
    hive = installation.hive
    make_repository(tmp_path / "project")
    nodes = []
    for name in ("node1", "node2"):
        (tmp_path / name).mkdir(exist_ok=True)
        git(tmp_path / name, "clone", "-q", str(tmp_path / "project"), "project")
        # The same repository on both, and no address that only one machine knows.
        git(tmp_path / name / "project", "remote", "remove", "origin")
        nodes.append(installation.add_node(name, repository=tmp_path / name / "project"))
    journals = [AgentJournal(tmp_path / f"journal-{node.node_name}") for node in nodes]
    attempts = [begin(installation, *pair) for pair in zip(nodes, journals, strict=True)]
    worktrees = []
    for node, attempt, journal in zip(nodes, attempts, journals, strict=True):
        journal.wait("prompt")
        found = until(lambda node=node, one=attempt: node.attempt(one)["worktree"], "its worktree")
        worktrees.append(Path(found))
    killed = [nodes[0], nodes[1], hive]
    for number, program in enumerate(killed):
        for worktree in worktrees:
            (worktree / str(number)).touch()
        program.kill()
        program.process = None
        hive.close_client()
        program.start()
    for node in nodes:
        node.hurry()
    requests = until(
        lambda: hive.json("requests", "--open")["items"],
        "both agents ask",
        holds=lambda found: len(found) == len(nodes),
    )
    answers = dict(zip(attempts, ("allow", "reject"), strict=True))
    for request in requests:
        hive.json("requests", "answer", request["id"], answers[request["attempt_id"]])
    for node, attempt, journal in zip(nodes, attempts, journals, strict=True):
        hive.wait_ended(attempt)
        assert journal.outcomes == [answers[attempt]]
        (session,) = hive.json("sessions", "--attempt", attempt)["items"]
        told = hive.json("sessions", "messages", session["id"])["items"]
        said = [one["content"].strip() for one in told if one["role"] == "assistant"]
        words = "".join(said)
        expected = [f"{node.node_name} says {number}" for number in range(ROUNDS)]
        assert [one for one in expected if one in words] == expected, said
        others = {other.node_name for other in nodes} - {node.node_name}
        assert not [one for one in told for other in others if other in one["content"]], told
        assert len(journal.pids) == 1
