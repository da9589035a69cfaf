"""`hive attempts`: the runs, and their logs."""

from collections.abc import Iterable
from typing import Any

import click

from hive.client import HiveClient, path_of
from hive.commands.calling import NounGroup, Seconds, client_command, page_options
from hive.commands.terminal import (
    Terminal,
    duration,
    facts,
    more,
    short,
    size,
    standing,
    state,
    table,
    when,
)

#: Kept below what proxies and the hive let a request wait.
_WAIT_SLICE_S = 25.0
#: Between two looks at a hive that does not answer.
_AWAY_LOOK_S = 0.5
#: A hold that ends with its release alone: the year 9999.
_NO_END_MS = 253_402_300_799_000


@click.group(cls=NounGroup)
def attempts() -> None:
    """Show the runs: list, show, follow their logs."""


@attempts.command(name="list")
@click.option("--task", metavar="T")
@click.option("--node", metavar="N")
@click.option("--project", metavar="P")
@click.option("--status", metavar="S", help="A phase or an outcome: running, failed, ...")
@page_options
@client_command
def list_attempts(
    hive: HiveClient, terminal: Terminal, limit: int, cursor: str | None, **given: Any
) -> None:
    """List the attempts, newest first."""
    terminal.show(hive.get("attempts", limit=limit, cursor=cursor, **given), _render_list)


@attempts.command()
@click.argument("attempt")
@client_command
def show(hive: HiveClient, terminal: Terminal, attempt: str) -> None:
    """Show one attempt."""
    terminal.show(hive.get(f"attempts/{path_of(attempt)}"), render_one)


@attempts.command()
@click.argument("attempt")
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(min=0),
    default=None,
    help="Seconds to wait at most. Default: for ever.",
)
@client_command
def wait(hive: HiveClient, terminal: Terminal, attempt: str, timeout_s: float | None) -> None:
    """Wait until an attempt has ended, also over a restart of the hive; print it."""
    import time

    from hive.commands.patience import AWAY_S_MAX, PASSING
    from protocol.errors import ErrorCode, SkepError

    until = None if timeout_s is None else time.monotonic() + timeout_s
    seen_at: float | None = None
    while True:
        left = _WAIT_SLICE_S if until is None else min(_WAIT_SLICE_S, until - time.monotonic())
        try:
            shown = hive.get(f"attempts/{path_of(attempt)}", wait_ended_s=round(max(0.0, left), 3))
        except SkepError as error:
            now = time.monotonic()
            # One that never answered is perhaps no hive; one that did is being started anew.
            away = seen_at is not None and now - seen_at < AWAY_S_MAX + _WAIT_SLICE_S
            if error.code not in PASSING or not away or (until is not None and now >= until):
                raise
            time.sleep(_AWAY_LOOK_S)
            continue
        seen_at = time.monotonic()
        if shown["phase"] == "ended":
            terminal.show(shown, render_one)
            return
        if until is not None and time.monotonic() >= until:
            raise SkepError(
                ErrorCode.DEADLINE_PASSED,
                f"the attempt has not ended after {timeout_s:g} s",
                hint="It goes on; wait again, or follow its log.",
                attempt_id=shown["id"],
                phase=shown["phase"],
            )


@attempts.command()
@click.argument("attempt")
@click.option("-f", "--follow", is_flag=True, help="Go on as it prints, until it ends.")
@click.option(
    "--after",
    type=click.IntRange(0),
    default=0,
    help="Only entries after number N of its first execution, or of E.",
)
@click.option("--execution", metavar="E", help="One execution of it, by id or kind.")
@click.option("--grep", metavar="TEXT", help="Only lines that contain TEXT.")
@client_command
def logs(
    hive: HiveClient,
    terminal: Terminal,
    attempt: str,
    after: int,
    execution: str | None,
    grep: str | None,
    *,
    follow: bool,
) -> None:
    """Print what an attempt printed."""
    from hive.commands.following import LogReader, Printer
    from hive.ways import Ways

    shown = hive.get(f"attempts/{path_of(attempt)}")
    reader = LogReader(
        hive,
        shown["id"],
        Printer(as_json=terminal.as_json),
        after=after,
        execution=execution,
        grep=grep,
        ways=Ways(hive, shown["id"], lambda way: terminal.note(f"[{way}]")) if follow else None,
        node_id=shown["node_id"],
    )
    reader.run(follow=follow)


