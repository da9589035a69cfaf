"""`start`, `attempts`, `attempt` and `logs` for people and scripts, on one finished attempt."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node_agent.running_node import RunningNode, make_repository

COMMAND = "sh -c 'echo made > made.txt; printf \"red\\n[bold]x[/bold]\\nlast\"; exit 4'"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node with one attempt that has ended; its agent runs."""
    folder = tmp_path_factory.mktemp("commands")
    made = RunningNode(folder / "node")
    repository = make_repository(folder / "project")
    made.start()
    made.json("checkout", "add", str(repository))
    wanted = ["--project", "project", "--title", "Do [it]", "--command", COMMAND]
    attempt = made.json("start", *wanted)
    made.json("attempts", "wait", attempt["id"])
    yield made
    made.close()


@pytest.fixture
def attempt(node: RunningNode) -> str:
    """The attempt, by the digits a person would type."""
    return str(node.json("attempts")["items"][0]["id"])[-8:]


def test_lists(node: RunningNode, attempt: str) -> None:
    """The list and the details show the attempt, its title as it is written, and its end."""
    listed = node.command("attempts").stdout
    assert attempt in listed
    assert "Do [it]" in listed
    shown = node.command("attempts", "show", attempt).stdout
    assert "exit_code 4" in shown
    assert "agent" in shown
    page = node.json("attempts", "--status", "failed")
    assert [one["id"][-8:] for one in page["items"]] == [attempt]
    assert page["next"] is None
    assert "failed" in node.refused("attempts", "--status", "flying")["hint"]
    assert node.refused("attempts", "show", "00000000")["code"] == "not_found"
    assert node.refused("attempts", "show", attempt[:3])["code"] == "not_found"


def test_logs(node: RunningNode, attempt: str) -> None:
    """A log is shown as it was printed, numbered for scripts, and from any number on."""
    assert node.command("logs", attempt).stdout == "red\n[bold]x[/bold]\nlast\n"
    lines = node.lines("logs", attempt, "--follow")
    assert [(line["n"], line["text"]) for line in lines] == [
        (1, "red"),
        (2, "[bold]x[/bold]"),
        (3, "last"),
    ]
    assert [line["n"] for line in node.lines("logs", attempt, "--after", "2")] == [3]
    execution = node.json("attempts", "show", attempt)["executions"][0]["id"]
    for name in (execution, execution[-8:].upper(), execution[:8], "agent"):
        assert len(node.lines("logs", attempt, "--execution", name)) == 3
    assert node.refused("logs", attempt, "--execution", execution[:7])["code"] == "not_found"
    assert node.refused("logs", attempt, "--execution", "none")["code"] == "not_found"


def test_work(node: RunningNode, attempt: str) -> None:
    """Diff and branch status are drawn for people and whole for scripts."""
    diff = node.json("attempt", "diff", attempt)
    assert set(diff) == {"base", "head", "source", "files"}
    assert [file["path"] for file in diff["files"]] == ["made.txt"]
    drawn = node.command("attempt", "diff", attempt).stdout
    assert "+made" in drawn
    status = node.json("attempt", "branch-status", attempt)
    assert (status["target_branch"], status["untracked"]) == ("main", 1)
    assert "1 new" in node.command("attempt", "branch-status", attempt).stdout
    files = node.json("attempt", "files", attempt)
    assert [one["name"] for one in files["entries"]] == ["README.md", "made.txt"]
    assert "made.txt" in node.command("attempt", "files", attempt).stdout
    assert node.command("attempt", "cat", attempt, "made.txt").stdout == "made\n"
    assert node.refused("attempt", "cat", attempt, "../made.txt")["code"] == "outside"


def test_a_file_as_json(node: RunningNode, attempt: str) -> None:
    """With --json a file is one JSON value; an argument that cannot be sent is told."""
    assert node.json("attempt", "cat", attempt, "made.txt") == {
        "path": "made.txt",
        "bytes": 5,
        "encoding": "utf-8",
        "content": "made\n",
    }
    refused = node.refused("attempt", "files", attempt, "--path", "\udcff")
    assert refused["message"] == "an argument is not UTF-8"


def test_the_same_without_an_agent(node: RunningNode, attempt: str) -> None:
    """With the agent stopped all that reads answers the same; what changes says what to do."""
    asked = [
        ("attempts", "show", attempt),
        ("attempt", "diff", attempt),
        ("attempt", "branch-status", attempt),
        ("checkout", "list"),
    ]
    before = [node.json(*words) for words in asked]
    log = node.command("logs", attempt, "--json").stdout
    node.stop()
    try:
        assert [node.json(*words) for words in asked] == before
        assert node.command("logs", attempt, "--json").stdout == log
        wanted = ["--project", "project", "--title", "T", "--command", "true"]
        refused = node.refused("start", *wanted)
        assert refused["code"] == "node_offline"
        assert f"node-agent run --data {node.data_dir}" in refused["hint"]
    finally:
        node.start()


def test_wait_gives_up_and_stop_of_an_ended_one(node: RunningNode, attempt: str) -> None:
    """Waiting has an end, and stopping what has ended answers it as it is."""
    wanted = ["--project", "project", "--title", "Slow", "--command", "sleep 30"]
    slow = node.json("start", *wanted)["id"]
    late = node.refused("attempts", "wait", slow, "--timeout", "0.3")
    assert late["code"] == "deadline_passed"
    assert late["details"]["attempt_id"] == slow
    node.json("attempt", "stop", slow, "--grace-s", "0")
    assert node.json("attempts", "wait", slow)["outcome"] == "stopped"
    assert node.json("attempt", "stop", attempt)["outcome"] == "failed"


def test_secrets_and_status_for_people(node: RunningNode, tmp_path: Path) -> None:
    """Secrets are listed by name only; status shows the node at a glance."""
    node.command("secrets", "set", "TOKEN", stdin="sesame-sesame\n")
    listed = node.command("secrets", "list").stdout
    assert "TOKEN" in listed
    assert "sesame" not in listed
    assert json.loads(node.command("secrets", "rm", "TOKEN", "--json").stdout) == {"name": "TOKEN"}
    status = node.command("status").stdout
    assert "running" in status
    assert "0 of 2 busy" in status
    assert "ops" in node.command("outbox").stdout
