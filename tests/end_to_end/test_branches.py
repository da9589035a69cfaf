"""Operations on branches by the commands a person types, through the hive and at the node."""

import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from protocol.errors import SkepError
from tests.end_to_end.installation import Installation, git, make_repository
from tests.end_to_end.waiting import until

_SCRIPT = "echo one > one.txt; git add one.txt; git commit -q -m one"


@pytest.fixture
def installation(tmp_path: Path) -> Any:
    """A hive and a node with a checkout that has a bare remote."""
    repository = make_repository(tmp_path / "project")
    (tmp_path / "remote").mkdir()
    git(tmp_path / "remote", "clone", "-q", "--bare", str(repository))
    git(repository, "remote", "add", "origin", f"file://{tmp_path}/remote/project.git")
    made = Installation(tmp_path)
    try:
        made.found()
        made.add_node(repository=repository)
        yield made
    finally:
        made.close()


def failed(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The error of a command that was to fail."""
    assert done.returncode == 1, done.stdout
    error: dict[str, Any] = msgspec.json.decode(done.stderr)["error"]
    return error


def test_from_the_hive_and_at_the_node(installation: Installation, tmp_path: Path) -> None:
    """Commits, compare, push, rebase, merge and their errors, checked by plain git."""
    hive, node = installation.hive, installation.nodes[0]
    repository, remote = tmp_path / "project", tmp_path / "remote" / "project.git"
    attempt = installation.run("project", f"sh -c '{_SCRIPT}'", node, "Say one")
    branch = hive.wait_ended(attempt)["branch"]
    head = git(repository, "rev-parse", branch).strip()

    commits = hive.json("attempt", "commits", attempt)
    assert [one["subject"] for one in commits["commits"]] == ["one"]
    compared = hive.json("attempt", "compare", attempt, "--from", "main", "--to", branch)
    assert [one["path"] for one in compared["files"]] == ["one.txt"]
    assert compared["commits"][0]["id"] == head
    assert node.json("attempt", "commits", attempt)["head"] == head

    pushed = hive.json("attempt", "push", attempt)
    assert git(remote, "rev-parse", branch).strip() == head == pushed["after"]

    (repository / "two.txt").write_text("two\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "two")
    rebased = node.json("attempt", "rebase", attempt)
    assert git(repository, "merge-base", "main", branch) == git(repository, "rev-parse", "main")
    assert git(repository, "rev-parse", branch).strip() == rebased["head"]

    needed = failed(hive.call("attempt", "push", attempt, "--json"))
    assert (needed["code"], needed["details"]["remote_head"]) == ("force_push_required", head)
    hive.json("attempt", "push", attempt, "--force", "--expected-remote-head", head)
    assert git(remote, "rev-parse", branch).strip() == rebased["head"]

    moved = failed(hive.call("attempt", "merge", attempt, "--expected-head", head, "--json"))
    assert (moved["code"], moved["details"]["head"]) == ("expected_head_moved", rebased["head"])
    (repository / "README.md").write_text("being edited\n")
    dirty = failed(hive.call("attempt", "merge", attempt, "--json"))
    assert (dirty["code"], dirty["details"]["files"]) == ("checkout_dirty", ["README.md"])
    git(repository, "checkout", "-q", "README.md")
    merged = hive.json("attempt", "merge", attempt, "--idempotency-key", "once")
    again = hive.json("attempt", "merge", attempt, "--idempotency-key", "once")
    assert merged == again
    assert git(repository, "log", "--format=%s", "main").split("\n")[:2] == ["Say one", "two"]
    assert (repository / "one.txt").read_text() == "one\n"
    until(
        lambda: hive.json("operations", "show", "once")["head_before"],
        "the node has told which head it merged",
        holds=lambda told: told == rebased["head"],
    )


def test_what_people_see(installation: Installation, tmp_path: Path) -> None:
    """Each command's words for people, from both command lines, name what happened."""
    hive, node = installation.hive, installation.nodes[0]
    attempt = installation.run("project", f"sh -c '{_SCRIPT}; echo x > left.txt'", node, "Say one")
    hive.wait_ended(attempt)
    said = [
        hive.call("attempt", *words, attempt, *more).stdout
        for words, more in (
            (["commits"], []),
            (["compare"], []),
            (["stash"], []),
            (["stash-pop"], []),
            (["push"], []),
            (["merge"], []),
            (["branch-status"], []),
            (["rename-branch"], ["--branch", "said"]),
            (["target-branch"], ["--branch", "main"]),
            (["rebase"], []),
        )
    ]
    wanted = ["one", "one.txt", "stash", "stash", "origin", "squash", "merged", "said", "said"]
    assert all(word in text for word, text in zip(wanted, said, strict=False)), said
    for words in ("commits", "branch-status", "push", "rebase"):
        done = node.call("attempt", words, attempt)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


def test_by_task_and_by_role(installation: Installation, tmp_path: Path) -> None:
    """By task a change names its attempt; an operator may stash, and may not merge."""
    hive, node = installation.hive, installation.nodes[0]
    attempt = installation.run("project", f"sh -c '{_SCRIPT}'", node)
    task = hive.wait_ended(attempt)["task_id"]
    by_task = f"tasks/{task}/attempt"
    assert hive.client.get(f"{by_task}/commits")["attempt_id"] == attempt
    with pytest.raises(SkepError) as caught:
        hive.client.post(f"{by_task}/merge", {}, key="k1")
    assert caught.value.code.value == "attempt_required"
    before = git(tmp_path / "project", "rev-parse", "main")
    operator = hive.json("tokens", "create", "--name", "op", "--role", "operator")["token"]
    admin = hive.environment["SKEP_TOKEN"]
    hive.sign_in(operator)
    assert failed(hive.call("attempt", "merge", attempt, "--json"))["code"] == "forbidden"
    assert failed(hive.call("attempt", "stash", attempt, "--json"))["code"] == "nothing_to_stash"
    hive.sign_in(admin)
    assert git(tmp_path / "project", "rev-parse", "main") == before
    hive.client.post(f"{by_task}/merge?attempt={attempt}", {}, key="k2")
    assert git(tmp_path / "project", "rev-parse", "main") != before
