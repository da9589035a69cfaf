"""`hive projects`: the repositories the team works on."""

from collections.abc import Iterable
from typing import Any

import click

from hive.client import HiveClient, path_of
from hive.commands.calling import (
    NounGroup,
    client_command,
    given_only,
    page_options,
    variable_option,
)
from hive.commands.profiles import profiles
from hive.commands.terminal import Terminal, facts, more, short, table, when

POLICIES = click.Choice(["full", "lazy", "metadata"])


@click.group(cls=NounGroup)
def projects() -> None:
    """Show the repositories the team works on."""


projects.add_command(profiles)


@projects.command(name="list")
@click.option("--archived", is_flag=True, help="Also those put away.")
@page_options
@client_command
def list_projects(
    hive: HiveClient, terminal: Terminal, limit: int, cursor: str | None, *, archived: bool
) -> None:
    """List the projects."""
    page = hive.get("projects", limit=limit, cursor=cursor, archived=archived or None)
    terminal.show(page, _render_list)


@projects.command()
@click.option("--name", required=True)
@click.option("--repo-url", help="Where the repository is; checkouts of it are linked.")
@click.option("--sync-policy", type=POLICIES, help="How much of its logs the hive keeps.")
@client_command
def create(hive: HiveClient, terminal: Terminal, **given: Any) -> None:
    """Make a project."""
    terminal.show(hive.post("projects", given_only(**given)), _render_one)


@projects.command()
@click.argument("project")
@client_command
def show(hive: HiveClient, terminal: Terminal, project: str) -> None:
    """Show one project, with its checkouts."""
    terminal.show(hive.get(f"projects/{path_of(project)}"), _render_one)


@projects.command()
@click.argument("project")
@click.option("--name")
@click.option("--repo-url")
@click.option("--default-branch")
@click.option("--sync-policy", type=POLICIES, help="How much of its logs the hive keeps.")
@click.option("--setup-script", metavar="SH", help="Run before an agent in a new worktree.")
@click.option("--cleanup-script", metavar="SH", help="Run after an agent.")
@click.option("--dev-script", metavar="SH", help="Run when asked for.")
@click.option(
    "--copy-file",
    "copy_files",
    metavar="PATTERN",
    multiple=True,
    help="What git has no record of, to be copied into each worktree; more than once for more.",
)
@variable_option
@click.option("--unset", "unset", multiple=True, metavar="NAME", help="Take a variable away.")
@click.option(
    "--keep-worktree",
    metavar="RULE",
    help="Of attempts that succeeded: until_done (the task is), after_end, or so many hours.",
)
@click.option(
    "--allow",
    multiple=True,
    metavar="RULE",
    help="What agents may do unasked: KIND[:TOOL[:TARGET]]. In place of all before; '' for none.",
)
@click.option("--deny", multiple=True, metavar="RULE", help="What they never may; goes first.")
@click.option(
    "--silence-stop-s",
    metavar="SECONDS",
    help="Stop an agent that says nothing in a turn for so long; '' for never, as by default.",
)
@client_command
def edit(
    hive: HiveClient,
    terminal: Terminal,
    project: str,
    variables: dict[str, str],
    unset: tuple[str, ...],
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    silence_stop_s: str | None,
    **given: Any,
) -> None:
    """Change a project; '' takes away what there was."""
    path, body = f"projects/{path_of(project)}", _changes(**given)
    if variables or unset or allow or deny or silence_stop_s is not None:
        before = hive.get(path)
        # Refused where another edited the project since it was read: each of these is one setting.
        body["version"] = before["version"]
        if variables or unset:
            kept = {name: one for name, one in before["variables"].items() if name not in unset}
            body["variables"] = kept | variables
        policies = before["policies"]
        if allow or deny:
            policies = _with_rules(policies, allow, deny)
        if silence_stop_s is not None:
            policies = _with_silence(policies, silence_stop_s)
        if policies != before["policies"]:
            body["policies"] = policies
    terminal.show(hive.request("PATCH", path, body=body), _render_one)


