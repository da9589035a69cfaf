"""The agent as a process: alone, killed, restarted, with executions that go on without it."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node_agent.running_node import RunningNode, make_repository, wait_until

# Says its lines, then waits until a file is there.
WAITING = "sh -c 'echo one; echo two; while [ ! -e {gate} ]; do sleep 0.05; done; echo three'"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    """A node with one checkout, its agent not running yet."""
    made = RunningNode(tmp_path / "node")
    made.data_dir.mkdir()
    repository = make_repository(tmp_path / "project")
    made.json("checkout", "add", str(repository))
    yield made
    made.close()


def begin(node: RunningNode, command: str, *more: str) -> dict[str, object]:
    """Start an attempt that runs this command."""
    wanted = ["--project", "project", "--title", "Do it", "--command", command]
    answer: dict[str, object] = node.json("start", *wanted, *more)
    return answer


def test_an_attempt_with_no_hive(node: RunningNode) -> None:
    """With no hive: start, wait, log and listing work, and the outcome is the program's."""
    node.start()
    attempt = begin(node, "sh -c 'echo out; echo err >&2; exit 3'")
    ended = node.json("attempts", "wait", str(attempt["id"]))
    assert (ended["outcome"], ended["reason"]) == ("failed", "exit_code 3")
    lines = node.lines("logs", str(attempt["id"])[-8:])
    assert sorted((line["stream"], line["text"]) for line in lines) == [
        ("stderr", "err"),
        ("stdout", "out"),
    ]
    assert [line["n"] for line in lines] == [1, 2]
    assert [one["id"] for one in node.json("attempts")["items"]] == [attempt["id"]]
    assert node.json("attempts", "--status", "succeeded")["items"] == []
    status = node.json("status")
    assert status["hive"] is None
    assert status["running"]
    assert status["slots"] == {"total": 2, "busy": 0}
    assert status["outbox"]["ops"] > 0
    assert node.json("outbox")["reason"].startswith("no hive")


def test_a_killed_agent_comes_back_to_the_same_process(node: RunningNode, tmp_path: Path) -> None:
    """Killed and started again, the agent finds its program by the same pid, no line lost."""
    gate = tmp_path / "gate"
    node.start()
    attempt = str(begin(node, WAITING.format(gate=gate))["id"])
    wait_until(lambda: len(node.lines("logs", attempt)) == 2, what="two lines")
    pid = node.json("attempts", "show", attempt)["executions"][0]["process"]["pid"]
    with node.popen("logs", attempt, "-f", "--json", stdout=subprocess.PIPE, text=True) as follower:
        node.stop(signal.SIGKILL)
        # With no agent: the same facts, from the stores.
        assert not node.json("status")["running"]
        assert node.json("attempts", "show", attempt)["phase"] == "running"
        assert [line["text"] for line in node.lines("logs", attempt)] == ["one", "two"]
        assert node.refused("attempt", "stop", attempt)["code"] == "node_offline"
        os.kill(pid, 0)
        node.start()
        shown = node.json("attempts", "show", attempt)
        assert shown["executions"][0]["process"]["pid"] == pid
        gate.touch()
        assert node.json("attempts", "wait", attempt)["outcome"] == "succeeded"
        output, _ = follower.communicate(timeout=30)
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["text"] for line in lines] == ["one", "two", "three"]


def test_sigterm_leaves_what_runs(node: RunningNode, tmp_path: Path) -> None:
    """A stopped agent exits 0 and its program goes on, and ends while nobody listens."""
    gate = tmp_path / "gate"
    node.start()
    attempt = str(begin(node, WAITING.format(gate=gate))["id"])
    wait_until(lambda: len(node.lines("logs", attempt)) == 2, what="two lines")
    pid = node.json("attempts", "show", attempt)["executions"][0]["process"]["pid"]
    assert node.stop() == 0
    os.kill(pid, 0)
    gate.touch()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="the program's end")
    node.start()
    assert node.json("attempts", "wait", attempt)["outcome"] == "succeeded"
    assert [line["text"] for line in node.lines("logs", attempt)] == ["one", "two", "three"]


