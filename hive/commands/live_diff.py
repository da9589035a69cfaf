"""`hive attempt diff A --follow`: an attempt's changes as they happen, by whichever way works.

Owns the cursor of the last whole update, from which a broken stream is gone on with. Must not apply
updates to each other: it shows each as it comes.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import click
import msgspec

from hive.client import HiveClient, path_of
from hive.commands.patience import Patience
from hive.commands.terminal import Terminal
from hive.ways import Ways
from protocol.errors import ErrorCode, SkepError
from protocol.transcript import plain

#: The node sends a sign of life every 10 s.
_SILENT_S_MAX: Final = 30.0
#: Of one update: beyond it no reader is meant.
_UPDATE_BYTES_MAX: Final = 256 * 1024 * 1024


def follow_diff(
    hive: HiveClient,
    terminal: Terminal,
    attempt_id: str,
    asked: dict[str, Any],
    render: Callable[[Any], Iterable[Any]],
) -> None:
    """Show the diff and each change of it, until nobody works on the attempt any more."""
    ways = Ways(hive, attempt_id, lambda way: terminal.note(f"[{way}]"))
    path = f"attempts/{path_of(attempt_id)}/diff/stream"
    cursor: str | None = None
    # A stream that lost a piece is of no use, and another one is whole.
    patience = Patience([ErrorCode.NODE_FAILED])
    while True:
        try:
            for line in _lines(ways.pieces(path, timeout_s=_SILENT_S_MAX, cursor=cursor, **asked)):
                patience.answered()
                if line:
                    update = msgspec.json.decode(line)
                    if cursor != update["cursor"]:
                        _show(terminal, line, update, render)
                    cursor = update["cursor"]
        except SkepError as error:
            wait_s = patience.next_wait_s(error, time.monotonic())
            hive.close()
            time.sleep(wait_s)
        else:
            return


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield whole lines; what is left of one that broke off is none."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        if b"\n" in piece:
            *lines, rest = bytes(waiting).split(b"\n")
            waiting = bytearray(rest)
            yield from lines
        if len(waiting) > _UPDATE_BYTES_MAX:
            raise SkepError(
                ErrorCode.TOO_LARGE,
                "the diff is too large to follow",
                hint="Follow a part of it with --path.",
            )


def _show(
    terminal: Terminal,
    line: bytes,
    update: dict[str, Any],
    render: Callable[[Any], Iterable[Any]],
) -> None:
    if terminal.as_json:
        sys.stdout.write(line.decode() + "\n")
        sys.stdout.flush()
        return
    if update["changed"] or update["whole"]:
        terminal.show({"files": update["changed"]}, render)
    for path in update["removed"]:
        click.echo(f"{plain(path)}  unchanged again")
    sys.stdout.flush()