def _with_rules(
    policies: dict[str, Any], allow: tuple[str, ...], deny: tuple[str, ...]
) -> dict[str, Any]:
    """Return a project's policies with these rules for requests in place of those before."""
    rules = dict(policies.get("requests") or {})
    for name, texts in (("allow", allow), ("deny", deny)):
        if texts:
            rules[name] = [text for text in texts if text]
    return {**policies, "requests": rules}


def _with_silence(policies: dict[str, Any], text: str) -> dict[str, Any]:
    """Return a project's policies with this limit of silence in place of the one before."""
    others = {name: one for name, one in policies.items() if name != "silence_stop_s"}
    if not text.strip():
        return others
    try:
        return {**others, "silence_stop_s": float(text)}
    except ValueError:
        raise click.BadParameter(
            "give a number of seconds, or '' for never", param_hint="--silence-stop-s"
        ) from None


@projects.command()
@click.argument("project")
@click.option("--undo", is_flag=True, help="Bring it back.")
@client_command
def archive(hive: HiveClient, terminal: Terminal, project: str, *, undo: bool) -> None:
    """Put a project away; nothing of it is lost."""
    changed = hive.request("PATCH", f"projects/{path_of(project)}", body={"archived": not undo})
    terminal.show(changed, _render_one)


@projects.command()
@click.argument("project")
@client_command
def delete(hive: HiveClient, terminal: Terminal, project: str) -> None:
    """Delete a project of which nothing runs; what ran stays to be read."""
    deleted = hive.request("DELETE", f"projects/{path_of(project)}")
    terminal.show(deleted, lambda gone: [f"Deleted {gone['id']}."])


def _changes(*, copy_files: tuple[str, ...], **given: Any) -> dict[str, Any]:
    body = given_only(**given, copy_files=[file for file in copy_files if file] or None)
    if copy_files == ("",):
        body["copy_files"] = []
    # A project keeps its name and its policy; all else it can be without.
    return {name: None if value == "" and name != "name" else value for name, value in body.items()}


def _render_list(page: dict[str, Any]) -> Iterable[Any]:
    if not page["items"]:
        yield "No projects yet. `hive projects create --name NAME` makes one;"
        yield "so does `node-agent checkout add PATH` on a node."
        return
    yield table(
        "",
        ["id", "name", "repository", "checkouts", "logs", "made"],
        (
            (
                short(project["id"]),
                project["name"] + (" (archived)" if project["archived"] else ""),
                project.get("repo_url"),
                len(project["checkouts"]),
                project["sync_policy"],
                when(project["created_at_ms"]),
            )
            for project in page["items"]
        ),
    )
    yield from more(page)


def _render_one(project: dict[str, Any]) -> Iterable[Any]:
    yield facts(
        [
            ("id", project["id"]),
            ("name", project["name"]),
            ("repository", project.get("repo_url")),
            ("identity", project.get("identity")),
            ("branch", project.get("default_branch")),
            ("logs", project["sync_policy"]),
            (
                "variables",
                ", ".join(f"{name}={value}" for name, value in project["variables"].items()),
            ),
            ("setup", project.get("setup_script")),
            ("cleanup", project.get("cleanup_script")),
            ("dev", project.get("dev_script")),
            ("copied in", ", ".join(project.get("copy_files") or [])),
            ("worktrees", f"kept {_kept(project['keep_worktree'])}"),
            ("unasked", "\n".join((project["policies"].get("requests") or {}).get("allow", []))),
            ("never", "\n".join((project["policies"].get("requests") or {}).get("deny", []))),
            ("stopped silent", _silence(project["policies"])),
            ("profiles", ", ".join(sorted(project["profiles"]))),
            ("archived", "yes" if project["archived"] else ""),
            ("made", when(project["created_at_ms"])),
        ]
    )
    if project["checkouts"]:
        yield table(
            "Checkouts",
            ["node", "path"],
            (
                (checkout.get("node_name") or short(checkout["node_id"]), checkout["path"])
                for checkout in project["checkouts"]
            ),
        )


def _kept(rule: str) -> str:
    words = {"until_done": "until the task is done", "after_end": "until the attempt has ended"}
    return words.get(rule) or f"{rule} h after the attempt has ended"


def _silence(policies: dict[str, Any]) -> str:
    limit_s = policies.get("silence_stop_s")
    return "" if limit_s is None else f"after {limit_s:g} s"
