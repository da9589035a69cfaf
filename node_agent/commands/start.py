"""`node-agent start`."""

from typing import Any

import click

from node_agent.commands.invocation import Invocation, coloured, new_key, node_command, plain


@click.command()
@click.option("--project", required=True, help="A checkout, by id or name.")
@click.option("--title", required=True, help="What is wanted, in a line.")
@click.option("--description", default="", help="What is wanted, at length.")
@click.option("--executor", default="command", show_default=True, help="What does the work.")
@click.option("--command", help="The command line of executor `command`; run without a shell.")
@click.option("--profile", metavar="NAME", help="Which agent: `node-agent agents` lists them.")
@click.option("--model", help="In place of the profile's, as the agent calls it.")
@click.option("--mode", help="In place of the profile's, as the agent calls it.")
@click.option("--prompt", help="What the agent is told.")
@click.option("--base-branch", help="Where the attempt's branch begins. Default: the project's.")
@click.option("--target-branch", help="Where its work shall go. Default: the base branch.")
@click.option("--idempotency-key", help="With the same key again, the same attempt is answered.")
@node_command
def start(
    invocation: Invocation,
    project: str,
    title: str,
    description: str,
    executor: str,
    command: str | None,
    profile: str | None,
    model: str | None,
    mode: str | None,
    prompt: str | None,
    base_branch: str | None,
    target_branch: str | None,
    idempotency_key: str | None,
) -> None:
    """Start an attempt on this node, with or without a hive."""
    if executor == "command" and not command:
        raise click.UsageError("Give --command, or another --executor with --prompt.")
    wanted = {
        "project": project,
        "task_title": title,
        "task_description": description,
        "executor": executor,
        "command": command,
        "profile": profile,
        "model": model,
        "mode": mode,
        "prompt": prompt,
        "base_branch": base_branch,
        "target_branch": target_branch,
    }
    answer = invocation.client.send("POST", "attempts", wanted, key=idempotency_key or new_key())

    def show(attempt: dict[str, Any]) -> None:
        short = attempt["id"][-8:]
        invocation.say(f"[green]Started[/] attempt [bold]{short}[/] on {plain(attempt['branch'])}.")
        invocation.facts(
            [
                ("Id", plain(attempt["id"])),
                ("Phase", coloured(attempt["phase"])),
                ("Worktree", plain(attempt["worktree"])),
                ("Log", plain(invocation.command_line("logs", short, "-f"))),
            ]
        )

    invocation.reply(answer, show)
