"""From nothing to an attempt with its log, diff and outcome, by the commands a user types."""

from pathlib import Path

from tests.end_to_end.installation import Installation, git, make_repository
from tests.end_to_end.waiting import until


def test_the_first_story(tmp_path: Path) -> None:
    """Init, serve, join, check out, make a task, run it, read its log and diff."""
    repository = make_repository(tmp_path / "project")
    installation = Installation(tmp_path)
    hive, node = installation.hive, installation.new_node()
    try:
        assert hive.init()["hive_id"]
        hive.start()
        token = hive.json("nodes", "join-token")["join_token"]
        joined = node.json("join", hive.url, token, "--name", "laptop")
        node.json("checkout", "add", str(repository))
        node.start()
        until(
            lambda: hive.json("projects")["items"],
            "the project is linked",
            holds=lambda items: any(one["checkouts"] for one in items),
        )
        task = hive.json("tasks", "create", "--project", "project", "--title", "Say hello")
        line = "sh -c 'echo one; echo two >&2; echo new > new.txt; git add new.txt;"
        line += " git commit -q -m done; exit 0'"
        attempt = hive.json("tasks", "run", task["id"], "--node", "laptop", "--command", line)
        assert attempt["node_id"] == joined["node_id"]
        ended = hive.json("attempts", "wait", attempt["id"])
        assert (ended["phase"], ended["outcome"]) == ("ended", "succeeded")
        lines = hive.lines("attempts", "logs", attempt["id"])
        assert sorted((one["stream"], one["text"]) for one in lines) == [
            ("stderr", "two"),
            ("stdout", "one"),
        ]
        diff = hive.json("attempt", "diff", attempt["id"])
        assert [(one["path"], one["kind"]) for one in diff["files"]] == [("new.txt", "added")]
        assert git(repository, "show", f"{ended['branch']}:new.txt") == "new\n"
        assert git(repository, "status", "--porcelain") == ""
        assert git(repository, "branch", "--show-current") == "main\n"
    finally:
        installation.close()
