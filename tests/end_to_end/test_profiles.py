"""A project's profile from the hive's command line to the agent's process, secrets by name."""

import shlex
from pathlib import Path

from tests.end_to_end.agents import AgentJournal
from tests.end_to_end.installation import Installation

SECRET = "hush-hush-of-the-node"


def test_a_projects_profile_travels_with_the_start(
    installation: Installation, repository: Path, tmp_path: Path
) -> None:
    """What is missing is named before anything runs; the secret's value is its node's alone."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    journal = AgentJournal(tmp_path / "journal")
    hive.json(
        *("projects", "profiles", "set", "project", "ours", "--agent", "custom"),
        *("--arguments", journal.command, "--env", "KEY=secret:MODEL_KEY", "--env", "WHO=us"),
    )
    task = installation.task("project")
    text = "@run printenv KEY WHO > seen.txt\n@say done"
    start = (
        *("tasks", "run", task, "--node", node.node_name),
        *("--executor", "acp", "--profile", "ours", "--prompt", text),
    )
    refused = hive.refused(*start)
    assert refused["code"] == "executor_unavailable"
    assert "node-agent secrets set MODEL_KEY" in refused["hint"]
    assert hive.json("attempts")["items"] == []
    assert node.call("secrets", "set", "MODEL_KEY", stdin=SECRET).returncode == 0
    ended = hive.wait_ended(hive.json(*start)["id"])
    assert (ended["outcome"], ended["profile"]) == ("succeeded", "ours")
    assert (Path(ended["worktree"]) / "seen.txt").read_text() == f"{SECRET}\nus\n"
    for kept in (*node.data_dir.glob("*.db*"), *hive.data_dir.glob("*.db*")):
        assert SECRET.encode() not in kept.read_bytes(), kept
    # What its operator does not take as a command line it does not take as a profile either.
    node.stop()
    (node.data_dir / "config.toml").write_text('refuse = ["executor:command"]\n')
    node.start()
    hive.wait_node(node.node_name)
    assert hive.refused(*start)["code"] == "forbidden"
    assert shlex.split(journal.command)[0] in str(hive.json("projects", "show", "project"))