def _render_list(page: dict[str, Any]) -> Iterable[Any]:
    if not page["items"]:
        yield "No attempts. `hive tasks run T` starts one."
        return
    yield table(
        "",
        ["id", "task", "node", "status", "executor?", "branch?", "started?", "took", "held here"],
        (
            (
                short(attempt["id"]),
                attempt.get("task_title"),
                attempt.get("node_name") or short(attempt["node_id"]),
                standing(attempt["outcome"] or attempt["phase"], attempt),
                attempt["executor"],
                attempt["branch"],
                when(attempt["created_at_ms"]),
                duration(attempt["created_at_ms"], attempt.get("ended_at_ms")),
                state(attempt["sync_state"]),
            )
            for attempt in page["items"]
        ),
    )
    yield from more(page)


def render_one(attempt: dict[str, Any]) -> Iterable[Any]:
    """Show an attempt with its executions."""
    yield facts(
        [
            ("id", attempt["id"]),
            ("task", attempt.get("task_title") or attempt["task_id"]),
            ("node", attempt.get("node_name") or attempt["node_id"]),
            ("status", standing(attempt["outcome"] or attempt["phase"], attempt)),
            ("reason", attempt.get("reason")),
            ("reachable", _reachable(attempt)),
            ("executor", attempt["executor"]),
            ("branch", attempt["branch"]),
            ("target", attempt.get("target_branch")),
            ("head", (attempt.get("head_commit") or "")[:12]),
            ("worktree", attempt.get("worktree")),
            ("kept until", _held(attempt)),
            ("saved work", attempt.get("saved_ref")),
            ("pull request", pull_request_line(attempt.get("pr"))),
            ("held here", _synced(attempt)),
            ("superseded by", attempt.get("superseded_by")),
            ("forgotten", when(attempt.get("forgotten_at_ms"))),
            ("started", when(attempt["created_at_ms"])),
            ("took", duration(attempt["created_at_ms"], attempt.get("ended_at_ms"))),
        ]
    )
    if attempt["executions"]:
        yield table(
            "Executions",
            ["id", "kind", "status", ">exit", ">entries", ">log", "took", "command"],
            (
                (
                    short(execution["id"]),
                    execution.get("script") or execution["kind"],
                    state(execution["status"]),
                    execution.get("exit_code"),
                    (execution.get("log") or {}).get("entries"),
                    size((execution.get("log") or {}).get("bytes_total")),
                    duration(execution.get("started_at_ms"), execution.get("ended_at_ms")),
                    _line_of(execution),
                )
                for execution in attempt["executions"]
            ),
        )


def _held(attempt: dict[str, Any]) -> str | None:
    until_ms = attempt.get("hold_until_ms")
    return "released" if until_ms and until_ms >= _NO_END_MS else when(until_ms)


def pull_request_line(pr: dict[str, Any] | None) -> str:
    """Return an attempt's pull request on one line; nothing where it has none."""
    return "" if pr is None else f"#{pr['number']} {pr['state']} {pr['url']}"


def _line_of(execution: dict[str, Any]) -> str:
    import shlex

    line = shlex.join(execution.get("argv") or [])
    return line if len(line) <= 60 else f"{line[:57]}..."


def _reachable(attempt: dict[str, Any]) -> str:
    if attempt["reachable"]:
        return "yes"
    since = when(attempt.get("unreachable_since_ms"))
    return f"no, its node is away{f' since {since}' if since else ''}"


def _synced(attempt: dict[str, Any]) -> Any:
    from rich.text import Text

    through = when(attempt.get("synced_through_ms"))
    shown = state(attempt["sync_state"])
    return Text.assemble(shown, (f"  up to {through}", "bright_black")) if through else shown
