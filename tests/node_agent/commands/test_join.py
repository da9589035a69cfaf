"""`join`, `leave` and `run` as commands, against a hive's enrolment over HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node_agent.running_node import RunningNode, wait_until
from tests.node_agent.test_join import FakeHive, fake_hive


@pytest.fixture
def hive() -> Iterator[FakeHive]:
    """A hive that takes every enrolment."""
    with fake_hive() as serving:
        yield serving


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    """A node that nothing was done with yet."""
    made = RunningNode(tmp_path / "node")
    yield made
    made.close()


def test_join_and_leave(node: RunningNode, hive: FakeHive) -> None:
    """A join answers who the node is and where; status and leave follow it; the id stays."""
    joined = node.json("join", hive.url, "token-1", "--name", "bee", "--slots", "3")
    assert joined == {"node_id": joined["node_id"], "name": "bee", "hive_id": "hive-1"}
    status = node.json("status")
    assert (status["node_id"], status["name"]) == (joined["node_id"], "bee")
    assert status["hive"]["url"] == hive.url
    assert not status["hive"]["connected"]
    assert status["slots"]["total"] == 3
    assert node.json("leave")["node_id"] == joined["node_id"]
    assert node.json("status")["hive"] is None
    assert node.refused("leave")["code"] == "not_found"
    assert node.json("join", hive.url, "token-2")["name"] == "bee"


def test_the_token_may_come_on_standard_input(node: RunningNode, hive: FakeHive) -> None:
    """A token given as `-` is read from standard input, where no process list shows it."""
    done = node.command("join", hive.url, "-", "--json", stdin="token-9\n")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["hive_id"] == "hive-1"
    assert hive.asked[0]["join_token"] == "token-9"


def test_a_running_agent_takes_a_join_up(node: RunningNode, hive: FakeHive) -> None:
    """A join while the agent runs has it dial at once, and a leave has it stop."""
    node.start()
    assert node.json("status")["hive"] is None
    node.json("join", hive.url, "token-1")
    assert node.json("status")["hive"]["url"] == hive.url
    # This hive has no link; the agent says so and goes on.
    wait_until(lambda: node.json("status")["hive"]["problem"], what="the link's problem")
    assert node.json("outbox")["reason"]
    node.json("leave")
    assert node.json("status")["hive"] is None


def test_refusals_reach_the_operator(node: RunningNode, hive: FakeHive) -> None:
    """A wrong address and a used token come with a hint, and nothing is joined."""
    refused = node.refused("join", "http://hive.example", "token-1")
    assert "--plain-http" in refused["hint"]
    said = {"code": "conflict", "message": "the join token was used", "hint": "Make another."}
    hive.replies = [(409, {"error": said})]
    refused = node.refused("join", hive.url, "token-1")
    assert (refused["code"], refused["hint"]) == ("conflict", "Make another.")
    assert node.json("status")["hive"] is None


def test_for_people(node: RunningNode, hive: FakeHive) -> None:
    """Without --json the commands speak in sentences and name the next step."""
    joined = node.command("join", hive.url, "token-1", "--name", "bee")
    assert "Joined" in joined.stdout
    assert f"node-agent run --data {node.data_dir}" in joined.stdout
    status = node.command("status").stdout
    assert "bee" in status
    assert "not connected" in status
    assert "Left the hive" in node.command("leave").stdout


def test_an_attempts_program_changes_nothing_of_the_node(node: RunningNode, hive: FakeHive) -> None:
    """What a command would write itself is a person's to ask, as what the agent does."""
    node_id = node.json("join", hive.url, "token-1")["node_id"]
    node.environment |= {"SKEP_NODE_ID": node_id, "SKEP_ATTEMPT_ID": "attempt-1"}
    for command in (
        ["join", hive.url, "token-2"],
        ["leave"],
        ["login"],
        ["logout"],
        ["secrets", "set", "door"],
        ["secrets", "rm", "door"],
    ):
        assert node.refused(*command)["code"] == "forbidden"
    node.environment.clear()
    assert node.json("status")["hive"]["url"] == hive.url