def test_stop_slots_and_keys(node: RunningNode, tmp_path: Path) -> None:
    """Full slots refuse, a key has one effect, and a stop ends a program that ignores it."""
    node.environment["SKEP_NODE_SLOTS"] = "1"
    node.start()
    stubborn = "sh -c 'trap : INT TERM; echo up; while :; do sleep 0.1; done'"
    first = begin(node, stubborn, "--idempotency-key", "key-1")
    assert begin(node, stubborn, "--idempotency-key", "key-1")["id"] == first["id"]
    wanted = ["--project", "project", "--title", "Other", "--command", "true"]
    assert node.refused("start", *wanted)["code"] == "node_full"
    reused = node.refused("start", *wanted, "--idempotency-key", "key-1")
    assert reused["code"] == "key_reused"
    attempt = str(first["id"])
    wait_until(lambda: node.lines("logs", attempt), what="the program is up")
    node.json("attempt", "stop", attempt, "--grace-s", "0.2", "--idempotency-key", "stop-1")
    ended = node.json("attempts", "wait", attempt)
    assert ended["outcome"] == "stopped"
    again = node.json("attempt", "stop", attempt, "--grace-s", "0.2", "--idempotency-key", "stop-1")
    assert again["id"] == attempt
    assert len(node.json("attempts")["items"]) == 1


def test_one_agent_per_folder(node: RunningNode) -> None:
    """A second agent on the same folder exits with a hint, and the first goes on."""
    node.start()
    error = node.refused("run")
    assert error["code"] == "conflict"
    assert str(node.process and node.process.pid) in error["message"]
    assert node.json("status")["running"]


def test_a_broken_store_stops_the_agent_with_a_hint(node: RunningNode) -> None:
    """A store that is no database ends the start with an error and a hint, not a traceback."""
    (node.data_dir / "state.db").write_bytes(b"nonsense" * 1000)
    for leftover in ("state.db-wal", "state.db-shm"):
        (node.data_dir / leftover).unlink(missing_ok=True)
    error = node.refused("run")
    assert "state.db" in error["message"]
    assert error["hint"]
    assert node.refused("attempts")["code"] == error["code"]


def test_a_newer_schema_is_not_touched(node: RunningNode) -> None:
    """A database of a newer release is refused before anything is written."""
    import contextlib
    import sqlite3

    with contextlib.closing(sqlite3.connect(node.data_dir / "state.db")) as connection:
        connection.execute("UPDATE schema_version SET version = 999")
        connection.commit()
    error = node.refused("run")
    assert "newer" in error["hint"] or "newer" in error["message"]


def test_secrets_stand_in_no_log(node: RunningNode) -> None:
    """A secret set on the node is hidden in every log from then on, and shown by no command."""
    assert node.command("secrets", "set", "TOKEN", stdin="hunter2-hunter2\n").returncode == 0
    node.start()
    attempt = str(begin(node, "echo the token is hunter2-hunter2 indeed")["id"])
    node.json("attempts", "wait", attempt)
    (line,) = node.lines("logs", attempt)
    assert "hunter2" not in line["text"]
    assert line["text"].startswith("the token is ")
    listed = node.command("secrets", "list", "--json")
    assert json.loads(listed.stdout)["items"] == [{"name": "TOKEN"}]
    assert "hunter2" not in node.command("attempts", "show", attempt, "--json").stdout
    for path in node.data_dir.glob("*.db*"):
        if path.name.startswith("logs"):
            assert b"hunter2" not in path.read_bytes()


def test_checkouts_with_the_agent_running_and_stopped(node: RunningNode, tmp_path: Path) -> None:
    """Checkouts are added, listed and removed the same way with and without a running agent."""
    other = make_repository(tmp_path / "other")
    added = node.json("checkout", "add", str(other), "--project", "Named")
    assert (added["name"], added["path"], added["default_branch"]) == ("Named", str(other), "main")
    node.start()
    assert [one["name"] for one in node.json("checkout", "list")["items"]] == ["Named", "project"]
    assert node.json("checkout", "add", str(other))["id"] == added["id"]
    removed = node.json("checkout", "remove", str(other))
    assert removed["id"] == added["id"]
    assert [one["name"] for one in node.json("checkout", "list")["items"]] == ["project"]
    assert node.refused("checkout", "add", str(tmp_path))["code"] == "not_a_repository"
    assert node.refused("checkout", "remove", "nothing")["code"] == "no_checkout"
    wanted = ["--title", "T", "--command", "true"]
    assert node.refused("start", "--project", "Named", *wanted)["code"] == "no_checkout"


