"""`hive tasks`: the wanted work, and its runs."""

from collections.abc import Iterable
from typing import Any

import click

from hive.client import HiveClient, path_of
from hive.commands import attempts
from hive.commands.calling import (
    NounGroup,
    Seconds,
    client_command,
    given_only,
    key_option,
    page_options,
    variable_option,
)
from hive.commands.terminal import Terminal, facts, more, short, state, table, when, written

_TYPES = click.Choice(["feature", "bugfix", "test", "docs"])
_PRIORITIES = click.Choice(["high", "normal", "low"])


@click.group(cls=NounGroup)
def tasks() -> None:
    """Show the wanted work: create, list, run."""


@tasks.command(name="list")
@click.option("--project", metavar="P")
@click.option("--status", metavar="S", help="Such as ready, in_progress, in_review.")
@click.option("--archived", is_flag=True, help="Also those put away.")
@page_options
@client_command
def list_tasks(
    hive: HiveClient,
    terminal: Terminal,
    limit: int,
    cursor: str | None,
    project: str | None,
    status: str | None,
    *,
    archived: bool,
) -> None:
    """List the tasks, newest first."""
    page = hive.get(
        "tasks",
        limit=limit,
        cursor=cursor,
        project=project,
        status=status,
        archived=archived or None,
    )
    terminal.show(page, _render_list)


@tasks.command()
@click.option("--project", required=True, metavar="P")
@click.option("--title", help="Needed, unless a template gives one.")
@click.option("--description")
@click.option("--template", metavar="NAME", help="Make it from this; see `hive templates`.")
@click.option("--parent", "parent_id", metavar="T", help="The task it is a part of.")
@variable_option
@click.option("--type", "type_", type=_TYPES)
@click.option("--priority", type=_PRIORITIES)
@click.option("--base-branch")
@click.option("--target-branch")
@click.option("--label", "labels", multiple=True)
@click.option("--draft", is_flag=True, default=None, help="Save it to the backlog.")
@client_command
def create(
    hive: HiveClient,
    terminal: Terminal,
    type_: str | None,
    labels: tuple[str, ...],
    variables: dict[str, str],
    **given: Any,
) -> None:
    """Make a task."""
    body = given_only(type=type_, labels=list(labels) or None, variables=variables or None, **given)
    terminal.show(hive.post("tasks", body), _render_one)


@tasks.command()
@click.argument("task")
@client_command
def show(hive: HiveClient, terminal: Terminal, task: str) -> None:
    """Show one task."""
    terminal.show(hive.get(f"tasks/{path_of(task)}"), _render_one)


@tasks.command()
@click.argument("task")
@click.option("--title")
@click.option("--description")
@click.option("--type", "type_", type=_TYPES)
@click.option("--priority", type=_PRIORITIES)
@click.option("--status", metavar="S")
@click.option("--base-branch")
@click.option("--target-branch")
@client_command
def edit(hive: HiveClient, terminal: Terminal, task: str, type_: str | None, **given: Any) -> None:
    """Change a task."""
    body = given_only(type=type_, **given)
    terminal.show(hive.request("PATCH", f"tasks/{path_of(task)}", body=body), _render_one)


@tasks.command()
@click.argument("task")
@click.option("--undo", is_flag=True, help="Bring it back.")
@client_command
def archive(hive: HiveClient, terminal: Terminal, task: str, *, undo: bool) -> None:
    """Put a task away; nothing of it is lost."""
    changed = hive.request("PATCH", f"tasks/{path_of(task)}", body={"archived": not undo})
    terminal.show(changed, _render_one)


@tasks.command()
@click.argument("task")
@client_command
def delete(hive: HiveClient, terminal: Terminal, task: str) -> None:
    """Delete a task of which nothing runs; what ran stays to be read."""
    deleted = hive.request("DELETE", f"tasks/{path_of(task)}")
    terminal.show(deleted, lambda gone: [f"Deleted {gone['id']}."])


@tasks.command(name="variables")
@click.argument("task")
@variable_option
@click.option("--unset", "unset", multiple=True, metavar="NAME", help="Take it away.")
@client_command
def task_variables(
    hive: HiveClient,
    terminal: Terminal,
    task: str,
    variables: dict[str, str],
    unset: tuple[str, ...],
) -> None:
    """Show the variables that hold for a task; set some with --variable NAME=VALUE."""
    path = f"tasks/{path_of(task)}/variables"
    for name, value in variables.items():
        hive.request("PUT", f"{path}/{path_of(name)}", body={"value": value})
    for name in unset:
        hive.request("DELETE", f"{path}/{path_of(name)}")
    terminal.show(hive.get(path), _render_variables)


