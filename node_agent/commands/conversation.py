"""Prints transcripts at the node, and follows one as it is said, with no hive.

Owns how far a conversation was printed, by the number of its newest change: so nothing is lost or
printed twice when the agent restarts meanwhile.
"""

import sys
import time
from typing import Any, Final

import click
import msgspec

from node_agent.local_client import LocalClient
from protocol.errors import ErrorCode, OperationError
from protocol.transcript import Line, message_lines

_COLOURS: Final = {"head": "cyan", "added": "green", "removed": "red", "failed": "red"}
_PAGE_MAX: Final = 200
_WAIT_MS: Final = 20_000
#: With no agent running nothing can wake us; it may be restarting.
_RETRY_S: Final = 0.5
_CLOSED: Final = "closed"


class Printer:
    """Writes messages: a JSON object a line, or a conversation to people."""

    def __init__(self, *, as_json: bool, whole: bool) -> None:
        self._as_json = as_json
        self._whole = whole

    def message(self, message: dict[str, Any]) -> None:
        """Write one."""
        if self._as_json:
            sys.stdout.write(msgspec.json.encode(message).decode() + "\n")
        else:
            for line in message_lines(message, whole=self._whole):
                _write(line)
        sys.stdout.flush()


def _write(line: Line) -> None:
    text = line.text
    if sys.stdout.isatty():
        colour, dim = _COLOURS.get(line.style), line.style == "quiet"
        text = click.style(text, fg=colour, dim=dim, bold=line.style == "head")
    click.echo(text)


def show_page(page: dict[str, Any], printer: Printer) -> None:
    """Print a page to people, with how to go on."""
    if page["previous"] is not None:
        click.secho(f"[earlier: --before {page['previous']}]", err=True, dim=True)
    for message in page["items"]:
        printer.message(message)
    for gap in page["gaps"]:
        first, last = gap["gap"]
        click.secho(f"[{first} to {last} are missing: {gap['reason']}]", err=True, dim=True)
    if page["next"] is not None:
        click.secho(f"[later: --after {page['next']}]", err=True, dim=True)


class Follower:
    """Prints a session as it grows, until it is closed."""

    def __init__(self, client: LocalClient, path: str, printer: Printer) -> None:
        self._client = client
        self._path = path
        self._printer = printer

    def run(self, *, after: int | None, limit: int) -> None:
        """Print the newest `limit` messages, or those after one, and go on from there."""
        page = self._ask(after=after, limit=limit if after is None else _PAGE_MAX)
        if "changes" not in page:
            raise OperationError(
                ErrorCode.NOT_AVAILABLE,
                "the session is another node's",
                hint="Follow it at the hive: hive sessions messages S --follow.",
            )
        # What is new or changes while we page on is told behind this.
        changes, last = page["changes"], page["message_count"]
        # What changes before the first that was asked for is none of it.
        first = (
            after + 1 if after is not None else min((m["seq"] for m in page["items"]), default=1)
        )
        while True:
            for message in page["items"]:
                if message["seq"] <= last:
                    self._printer.message(message)
            if page["next"] is None or page["next"] >= last:
                break
            page = self._ask(after=page["next"], limit=_PAGE_MAX)
        while True:
            page = self._ask(changed_after=changes, wait_ms=_WAIT_MS, limit=_PAGE_MAX)
            for message in page["items"]:
                if message["seq"] >= first:
                    self._printer.message(message)
            changes = page["changes"]
            if page["items"]:
                continue
            if page["status"] == _CLOSED:
                return
            if not self._client.running():
                # Without an agent a question is answered at once, from the stores.
                time.sleep(_RETRY_S)

    def _ask(self, **query: Any) -> dict[str, Any]:
        """Ask, and again while an agent that was there is on its way back."""
        while True:
            try:
                page: dict[str, Any] = self._client.get(self._path, query)
            except OperationError as error:
                if error.code not in {ErrorCode.NODE_FAILED, ErrorCode.DRAINING}:
                    raise
                time.sleep(_RETRY_S)
            else:
                return page
