"""How attempts end: killed from outside, with no hive there, and before their node had joined."""

import os
import signal
from pathlib import Path

from tests.end_to_end.installation import Installation, git
from tests.end_to_end.printing import STDOUT, PrintingAttempt
from tests.end_to_end.waiting import until


def test_a_killed_process_group(
    installation: Installation, repository: Path, tmp_path: Path
) -> None:
    """Kill -9 of what an attempt runs: execution killed, attempt failed and why, log up to then."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    attempt = PrintingAttempt(tmp_path / "printed")
    attempt.begin(installation, node)
    pid = attempt.wait_started()
    attempt.wait_rising(hive, 100)
    os.killpg(os.getpgid(pid), signal.SIGKILL)
    shown = hive.wait_ended(attempt.id)
    (execution,) = shown["executions"]
    assert (execution["status"], execution["signal"]) == ("killed", 9)
    assert execution["exit_code"] is None
    assert shown["outcome"] == "failed"
    assert "9" in shown["reason"]
    held = hive.stream(execution["id"], STDOUT)
    # The copy is written first: a kill between the two leaves it ahead by what was in flight.
    assert attempt.printed.startswith(held)
    assert len(held) >= len(attempt.printed) - 2 * 2000 * 100
    assert held
    assert node.status()["slots"]["busy"] == 0


def test_from_start_to_end_with_the_hive_down(
    installation: Installation, repository: Path, tmp_path: Path
) -> None:
    """A node works with its hive away; when that is back, all of the attempt arrives."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    hive.kill()
    attempt = PrintingAttempt(tmp_path / "printed", exit_code=0)
    attempt.begin_locally(node, lines_max=30_000)
    until(
        lambda: node.attempt(attempt.id),
        "the attempt has ended on its node",
        holds=lambda one: one["phase"] == "ended",
    )
    assert node.attempt(attempt.id)["outcome"] == "succeeded"
    unsent = node.json("outbox")
    assert unsent["ops"] > 0
    assert unsent["chunks"] > 0
    assert unsent["reason"]
    hive.start()
    node.hurry()
    shown = attempt.check_whole(hive)
    assert shown["node_name"] == "node1"
    task = hive.client.get(f"tasks/{shown['task_id']}")
    assert task["title"] == "Print"
    node.wait_sent()


def test_a_node_that_joins_after_the_attempt(
    installation: Installation, repository: Path, tmp_path: Path
) -> None:
    """What a node did before it ever joined is at the hive once it has."""
    hive, node = installation.hive, installation.new_node("late")
    node.json("checkout", "add", str(repository))
    node.start()
    attempt = PrintingAttempt(tmp_path / "printed")
    attempt.begin_locally(node, lines_max=10_000)
    until(
        lambda: node.attempt(attempt.id),
        "the attempt has ended on its node",
        holds=lambda one: one["phase"] == "ended",
    )
    assert node.status()["hive"] is None
    assert hive.attempt_or_none(attempt.id) is None
    node.json("join", hive.url, installation.join_token(), "--name", "late")
    shown = attempt.check_whole(hive)
    assert shown["node_name"] == "late"
    project = installation.wait_project("project", "late")
    assert shown["project_id"] == project["id"]


def test_an_agent_that_is_stopped_in_order(
    installation: Installation, repository: Path, tmp_path: Path
) -> None:
    """SIGTERM ends agent and hive with 0; what runs goes on and its end is told afterwards."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    attempt = PrintingAttempt(tmp_path / "printed")
    attempt.begin(installation, node)
    pid = attempt.wait_started()
    attempt.wait_rising(hive, 100)
    assert node.stop() == 0
    hive.wait_node("node1", "offline")
    shown = hive.attempt(attempt.id)
    assert (shown["phase"], shown["outcome"], shown["reachable"]) == ("running", None, False)
    assert hive.stop() == 0
    os.kill(pid, 0)
    attempt.end()
    until(lambda: not Path(f"/proc/{pid}").exists(), "the program has ended by itself")
    hive.start()
    node.start()
    attempt.check_whole(hive)


#: Commits one file and leaves another uncommitted.
HALF_COMMITTED = (
    "sh -c 'echo 1 > kept.txt; git add kept.txt; git commit -qm kept; echo 2 > left.txt'"
)


def test_worktrees_of_done_tasks_go(installation: Installation, repository: Path) -> None:
    """Kept until the task is done, held beyond that, and never removed with work that is lost."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    first, held = (installation.run("project", HALF_COMMITTED, node) for _ in range(2))
    shown = {one: hive.wait_ended(one) for one in (first, held)}
    folders = {one: Path(shown[one]["worktree"]) for one in shown}
    hive.json("attempt", "hold", held)
    # A task that is done while its node is away is over when that is back.
    node.stop()
    hive.wait_node("node1", "offline")
    for one in shown:
        hive.client.request("PATCH", f"tasks/{shown[one]['task_id']}", body={"status": "done"})
    node.start()
    gone = until(
        lambda: hive.attempt(first),
        "the worktree of the done task is gone",
        holds=lambda one: one["worktree"] is None,
    )
    assert not folders[first].exists()
    assert git(repository, "show", f"{gone['saved_ref']}:left.txt").strip() == "2"
    assert git(repository, "rev-parse", gone["branch"]).strip() == gone["head_commit"]
    diff = hive.json("attempt", "diff", first)
    assert {file["path"] for file in diff["files"]} == {"kept.txt", "left.txt"}
    assert diff["source"] == "saved"
    # What somebody holds stays until it is released.
    assert folders[held].is_dir()
    hive.json("attempt", "release", held)
    until(lambda: not folders[held].exists(), "the released worktree is gone")
    # A follow-up finds all that was in it.
    hive.json("attempt", "follow-up", first, "--command", "sh -c 'cat kept.txt left.txt'")
    again = hive.wait_ended(first)
    assert (again["outcome"], Path(again["worktree"])) == ("succeeded", folders[first])
    assert (folders[first] / "left.txt").read_text() == "2\n"


def test_a_project_that_keeps_no_worktrees(installation: Installation, repository: Path) -> None:
    """With `after_end` the worktree goes when the attempt has ended, in review or not."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    rule = hive.json("projects", "edit", "project", "--keep-worktree", "after_end")
    assert rule["keep_worktree"] == "after_end"
    attempt = installation.run("project", HALF_COMMITTED, node)
    hive.wait_ended(attempt)
    gone = until(
        lambda: hive.attempt(attempt),
        "the worktree is gone",
        holds=lambda one: one["worktree"] is None,
    )
    assert hive.client.get(f"tasks/{gone['task_id']}")["status"] == "in_review"
    assert git(repository, "show", f"{gone['saved_ref']}:left.txt").strip() == "2"
    refused = hive.refused("projects", "edit", "project", "--keep-worktree", "for ever")
    assert refused["details"]["field"] == "keep_worktree"
