"""One hive and its nodes in a folder: what most tests begin with, and its end.

Owns that nothing it started outlives it.
"""

import subprocess
import uuid
from pathlib import Path
from typing import Any

from tests.end_to_end.hive_program import HiveProgram
from tests.end_to_end.node_program import NodeProgram
from tests.end_to_end.waiting import until


class Installation:
    """A hive, founded and serving, and the nodes that joined it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hive = HiveProgram(folder)
        self.nodes: list[NodeProgram] = []

    def found(self) -> None:
        """Found the hive and start it."""
        self.hive.init()
        self.hive.start()

    def join_token(self) -> str:
        """A fresh one-time token."""
        token: str = self.hive.client.post("join-tokens", {"ttl_s": 3600})["join_token"]
        return token

    def new_node(self, name: str = "node1") -> NodeProgram:
        """A node that has not joined, and whose agent does not run."""
        node = NodeProgram(self.folder, name)
        self.nodes.append(node)
        return node

    def add_node(
        self, name: str = "node1", *, url: str | None = None, repository: Path | None = None
    ) -> NodeProgram:
        """A node that joined and runs, with a checkout of `repository` where one is given."""
        node = self.new_node(name)
        node.json("join", url or self.hive.url, self.join_token(), "--name", name)
        if repository is not None:
            node.json("checkout", "add", str(repository))
        node.start()
        self.hive.wait_node(name)
        if repository is not None:
            self.wait_project(repository.name, name)
        return node

    def wait_project(self, project: str, node_name: str) -> dict[str, Any]:
        """Wait until the hive has linked a node's checkout to a project."""

        def look() -> dict[str, Any]:
            for one in self.hive.client.get("projects")["items"]:
                if one["name"] == project:
                    shown: dict[str, Any] = one
                    return shown
            return {"checkouts": []}

        return until(
            look,
            f"{node_name}'s checkout is of project {project}",
            holds=lambda one: any(each["node_name"] == node_name for each in one["checkouts"]),
        )

    def set_policy(self, node: NodeProgram, project: str, policy: str) -> None:
        """Change how much of a project's logs the hive keeps; wait until the node works by it."""
        before = self.hive.client.get(f"projects/{project}")["sync_policy"]
        links = node.log.count("connected to the hive")
        self.hive.client.request("PATCH", f"projects/{project}", body={"sync_policy": policy})
        until(
            lambda: node.rows("state", "SELECT body FROM project_link"),
            f"the node knows the policy {policy}",
            holds=lambda rows: any(
                project.encode() in body and policy.encode() in body for (body,) in rows
            ),
        )
        if "full" in {before, policy} and before != policy:
            # Which logs stream is said in a hello: the node links anew.
            until(
                lambda: node.log.count("connected to the hive") > links, "the node is linked anew"
            )
        self.hive.wait_node(node.node_name)

    def task(self, project: str, title: str = "Do it") -> str:
        """Make a task; return its id."""
        made: str = self.hive.client.post("tasks", {"project": project, "title": title})["id"]
        return made

    def run(self, project: str, command: str, node: NodeProgram, title: str = "Do it") -> str:
        """Run a command as an attempt of a new task on a node; return the attempt's id."""
        attempt: str = self.hive.client.post(
            f"tasks/{self.task(project, title)}/attempts",
            {"node_id": node.node_name, "executor": "command", "command": command},
            key=uuid.uuid4().hex,
        )["id"]
        return attempt

    def close(self) -> None:
        """End everything, whatever state it is in."""
        self.hive.close_client()
        for node in self.nodes:
            node.close()
        if self.hive.running:
            self.hive.kill()


def make_repository(path: Path) -> Path:
    """Make a repository with one commit and an identity for more."""
    path.mkdir(parents=True)
    # A root commit of its own: by that a repository with no origin is known.
    (path / "README.md").write_text(f"This is {path.name}.\n")
    for args in (
        ["init", "-q", "-b", "main"],
        ["config", "user.name", "Tester"],
        ["config", "user.email", "tester@example.org"],
        ["add", "-A"],
        ["commit", "-q", "-m", "first"],
    ):
        git(path, *args)
    return path


def git(cwd: Path | str, *args: str) -> str:
    """Run plain git and return what it printed."""
    done = subprocess.run(["git", *args], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout
