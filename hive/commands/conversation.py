"""Prints transcripts, and follows one: reads what is new or has changed, woken by the live stream.

Owns what was printed already, so that no message is lost or doubled when the hive restarts. Must
not trust an event for more than that something may be new.
"""

import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import click
import msgspec

from hive.client import Event, HiveClient, path_of
from hive.commands.patience import Patience
from hive.commands.terminal import coloured
from protocol.errors import SkepError
from protocol.transcript import Line, gap_line, message_lines

_PAGE_MAX: Final = 200
#: Looked at anew this often even where no event came: the stream is never the truth.
_LOOK_AGAIN_S: Final = 20.0
#: Runs of missing messages that are looked for at one look.
_FILLED_AT_A_TIME: Final = 5
_COLOURS: Final = {"head": "cyan", "added": "green", "removed": "red", "failed": "red"}


class Printer:
    """Writes messages: a JSON object a line, or a conversation to people."""

    def __init__(self, *, as_json: bool, whole: bool = False) -> None:
        self._as_json = as_json
        self._whole = whole

    def message(self, message: dict[str, Any]) -> None:
        if self._as_json:
            self._object(message)
            return
        for line in message_lines(message, whole=self._whole):
            self._line(line)
        sys.stdout.flush()

    def gap(self, gap: dict[str, Any]) -> None:
        if self._as_json:
            self._object(gap)
        else:
            self._line(gap_line(gap))
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Say something beside the conversation, to people only."""
        if not self._as_json:
            click.secho(text, err=True, dim=True)

    def _object(self, value: dict[str, Any]) -> None:
        sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
        sys.stdout.flush()

    def _line(self, line: Line) -> None:
        text = line.text
        if coloured(sys.stdout):
            colour, dim = _COLOURS.get(line.style), line.style == "quiet"
            text = click.style(text, fg=colour, dim=dim, bold=line.style == "head")
        sys.stdout.write(text + "\n")


def show_page(page: dict[str, Any], printer: Printer) -> None:
    """Print a page to people, with how to go on."""
    if page["previous"] is not None:
        printer.note(f"[earlier: --before {page['previous']}]")
    for is_gap, row in in_order(page):
        if is_gap:
            printer.gap(row)
        else:
            printer.message(row)
    if not page["items"] and not page["gaps"]:
        printer.note("No messages here.")
    if page["next"] is not None:
        printer.note(f"[later: --after {page['next']}]")


def in_order(page: dict[str, Any]) -> Iterator[tuple[bool, dict[str, Any]]]:
    """Yield messages and gaps by their numbers, each with whether it is a gap."""
    rows = [(message["seq"], False, message) for message in page["items"]]
    rows += [(gap["gap"][0], True, gap) for gap in page["gaps"]]
    for _, is_gap, row in sorted(rows, key=lambda row: row[0]):
        yield is_gap, row


class Follower:
    """Prints a session as it grows, until it is closed."""

    def __init__(self, hive: HiveClient, session: dict[str, Any], printer: Printer) -> None:
        self._hive = hive
        self._session = session
        self._path = f"sessions/{session['id']}"
        self._printer = printer
        self._after = 0
        #: Runs of numbers that printing has passed because nothing was there; printed when they
        #: come. As runs: how long one is a node says.
        self._missing: list[tuple[int, int]] = []
        #: Messages printed that may yet change: tool calls that have not ended, plans.
        self._unsettled: dict[str, int] = {}
        #: What a closed session was last said to wait for.
        self._awaited: dict[str, Any] | None = None

    def run(self, *, after: int | None, limit: int) -> None:
        """Print the newest `limit` messages, or those after one, and go on from there."""
        if after is None:
            page = self._page(limit=limit)
            self._after = max(0, _first(page) - 1)
        else:
            self._after = after
        patience = Patience()
        while True:
            try:
                for event in self._wakes():
                    patience.answered()
                    if self._look(event):
                        return
            except SkepError as error:
                wait_s = patience.next_wait_s(error, time.monotonic())
                self._hive.close()
                time.sleep(wait_s)

    def _wakes(self) -> Iterator[Event | None]:
        """Yield when there may be something new; raises HiveAwayError where the stream breaks."""
        looked = 0.0
        for event in self._hive.events(f"session:{self._session['id']}"):
            # The first sign of life: the stream is open, so nothing from here on is missed.
            if event is not None or time.monotonic() - looked > _LOOK_AGAIN_S:
                yield event
                looked = time.monotonic()

    def _look(self, event: Event | None) -> bool:
        """Print what is new; return whether the session is over and all of it printed."""
        changed = None if event is None else event.fields.get("message_id")
        if changed in self._unsettled:
            self._print(self._hive.get(f"messages/{path_of(str(changed))}"))
        session = self._hive.get(self._path)
        if self._missing:
            self._fill()
        while True:
            page = self._page(after=self._after, limit=_PAGE_MAX)
            newest = page["items"][-1]["seq"] if page["items"] else self._after
            for is_gap, row in in_order(page):
                if not is_gap:
                    self._after = row["seq"]
                    self._print(row)
                elif row["lost"] or row["gap"][0] < newest:
                    self._missing.append((row["gap"][0], row["gap"][1]))
                    self._printer.gap(row)
                    self._after = row["gap"][1]
                else:
                    # The last ones are on their way: they are printed when they are here.
                    return self._waits_for(row, closed=session["status"] == "closed")
            if page["next"] is None:
                return self._is_over(session)

    def _waits_for(self, gap: dict[str, Any], *, closed: bool) -> bool:
        if closed and gap != self._awaited:
            self._awaited = gap
            self._printer.note(f"[the session is closed; waiting for its end: {gap['reason']}]")
        return False

    def _is_over(self, session: dict[str, Any]) -> bool:
        if session["status"] == "closed":
            return True
        if session["forgotten_at_ms"] is None:
            return False
        self._printer.note("[its node no longer knows this session]")
        return True

    def _fill(self) -> None:
        """Print what was missing when it was passed, and is here now."""
        for first, last in self._missing[:_FILLED_AT_A_TIME]:
            del self._missing[0]
            page = self._page(after=first - 1, before=last + 1, limit=_PAGE_MAX)
            for message in page["items"]:
                self._print(message)
            # Behind the others: what never comes is not all that is asked for.
            self._missing += [(gap["gap"][0], gap["gap"][1]) for gap in page["gaps"]]
            if page["next"] is not None and page["next"] < last:
                self._missing.append((page["next"] + 1, last))

    def _print(self, message: dict[str, Any]) -> None:
        settled = (message.get("tool") or {}).get("status") not in {"pending", "in_progress"}
        if settled and message["role"] != "plan":
            self._unsettled.pop(message["id"], None)
        else:
            self._unsettled[message["id"]] = message["seq"]
        self._printer.message(message)

    def _page(self, **query: Any) -> dict[str, Any]:
        page: dict[str, Any] = self._hive.get(f"{self._path}/messages", **query)
        return page


def _first(page: dict[str, Any]) -> int:
    numbers = [row["seq"] for row in page["items"]] + [gap["gap"][0] for gap in page["gaps"]]
    return min(numbers, default=1)
