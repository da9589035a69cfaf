"""An attempt's life after its end, from the hive: turns, interrupts, scripts, reviews, cleanups."""

import json
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import SkepError
from tests.end_to_end.installation import Installation, git
from tests.end_to_end.waiting import until


def refused(installation: Installation, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """The error of a request to the hive that must be refused."""
    with pytest.raises(SkepError) as caught:
        installation.hive.client.request(method, path, body=body)
    return {"code": str(caught.value.code), **caught.value.details}


def test_a_cleaned_up_attempt_goes_on(installation: Installation, repository: Path) -> None:
    """Refused with the list, cleaned up with `save`, followed up: the files are there again."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    task = installation.task("project")
    attempt = hive.json(
        *("tasks", "run", task, "--node", node.node_name),
        *("--command", "sh -c 'echo one; echo work > left.txt; echo y > README.md'"),
    )["id"]
    worktree = Path(hive.wait_ended(attempt)["worktree"])
    error = hive.refused("attempt", "cleanup", attempt)
    assert (error["code"], error["details"]["unsaved"]) == (
        "unsaved_work",
        ["README.md", "left.txt"],
    )
    cleaned = hive.json("attempt", "cleanup", attempt, "--save")
    assert (cleaned["worktree"], worktree.exists()) == (None, False)
    assert hive.client.get(f"tasks/{task}")["status"] == "in_review"
    turn = hive.json("attempt", "follow-up", attempt, "--command", "sh -c 'sleep 1; cat left.txt'")
    assert (turn["status"], turn["no"], turn["position"]) == ("running", 2, None)
    assert hive.client.get(f"tasks/{task}")["status"] == "in_progress"
    # The end that is waited for is that of the follow-up, not the one before.
    ended = hive.json("attempts", "wait", attempt, "--timeout", "60")
    assert (ended["outcome"], len(ended["executions"])) == ("succeeded", 2)
    assert ended["ended_at_ms"] > cleaned["ended_at_ms"]
    shown = hive.wait_ended(attempt)
    assert (shown["worktree"], shown["saved_ref"]) == (str(worktree), None)
    assert (worktree / "README.md").read_text() == "y\n"
    assert hive.client.get(f"tasks/{task}")["status"] == "in_review"
    for command in (hive, node):
        words = ["attempts", "logs", attempt] if command is hive else ["logs", attempt]
        assert [line["text"] for line in command.lines(*words)] == ["one", "work"]
        # A number counts in the first of the executions that are shown, and in no other.
        for more in (["--after", "1"], ["--after", "9", "--execution", "agent"]):
            assert [line["text"] for line in command.lines(*words, *more)] == ["work"]
    assert len(hive.json("attempts", "show", attempt)["executions"]) == 2


def test_a_node_dies_before_a_queued_turn(
    installation: Installation, repository: Path, tmp_path: Path
) -> None:
    """What was queued runs once the node is back; whoever follows the log sees it go on."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    gate, ran = tmp_path / "gate", tmp_path / "ran"
    command = f"sh -c 'echo waiting; while [ ! -e {gate} ]; do sleep 0.1; done'"
    attempt = installation.run("project", command, node)
    until(lambda: hive.entries(attempt), "it runs")
    follower = hive.popen("attempts", "logs", attempt, "-f", "--json", stdout=-1)
    key = ("--idempotency-key", "the-turn")
    wanted = ("attempt", "follow-up", attempt, "--command", f"sh -c 'echo x >> {ran}; echo on'")
    turn = hive.json(*wanted, *key)
    assert (turn["status"], turn["no"], turn["position"]) == ("queued", None, 1)
    node.kill()
    node.process = None
    gate.touch()
    node.start()
    hive.wait_node(node.node_name)
    shown = hive.wait_ended(attempt)
    assert (shown["outcome"], len(shown["executions"])) == ("succeeded", 2)
    assert hive.json(*wanted, *key) == turn
    assert ran.read_text() == "x\n"
    out, _ = follower.communicate(timeout=60)
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["waiting", "on"]


def test_the_queue_from_both_ends(installation: Installation, repository: Path) -> None:
    """Queued turns are listed, put into another order, edited and dropped, by hive and node."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    task = installation.task("project")
    attempt = hive.json("tasks", "run", task, "--command", "sleep 600")["id"]
    path = f"attempts/{attempt}"
    first, second, third = (
        hive.json("attempt", "follow-up", attempt, "--command", f"sh -c 'echo {n} >> order'")["id"]
        for n in (1, 2, 3)
    )
    listed = hive.json("attempt", "turns", attempt)
    assert [turn["id"] for turn in listed["items"]] == [first, second, third]
    assert (listed["running"]["no"], listed["running"]["command"]) == (1, "sleep 600")
    assert node.json("attempt", "turns", attempt)["items"] == listed["items"]
    assert hive.call("attempt", "turns", attempt).returncode == 0
    # What was read may be sent back as it is.
    turned = hive.client.request("PUT", f"{path}/turns", body={"items": listed["items"][::-1]})
    assert [turn["id"] for turn in turned["items"]] == [third, second, first]
    items = [{"id": first}, {"id": third, "command": "sh -c 'echo edited >> order'"}]
    error = refused(installation, "PUT", f"{path}/turns", {"items": items})
    assert (error["code"], error["queued"]) == ("conflict", [third, second, first])
    assert len(node.json("attempt", "drop-turns", attempt, "--turn", second[-8:])["items"]) == 2
    hive.json("attempt", "set-turns", attempt, "--items", json.dumps(items))
    assert refused(installation, "DELETE", f"{path}/turns")["code"] == "invalid"
    assert refused(installation, "DELETE", f"{path}/turns?turn={second}")["code"] == "no_turn"
    # By task, what changes names the attempt that was seen.
    for method, name in (("POST", "follow-up"), ("DELETE", "turns?all=true"), ("POST", "cleanup")):
        error = refused(installation, method, f"tasks/{task}/attempt/{name}")
        assert (error["code"], error["attempt_id"]) == ("attempt_required", attempt)
    by_task = hive.client.get(f"tasks/{task}/attempt/turns")
    assert (by_task["attempt_id"], len(by_task["items"])) == (attempt, 2)
    assert hive.json("attempt", "interrupt", attempt)["no"] == 1
    ended = hive.wait_ended(attempt)
    assert (Path(ended["worktree"]) / "order").read_text() == "1\nedited\n"
    assert refused(installation, "POST", f"{path}/interrupt")["code"] == "no_turn"
    for body, code in (
        ({}, "invalid"),
        ({"prompt": "p", "images": ["a.png"]}, "not_available"),
        ({"prompt": "p", "from_turn": 1}, "not_available"),
        ({"command": "'"}, "invalid"),
    ):
        assert refused(installation, "POST", f"{path}/follow-up", body)["code"] == code


def test_scripts_and_reviews(installation: Installation, repository: Path) -> None:
    """A project's scripts and a review run in the worktree, and have logs of their own."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    scripts = {"setup_script": "echo set up > made", "dev_script": "echo up; exec sleep 600"}
    hive.client.request("PATCH", "projects/project", body=scripts)
    attempt = installation.run("project", "sh -c 'git add -A; git commit -qm mine'", node)
    ended = hive.wait_ended(attempt)
    dev = hive.json("attempt", "run-script", attempt, "dev")
    assert (dev["kind"], dev["script"], dev["status"]) == ("script", "dev", "running")
    setup = node.json("attempt", "run-script", attempt, "setup")
    assert hive.refused("attempt", "run-script", attempt, "cleanup")["code"] == "no_script"
    assert hive.refused("attempt", "run-script", attempt, "other")["code"] == "invalid"
    assert hive.refused("attempt", "review", attempt)["code"] == "executor_unavailable"
    assert hive.refused("attempt", "cleanup", attempt)["code"] == "running"

    def status_of(execution: dict[str, Any]) -> str:
        found = hive.attempt(attempt)["executions"]
        return next((one["status"] for one in found if one["id"] == execution["id"]), "unknown")

    until(lambda: status_of(setup), "setup ended", holds=lambda status: status == "succeeded")
    program = "sh -c 'cat; echo $SKEP_REVIEW_WHAT $SKEP_REVIEW_BASE_BRANCH $SKEP_REVIEW_BASE'"
    review = hive.json(
        *("attempt", "review", attempt, "--what", "base", "--instructions", "be kind"),
        *("--command", program),
    )
    until(lambda: status_of(review), "it was reviewed", holds=lambda status: status == "succeeded")
    base = git(repository, "rev-parse", "main").strip()
    # Its input has no newline at its end.
    expected = ["be kindbase main " + base]
    until(
        lambda: [line["text"] for line in hive.lines(*_log_of(attempt, review))],
        "the review's log is here",
        holds=lambda lines: lines == expected,
    )
    hive.json("attempt", "stop", attempt, "--grace-s", "1")
    until(lambda: status_of(dev), "dev was stopped", holds=lambda status: status == "killed")
    assert hive.wait_ended(attempt)["outcome"] == ended["outcome"] == "succeeded"


def _log_of(attempt: str, execution: dict[str, Any]) -> list[str]:
    return ["attempts", "logs", attempt, "--execution", execution["id"]]


def test_holds_and_who_may_what(installation: Installation, repository: Path) -> None:
    """A hold keeps the worktree from a cleanup; each command needs its role."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    attempt = installation.run("project", "false", node)
    hive.wait_ended(attempt)
    tokens = {
        role: hive.json("tokens", "create", "--name", role, "--role", role)["token"]
        for role in ("viewer", "operator", "maintainer")
    }
    admin = hive.environment["SKEP_TOKEN"]
    hive.sign_in(tokens["viewer"])
    assert hive.json("attempt", "turns", attempt)["items"] == []
    for words in (
        ("follow-up", attempt, "--prompt", "p"),
        ("interrupt", attempt),
        ("hold", attempt),
        ("release", attempt),
        ("run-script", attempt, "dev"),
        ("review", attempt),
        ("drop-turns", attempt, "--all"),
        ("set-turns", attempt, "--items", "[]"),
    ):
        assert hive.refused("attempt", *words)["code"] == "forbidden", words
    hive.sign_in(tokens["operator"])
    held = hive.json("attempt", "hold", attempt)
    assert held["hold_until_ms"] > held["ended_at_ms"] + 10**12
    assert hive.refused("attempt", "cleanup", attempt)["code"] == "forbidden"
    hive.sign_in(tokens["maintainer"])
    assert hive.refused("attempt", "cleanup", attempt)["code"] == "held"
    released = hive.json("attempt", "release", attempt)
    assert released["hold_until_ms"] < held["hold_until_ms"]
    assert hive.json("attempt", "cleanup", attempt)["worktree"] is None
    assert hive.refused("attempt", "hold", attempt)["code"] == "worktree_gone"
    hive.sign_in(admin)
