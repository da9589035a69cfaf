"""Pull requests from anywhere: by the relay, to a forge over HTTP, from a node agent's process."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.installation import Installation, git
from tests.end_to_end.node_program import NodeProgram
from tests.end_to_end.programs import Command
from tests.end_to_end.waiting import until
from tests.node_agent.forge.fake_forge import (
    TOKEN,
    FakeForge,
    answers,
    connect,
    make_bare,
    serving,
)
from tests.node_agent.forge.fake_gh import install, logged_in

WORK = "sh -c 'echo done > work.txt; git add work.txt; git commit -qm work'"


@pytest.fixture
def forge(tmp_path: Path, repository: Path) -> Iterator[FakeForge]:
    """A forge that has the user's repository."""
    with serving(FakeForge(make_bare(tmp_path / "bare.git"))) as forge:
        connect(forge, repository)
        yield forge


def node_of(
    installation: Installation, forge: FakeForge, repository: Path, **environment: str
) -> NodeProgram:
    """A node that knows the forge and has a checkout of the repository."""
    node = installation.new_node()
    node.environment.update({**forge.settings, **environment})
    node.json("join", installation.hive.url, installation.join_token(), "--name", "node1")
    node.json("checkout", "add", str(repository))
    node.start()
    installation.hive.wait_node("node1")
    installation.wait_project("widgets", "node1")
    return node


def worked(installation: Installation, node: NodeProgram) -> str:
    """Run an attempt that commits something; return its id."""
    attempt = installation.run("widgets", WORK, node)
    assert installation.hive.wait_ended(attempt)["outcome"] == "succeeded"
    return attempt


def everything_kept(folder: Path) -> bytes:
    """All bytes of the databases and logs below a folder."""
    files = [*folder.rglob("*.db"), *folder.rglob("*.db-wal"), *folder.rglob("*.log")]
    assert files
    return b"".join(file.read_bytes() for file in files)


def test_by_the_relay(installation: Installation, forge: FakeForge, repository: Path) -> None:
    """One command pushes and opens it; the same key again changes nothing; all can see it."""
    hive, node = installation.hive, node_of(installation, forge, repository)
    node.json("secrets", "set", "github_token", stdin=f"{TOKEN}\n")
    attempt = worked(installation, node)
    asked = ("attempt", "pr", attempt, "--title", "Pull [it]", "--body", "All.", "--draft")
    made = hive.json(*asked, "--idempotency-key", "pull-it")
    assert (made["number"], made["state"], made["target_branch"]) == (1, "draft", "main")
    branch = hive.attempt(attempt)["branch"]
    assert forge.branch(branch) == made["head"] == git(repository, "rev-parse", branch).strip()
    assert hive.json(*asked, "--idempotency-key", "pull-it") == made
    assert hive.refused(*asked)["code"] == "exists"
    assert [one.body["title"] for one in forge.posts] == ["Pull [it]"]
    pr = {"url": made["url"], "number": 1, "state": "draft"}
    until(lambda: hive.attempt(attempt)["pr"], "the hive was told", holds=lambda it: it == pr)
    assert hive.json("attempt", "branch-status", attempt)["pr"] == pr
    assert node.json("attempt", "branch-status", attempt)["pr"] == pr
    assert node.json("attempts", "show", attempt)["pr"] == pr
    for command in (hive, node):
        _look(command, attempt, made["url"])
    # The project's first forge lets it be merged; the node looks, and the hive is told.
    forge.pulls[0] |= {"state": "closed", "merged_at": "2026-01-01T00:00:00Z"}
    hive.json("attempt", "attach-pr", attempt, "--number", "1")
    assert hive.json("attempt", "pr-state", attempt)["state"] == "merged"
    until(
        lambda: hive.attempt(attempt)["pr"]["state"],
        "the hive was told",
        holds=lambda state: state == "merged",
    )
    node.wait_sent()
    assert TOKEN.encode() not in everything_kept(installation.folder)


