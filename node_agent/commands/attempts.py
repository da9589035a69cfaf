"""`node-agent attempts`: what this node ran and runs."""

import time
from typing import Any, Final

import click

from node_agent.commands.invocation import (
    Invocation,
    Seconds,
    ago,
    coloured,
    moment,
    node_command,
    plain,
    standing,
)
from protocol.errors import ErrorCode, OperationError

#: How long one question waits at the agent for a change.
_WAIT_MS: Final = 20_000
#: With no agent running nothing can wake us.
_RETRY_S: Final = 1.0
#: A hold that ends with its release alone: the year 9999.
_NO_END_MS: Final = 253_402_300_799_000


@click.group(invoke_without_command=True)
@click.option("--status", help="Only attempts in this phase or with this outcome.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)
@click.option("--after", help="Go on behind a list's `next`.")
@click.option("--all", "everywhere", is_flag=True, help="Also those of other nodes; see login.")
@click.pass_context
@node_command
def attempts(
    invocation: Invocation,
    ctx: click.Context,
    status: str | None,
    limit: int,
    after: str | None,
    everywhere: bool,
) -> None:
    """Attempts of this node, newest first; with --all, of all nodes of the hive."""
    if ctx.invoked_subcommand is not None:
        return
    query = {"status": status, "limit": limit, "cursor": after}
    if everywhere:
        query["all"] = "1"
    answer = invocation.client.get("attempts", query)

    def show(page: dict[str, Any]) -> None:
        invocation.table(
            ["Attempt", "Task", "Node" if everywhere else "Project", "Status", "Branch", "Begun"],
            [_row(one) for one in page["items"]],
            empty="No attempts. Start one: node-agent start --project P --title T --command C",
        )
        if page["next"]:
            invocation.say(f"[dim]More: --after {plain(page['next'])}[/]")

    invocation.reply(answer, show)


@attempts.command()
@click.argument("attempt")
@node_command
def show(invocation: Invocation, attempt: str) -> None:
    """Show ATTEMPT and its executions."""
    answer = invocation.client.get(f"attempts/{attempt}")
    invocation.reply(answer, lambda one: show_attempt(invocation, one))


@attempts.command()
@click.argument("attempt")
@click.option("--timeout", "timeout_s", type=Seconds(0), default=60.0, show_default=True)
@node_command
def wait(invocation: Invocation, attempt: str, timeout_s: float) -> None:
    """Wait until ATTEMPT has ended, and show it."""
    deadline_s = time.monotonic() + timeout_s
    version = None
    while True:
        left_s = deadline_s - time.monotonic()
        query = {"version": version, "wait_ms": max(0, min(_WAIT_MS, int(left_s * 1000)))}
        answer = invocation.client.get(f"attempts/{attempt}", query if version else None)
        if answer["phase"] == "ended":
            break
        if left_s <= 0:
            raise OperationError(
                ErrorCode.DEADLINE_PASSED,
                f"the attempt has not ended within {timeout_s:g} s; it is {answer['phase']}",
                hint="It goes on. Wait longer with --timeout, or follow it: "
                + invocation.command_line("logs", answer["id"][-8:], "-f"),
                attempt_id=answer["id"],
                phase=answer["phase"],
            )
        if answer["version"] == version and not invocation.client.running():
            time.sleep(_RETRY_S)
        version = answer["version"]
    invocation.reply(answer, lambda one: show_attempt(invocation, one))


def show_attempt(invocation: Invocation, one: dict[str, Any]) -> None:
    """Draw an attempt with its executions."""
    status = standing(one["outcome"] or one["phase"], one)
    invocation.facts(
        [
            ("Attempt", f"[bold]{one['id'][-8:]}[/] [dim]{plain(one['id'])}[/]"),
            ("Task", plain(one["task_title"])),
            ("Project", plain(one.get("project_name"))),
            ("Node", plain(one.get("node_name"))),
            ("Status", status + (f" [dim]({plain(one['reason'])})[/]" if one["reason"] else "")),
            ("Executor", plain(one["executor"])),
            ("Branch", plain(one["branch"])),
            ("Target", plain(one["target_branch"])),
            ("Head", plain(one["head_commit"])),
            ("Pull request", pull_request_line(one["pr"])),
            ("Worktree", plain(one["worktree"])),
            ("Kept until", _kept_until(one["hold_until_ms"])),
            ("Saved work", plain(one["saved_ref"])),
            ("Begun", moment(one["created_at_ms"])),
            ("Ended", moment(one["ended_at_ms"])),
        ]
    )
    if one["executions"]:
        invocation.say("")
        invocation.table(
            ["Execution", "Kind", "Status", "Exit", "Begun", "Command"],
            [_execution(execution) for execution in one["executions"]],
            empty="",
        )


def _kept_until(until_ms: int | None) -> str:
    return "released" if until_ms and until_ms >= _NO_END_MS else moment(until_ms)


def pull_request_line(pr: dict[str, Any] | None) -> str:
    """Return an attempt's pull request on one line; nothing where it has none."""
    return "" if pr is None else f"#{pr['number']} {plain(pr['state'])} {plain(pr['url'])}"


def _execution(one: dict[str, Any]) -> list[str]:
    ending = one["exit_code"] if one["signal"] is None else f"signal {one['signal']}"
    return [
        one["id"][-8:],
        plain(one["script"] or one["kind"]),
        coloured(one["status"]),
        plain(ending),
        moment(one["started_at_ms"]),
        plain(" ".join(one["argv"])[:80]),
    ]


def _row(one: dict[str, Any]) -> list[str]:
    return [
        f"[bold]{one['id'][-8:]}[/]",
        plain(one["task_title"]),
        plain(one.get("node_name") or one.get("project_name")),
        standing(one["outcome"] or one["phase"], one),
        plain(one["branch"]),
        ago(one["created_at_ms"]),
    ]
