"""`hive backfill`: fetch from its node what the hive lacks of an attempt."""

import time
from typing import Final

import click

from hive.client import HiveClient, path_of
from hive.commands import attempts
from hive.commands.calling import Seconds, client_command
from hive.commands.terminal import Terminal
from protocol.errors import ErrorCode, SkepError

_LOOK_S_MIN: Final = 0.2
_LOOK_S_MAX: Final = 2.0


@click.command()
@click.argument("attempt")
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(0),
    default=60.0,
    show_default=True,
    help="Seconds to wait until it is here.",
)
@client_command
def backfill(hive: HiveClient, terminal: Terminal, attempt: str, timeout_s: float) -> None:
    """Fetch what the hive lacks of an attempt, and wait until it is here."""
    until = time.monotonic() + timeout_s
    path = f"attempts/{path_of(attempt)}"
    shown = hive.post(f"{path}/backfill")
    look_s = _LOOK_S_MIN
    while shown["sync_state"] != "complete":
        if time.monotonic() >= until:
            raise SkepError(
                ErrorCode.DEADLINE_PASSED,
                f"the attempt is still {shown['sync_state']} after {timeout_s:g} s",
                hint="What was asked for goes on coming; an open log is complete when it ends.",
                attempt_id=shown["id"],
                sync_state=shown["sync_state"],
            )
        time.sleep(min(look_s, max(0.0, until - time.monotonic())))
        look_s = min(look_s * 1.5, _LOOK_S_MAX)
        shown = hive.get(path)
    terminal.show(shown, attempts.render_one)