def _look(command: Command, attempt: str, url: str) -> None:
    shown = command.json("attempt", "pr-state", attempt)
    assert (shown["url"], shown["checks"]["state"], shown["mergeable"]) == (url, "none", True)
    for words in (("attempt", "pr-state"), ("attempt", "branch-status"), ("attempts", "show")):
        drawn = command.call(*words, attempt)
        assert drawn.returncode == 0, drawn.stderr
        assert url in drawn.stdout.replace("\n", "").replace(" ", "")


def test_who_may(installation: Installation, forge: FakeForge, repository: Path) -> None:
    """A maintainer opens and attaches, an operator and a viewer look on."""
    hive, node = installation.hive, node_of(installation, forge, repository)
    node.json("secrets", "set", "github_token", stdin=TOKEN)
    attempt = worked(installation, node)
    admin = hive.environment["SKEP_TOKEN"]
    tokens = {
        role: hive.json("tokens", "create", "--name", role, "--role", role)["token"]
        for role in ("viewer", "operator", "maintainer")
    }
    for role in ("viewer", "operator"):
        hive.sign_in(tokens[role])
        refused = hive.refused("attempt", "pr", attempt, "--title", "T")
        assert refused["code"] == "forbidden"
        assert hive.refused("attempt", "attach-pr", attempt)["code"] == "forbidden"
        assert hive.refused("attempt", "pr-state", attempt)["code"] == "not_found"
    assert forge.posts == []
    hive.sign_in(tokens["maintainer"])
    assert hive.json("attempt", "pr", attempt, "--title", "T")["number"] == 1
    hive.sign_in(tokens["viewer"])
    assert hive.json("attempt", "pr-state", attempt)["number"] == 1
    hive.sign_in(admin)


def test_errors_come_through(
    installation: Installation, forge: FakeForge, repository: Path
) -> None:
    """What goes wrong at the node or the forge has its code, message and hint at the far end."""
    hive, node = installation.hive, node_of(installation, forge, repository)
    attempt = worked(installation, node)

    def refused(*more: str) -> dict[str, Any]:
        error = hive.refused("attempt", "pr", attempt, "--title", "T", *more)
        assert error["hint"], error
        return error

    assert refused()["code"] in {"cli_missing", "not_logged_in"}
    node.json("secrets", "set", "github_token", stdin="not-the-token")
    assert refused()["code"] == "not_logged_in"
    node.json("secrets", "set", "github_token", stdin=TOKEN)
    assert refused("--target", "nonesuch")["code"] == "target_missing"
    assert refused("--expected-head", "0" * 40)["code"] == "expected_head_moved"
    forge.fail("POST", "/pulls", answers(403, "Resource not accessible by integration"))
    assert refused()["code"] == "auth"
    forge.fail("POST", "/pulls", answers(403, "Slow down", **{"Retry-After": "3600"}))
    assert refused()["code"] == "forge_limit"
    url = forge.open(hive.attempt(attempt)["branch"])["html_url"]
    assert refused()["details"] == {"url": url, "number": 1}
    assert hive.json("attempt", "attach-pr", attempt)["url"] == url
    for words in (["attempt", "pr", attempt], ["attempt", "pr", attempt, "T"]):
        assert hive.call(*words).returncode == 2
        assert node.call(*words).returncode == 2


def test_by_gh(
    installation: Installation, forge: FakeForge, repository: Path, tmp_path: Path
) -> None:
    """With no secret the node uses the token that gh has for the forge, and no other's."""
    calls = tmp_path / "calls"
    found = install(tmp_path / "bin", logged_in(TOKEN, forge.host, calls))["PATH"]
    path = f"{found.partition(':')[0]}:{os.environ['PATH']}"
    node = node_of(installation, forge, repository, PATH=path)
    attempt = worked(installation, node)
    made = node.json("attempt", "pr", attempt, "--title", "By gh")
    assert (made["number"], forge.pulls[0]["title"]) == (1, "By gh")
    assert set(calls.read_text().splitlines()) == {f"auth token --hostname {forge.host}"}
    assert json.dumps(made).count(TOKEN) == 0