def test_a_very_long_data_path(tmp_path: Path) -> None:
    """A data folder whose path no socket can have works all the same."""
    node = RunningNode(tmp_path / ("deep" * 30))
    node.environment["SKEP_NODE_RUNTIME_DIR"] = str(tmp_path / "run")
    node.data_dir.mkdir()
    node.start()
    try:
        assert node.json("status")["running"]
    finally:
        node.stop()


@pytest.mark.parametrize(
    "point",
    ["node.operation.after_intent", "node.operation.before_result", "node.operation.after_result"],
)
def test_a_stop_cut_short_is_settled(node: RunningNode, tmp_path: Path, point: str) -> None:
    """Killed between INTENT and RESULT of a stop, the next start settles it, once."""
    gate = tmp_path / "gate"
    node.start()
    attempt = str(begin(node, WAITING.format(gate=gate))["id"])
    wait_until(lambda: len(node.lines("logs", attempt)) == 2, what="two lines")
    node.stop()
    node.environment["SKEP_FAILPOINT"] = f"{point}:kill9"
    node.start()
    stop = ["attempt", "stop", attempt, "--grace-s", "0.2", "--idempotency-key", "stop-1"]
    error = node.refused(*stop)
    assert error["code"] == "unknown"
    assert error["details"]["key"] == "stop-1"
    assert node.process is not None
    assert node.process.wait(10) == -signal.SIGKILL
    del node.environment["SKEP_FAILPOINT"]
    node.start()
    assert node.json("attempts", "wait", attempt)["outcome"] == "stopped"
    assert node.json(*stop)["id"] == attempt
    assert not gate.exists()


def test_a_start_cut_short_is_one_attempt(node: RunningNode) -> None:
    """Killed right after a start's commit, the attempt runs after the restart, and only once."""
    node.environment["SKEP_FAILPOINT"] = "node.start.committed:kill9"
    node.start()
    wanted = ["--project", "project", "--title", "T", "--command", "echo once"]
    start = ["start", *wanted, "--idempotency-key", "start-1"]
    assert node.refused(*start)["code"] == "unknown"
    assert node.process is not None
    assert node.process.wait(10) == -signal.SIGKILL
    del node.environment["SKEP_FAILPOINT"]
    node.start()
    attempt = str(node.json(*start)["id"])
    assert node.json("attempts", "wait", attempt)["outcome"] == "succeeded"
    assert [one["id"] for one in node.json("attempts")["items"]] == [attempt]
    assert [line["text"] for line in node.lines("logs", attempt)] == ["once"]


# What a program of an attempt may do with its own tools, and what it may not do with any command.
HELPING_ITSELF = """
import os, subprocess, sys
from pathlib import Path
from node_agent.config import NodeConfig
from node_agent.local_client import LocalClient

tool = f"attempts/{os.environ['SKEP_ATTEMPT_ID']}/agent-tools/report_progress"
client = LocalClient(NodeConfig(data_dir=Path(sys.argv[1])))
print(client.send("POST", tool, {"key": "call-1", "arguments": {"text": "Half of it"}}))
bare = {name: value for name, value in os.environ.items() if not name.startswith("SKEP_")}
start = ["start", "--project", "project", "--title", "More", "--command", "true", "--json"]
done = subprocess.run(
    [sys.executable, "-m", "node_agent.cli", *start, "--data", sys.argv[1]],
    env=bare, stderr=subprocess.STDOUT, start_new_session=True,
)
sys.exit(done.returncode)
"""


def test_an_attempt_cannot_help_itself(node: RunningNode, tmp_path: Path) -> None:
    """A program of an attempt that drops what marks it is still refused what is a person's."""
    (tmp_path / "program.py").write_text(HELPING_ITSELF)
    node.start()
    command = shlex.join([sys.executable, "-u", f"{tmp_path}/program.py", str(node.data_dir)])
    attempt = str(begin(node, command)["id"])
    assert node.json("attempts", "wait", attempt)["outcome"] == "failed"
    told, refused = (line["text"] for line in node.lines("logs", attempt))
    assert told == "{'told': False}"
    assert json.loads(refused)["error"]["code"] == "forbidden"
    assert len(node.json("attempts")["items"]) == 1