@tasks.command()
@click.argument("task")
@click.option("--prompt", help="A text of its own, in place of the task's.")
@client_command
def preview(hive: HiveClient, terminal: Terminal, task: str, prompt: str | None) -> None:
    """Show what an agent would be given, with its variables put in."""
    shown = hive.get(f"tasks/{path_of(task)}/preview", prompt=prompt)
    terminal.show(shown, _render_preview)


@tasks.command(name="nodes")
@click.argument("task")
@click.option("--executor", default="command", show_default=True)
@client_command
def task_nodes(hive: HiveClient, terminal: Terminal, task: str, executor: str) -> None:
    """Show where the task can run, and why not elsewhere."""
    page = hive.get(f"tasks/{path_of(task)}/available-nodes", executor=executor)
    terminal.show(page, _render_nodes)


@tasks.command()
@click.argument("task")
@click.option("--node", metavar="N", help="Where. Default: any node that can run it.")
@click.option(
    "--executor",
    default="command",
    show_default=True,
    help="`command`, any program; or `acp`, a coding agent.",
)
@click.option("--command", metavar="LINE", help="Split as a shell would, run without one.")
@click.option("--profile", metavar="NAME", help="The project's, else the node's, else an agent.")
@click.option("--model", help="In place of the profile's, as the agent calls it.")
@click.option("--mode", help="In place of the profile's, as the agent calls it.")
@click.option("--prompt", help="What an agent is told. Default: the task's title and description.")
@click.option("--base-branch", metavar="B", help="Where its branch begins.")
@click.option("--target-branch", metavar="B", help="Where its work is to go.")
@click.option(
    "--wait",
    "wait_s",
    type=Seconds(0, 300),
    help="With no --node: seconds to wait for one that can run it.",
)
@key_option
@client_command
def run(
    hive: HiveClient, terminal: Terminal, task: str, node: str | None, key: str, **given: Any
) -> None:
    """Start an attempt of a task now."""
    body = given_only(node_id=node or "any", **given)
    attempt = hive.post(
        f"tasks/{path_of(task)}/attempts",
        body,
        key=key,
        timeout_s=90.0 + (given.get("wait_s") or 0.0),
    )
    # Without a node the answer has the shape it will have when it can also be a place in the queue.
    shown = attempt if node else {**attempt, "work_order": None, "attempt": attempt}
    terminal.show(shown, attempts.render_one)
    terminal.note(f"Follow it: hive attempts logs {attempt['id']} -f")


def _render_list(page: dict[str, Any]) -> Iterable[Any]:
    if not page["items"]:
        yield "No tasks. `hive tasks create --project P --title T` makes one."
        return
    yield table(
        "",
        ["id", "title", "status", "priority?", "type?", "project", "changed"],
        (
            (
                short(task["id"]),
                task["title"],
                state(task["status"]),
                task["priority"],
                task["type"],
                task.get("project_name") or short(task["project_id"]),
                when(task["updated_at_ms"]),
            )
            for task in page["items"]
        ),
    )
    yield from more(page)


def _render_one(task: dict[str, Any]) -> Iterable[Any]:
    result = task.get("result") or {}
    yield facts(
        [
            ("id", task["id"]),
            ("title", task["title"]),
            ("status", state(task["status"])),
            ("project", task.get("project_name") or task["project_id"]),
            ("type", task["type"]),
            ("priority", task["priority"]),
            ("labels", ", ".join(task.get("labels") or [])),
            ("base branch", task.get("base_branch")),
            ("target", task.get("target_branch")),
            ("description", task.get("description")),
            ("result", ", ".join(f"{name} {value}" for name, value in result.items() if value)),
            ("made", when(task["created_at_ms"])),
            ("changed", when(task["updated_at_ms"])),
        ]
    )


def _render_variables(page: dict[str, Any]) -> Iterable[Any]:
    if not page["items"]:
        yield "No variables. `hive tasks variables T --variable NAME=VALUE` sets one."
        return
    yield table(
        "",
        ["name", "value", "set by"],
        (
            (
                variable["name"],
                variable["value"],
                variable["from_kind"]
                + ("" if variable["from_kind"] == "task" else f" {short(variable['from_id'])}"),
            )
            for variable in page["items"]
        ),
    )


def _render_preview(shown: dict[str, Any]) -> Iterable[Any]:
    yield facts([("title", shown["title"])])
    yield written(shown["description"] if shown["prompt"] is None else shown["prompt"])
    for warning in shown["warnings"]:
        yield written(f"Note: {warning['message']}.")


def _render_nodes(page: dict[str, Any]) -> Iterable[Any]:
    if not page["items"]:
        yield "No node has joined yet."
        return
    yield table(
        "",
        ["id", "name", "status", ">slots", "can run", "why not"],
        (
            (
                short(node["id"]),
                node["name"],
                state(node["status"]),
                f"{node['slots']['busy']}/{node['slots']['total']}",
                "yes" if node["can_run"] else "no",
                node["why_not"],
            )
            for node in page["items"]
        ),
    )
