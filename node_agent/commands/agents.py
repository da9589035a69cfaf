"""`node-agent agents`: which coding agents this machine has, and what is missing to use them."""

from typing import Any, Final

import click

from node_agent.commands.invocation import Invocation, node_command, plain

_LOGINS: Final = {
    "yes": "[green]yes[/]",
    "no": "[red]no[/]",
    "not_needed": "[green]not needed[/]",
    "unknown": "[dim]not known here[/]",
}


@click.command()
@node_command
def agents(invocation: Invocation) -> None:
    """Coding agents that this node can run, and how to install or log in to the others."""
    import asyncio

    import msgspec

    from node_agent.acp.discovery import discover
    from node_agent.config import process_environment

    found = asyncio.run(discover(invocation.config.data_dir, process_environment()))
    # Names and references; the values of secrets stand elsewhere.
    profiles = [
        {"name": name, **msgspec.to_builtins(profile)}
        for name, profile in sorted(invocation.config.profiles.items())
    ]
    answer = {"items": msgspec.to_builtins(found), "profiles": profiles, "next": None}

    def show(listed: dict[str, Any]) -> None:
        rows = [
            [
                f"[bold]{plain(one['name'])}[/]",
                "[green]yes[/]" if one["installed"] else "[dim]no[/]",
                plain(one["version"]) if one["version"] else "",
                _LOGINS[one["login"]] if one["installed"] else "",
            ]
            for one in listed["items"]
        ]
        invocation.table(["Agent", "Installed", "Version", "Logged in"], rows, empty="")
        if listed["profiles"]:
            invocation.table(
                ["Profile", "Agent", "Model", "Mode"],
                [
                    [plain(one[key] or "") for key in ("name", "agent", "model", "mode")]
                    for one in listed["profiles"]
                ],
                empty="",
            )
        for one in listed["items"]:
            if one["hint"]:
                invocation.say(f"[bold]{plain(one['name'])}[/] [dim]{plain(one['hint'])}[/]")
        invocation.say(
            "[dim]Any other program that speaks the Agent Client Protocol runs as[/] custom[dim],"
            " by its command line.[/]"
        )

    invocation.reply(answer, show)
