"""Templates and variables through the commands: what the program of an attempt is given."""

from pathlib import Path

from tests.end_to_end.installation import Installation, make_repository


def test_a_task_from_a_template_runs_with_its_variables(tmp_path: Path) -> None:
    """The prompt and the task's text have them put in; the command line is the shell's own."""
    installation = Installation(tmp_path)
    try:
        installation.found()
        repository = make_repository(tmp_path / "shop")
        installation.add_node(repository=repository)
        hive = installation.hive
        hive.json("projects", "edit", "shop", "--variable", "WHO=Ada", "--variable", "HOW=well")
        hive.json("templates", "create", "--name", "greet", "--text", "Greet $WHO $HOW, $HOME.")
        parts = ("--project", "shop", "--template", "greet", "--title", "Greet $WHO")
        task = hive.json("tasks", "create", *parts)["id"]
        listed = hive.json("tasks", "variables", task, "--variable", "WHO=Grace")["items"]
        assert {one["name"]: one["value"] for one in listed} == {"HOW": "well", "WHO": "Grace"}
        shown = hive.json("tasks", "preview", task)
        assert shown["description"] == "Greet Grace well, $HOME."
        assert [warning["name"] for warning in shown["warnings"]] == ["HOME"]
        command = "sh -c 'cat; echo; WHO=me; echo $WHO'"
        run = ("--node", "node1", "--command", command, "--prompt", "Hello $WHO, $$5")
        attempt = hive.json("tasks", "run", task, *run)["id"]
        hive.wait_ended(attempt)
        lines = [line["text"] for line in hive.lines("attempts", "logs", attempt)]
        assert lines == ["Hello Grace, $5", "me"]
        assert "greet-grace" in hive.attempt(attempt)["branch"]
        hive.json("tasks", "variables", task, "--unset", "WHO")
        assert hive.json("tasks", "preview", task)["title"] == "Greet Ada"
        hive.json("projects", "edit", "shop", "--unset", "WHO")
        assert hive.json("tasks", "preview", task)["title"] == "Greet $WHO"
        refused = hive.refused("tasks", "create", "--project", "shop", "--template", "none")
        assert refused["code"] == "not_found"
    finally:
        installation.close()
