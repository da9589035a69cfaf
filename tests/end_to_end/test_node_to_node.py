"""From one node to an attempt of another: as the person who signed in there, and not without."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.hive_program import free_port
from tests.end_to_end.installation import Installation
from tests.end_to_end.node_program import NodeProgram
from tests.end_to_end.waiting import until

WAITING = "sh -c 'echo begun; until [ -e done ]; do sleep 0.1; done; echo ended'"


def token_of(installation: Installation, role: str) -> str:
    """A token of a person with a role."""
    made: dict[str, Any] = installation.hive.client.post("tokens", {"name": role, "role": role})
    token: str = made["token"]
    return token


def running(installation: Installation, node: NodeProgram) -> str:
    """An attempt on a node that runs until the test lets go of it."""
    attempt = installation.run("project", WAITING, node)
    until(
        lambda: installation.hive.attempt_or_none(attempt) or {},
        "the attempt runs",
        holds=lambda one: one.get("phase") == "running" and one["worktree"],
    )
    return attempt


@pytest.mark.parametrize("way", ["direct", "relay"])
def test_another_nodes_attempt(installation: Installation, repository: Path, way: str) -> None:
    """List, show, log, diff and stop an attempt of another node from here."""
    owner = installation.new_node("owner")
    if way == "direct":
        owner.environment["SKEP_NODE_DIRECT_LISTEN"] = f"127.0.0.1:{free_port()}"
    owner.json("join", installation.hive.url, installation.join_token(), "--name", "owner")
    owner.json("checkout", "add", str(repository))
    owner.start()
    installation.hive.wait_node("owner")
    installation.wait_project("project", "owner")
    here = installation.add_node("here")
    attempt = running(installation, owner)
    # A node has no right of its own to what is on others.
    assert here.refused("attempts", "show", attempt)["code"] == "not_found"
    assert here.refused("attempts", "--all")["code"] == "unauthenticated"
    assert here.refused("login", stdin="nonsense\n")["code"] == "unauthenticated"

    signed_in = here.json("login", stdin=token_of(installation, "operator") + "\n")
    assert (signed_in["name"], signed_in["role"]) == ("operator", "operator")
    listed = here.json("attempts", "--all")["items"]
    assert [(one["id"], one["node_name"]) for one in listed] == [(attempt, "owner")]
    assert here.json("attempts")["items"] == []
    assert here.json("attempts", "show", attempt)["id"] == attempt
    worktree = Path(installation.hive.attempt(attempt)["worktree"])
    (worktree / "new.txt").write_text("new\n")
    shown = here.call("attempt", "diff", attempt)
    assert f"[{way}]" in shown.stderr
    assert "new.txt" in shown.stdout
    diff = here.json("attempt", "diff", attempt)
    assert diff == owner.json("attempt", "diff", attempt)
    cat = here.call("attempt", "cat", attempt, "new.txt")
    assert cat.stdout == "new\n"
    (worktree / "done").touch()
    followed = here.call("logs", attempt, "-f", "--json")
    assert followed.returncode == 0, followed.stderr
    lines = [json.loads(line) for line in followed.stdout.splitlines()]
    assert [one["text"] for one in lines] == ["begun", "ended"]

    stopped = running(installation, owner)
    here.json("attempt", "stop", stopped, "--idempotency-key", "stop-it")
    assert installation.hive.wait_ended(stopped)["outcome"] == "stopped"
    operation = installation.hive.client.get("operations/stop-it")
    assert (operation["status"], operation["actor"]) == ("done", "operator")

    here.json("login", stdin=token_of(installation, "viewer") + "\n")
    assert here.refused("attempt", "stop", stopped)["code"] == "forbidden"
    assert here.json("logout") == {"signed_out": True}
    assert here.refused("attempts", "show", attempt)["code"] == "not_found"
    assert (here.data_dir / "hive-login.json").exists() is False
