"""`node-agent logs A [-f]`: what an attempt's executions printed, in order."""

import sys
import time
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import click

from node_agent.commands.invocation import Invocation, node_command
from protocol.errors import ErrorCode, OperationError

_LINES_PER_PAGE: Final = 1_000
_WAIT_MS: Final = 20_000
#: With no agent running nothing can wake us; it may be restarting.
_RETRY_S: Final = 0.5
#: So many digits of an id name it.
_DIGITS_MIN: Final = 8
_COLOURS: Final = {"stderr": "red", "event": "cyan"}


@click.command()
@click.argument("attempt")
@click.option("-f", "--follow", is_flag=True, help="Go on until the attempt has ended.")
@click.option(
    "--after",
    type=click.IntRange(0),
    default=0,
    help="Only entries after number N of its first execution, or of E.",
)
@click.option("--execution", help="One execution of it, by id or kind.")
@node_command
def logs(
    invocation: Invocation, attempt: str, follow: bool, after: int, execution: str | None
) -> None:
    """Show what ATTEMPT printed; with --json one object per line."""
    reading = _Reading(invocation, after, follow=follow)
    path = f"attempts/{quote(attempt, safe='')}"
    shown: set[str] = set()
    while True:
        one = reading.ask(path)
        found = _chosen(one["executions"], execution)
        for each in found:
            # A script may run for ever, beside the turns that are followed: it comes at its end.
            endless = each["kind"] == "script" and each["status"] == "running"
            if each["id"] not in shown and not (follow and endless and execution is None):
                shown.add(each["id"])
                if len(found) > 1 and not invocation.as_json:
                    name = each["script"] or each["kind"]
                    click.secho(f"--- {name} {each['id'][-8:]} ---", dim=True, err=True)
                reading.show(each["id"])
        ended = one["phase"] == "ended" or (execution is not None and bool(found))
        if not follow or ended:
            return
        reading.wait_for_change(path, one["version"])


def _chosen(executions: list[dict[str, Any]], wanted: str | None) -> list[dict[str, Any]]:
    if wanted is None:
        return executions
    found = [one for one in executions if wanted in {one["kind"], one["id"]}]
    if found:
        return found
    digits = wanted.replace("-", "").lower()
    if len(digits) >= _DIGITS_MIN:
        found = [one for one in executions if _has(one, digits)]
    if not found:
        raise OperationError(
            ErrorCode.NOT_FOUND,
            f"the attempt has no execution {wanted!r}",
            hint="Give its id, 8 or more digits of one, or kind: node-agent attempts show A has"
            " them.",
        )
    if len(found) > 1:
        raise OperationError(
            ErrorCode.INVALID,
            f"{wanted!r} is more than one execution",
            hint="Give more digits of its id.",
        )
    return found


def _has(one: dict[str, Any], digits: str) -> bool:
    whole = str(one["id"]).replace("-", "")
    return whole.startswith(digits) or whole.endswith(digits)


class _Reading:
    """Reads logs page by page; outlives restarts of the agent while it follows."""

    def __init__(self, invocation: Invocation, after: int, *, follow: bool) -> None:
        self._invocation = invocation
        self._client = invocation.client
        self._after = after
        self._follow = follow

    def ask(self, path: str, **query: Any) -> Any:
        """Ask, and again while an agent that was there is on its way back."""
        while True:
            try:
                return self._client.get(path, query)
            except OperationError as error:
                away = error.code in {ErrorCode.NODE_FAILED, ErrorCode.DRAINING}
                if not (self._follow and away):
                    raise
                time.sleep(_RETRY_S)

    def wait_for_change(self, path: str, version: str) -> None:
        """Return when the attempt is no longer as `version` had it, or after a while."""
        if self.ask(path, version=version, wait_ms=_WAIT_MS)["version"] == version:
            self._rest()

    def show(self, execution_id: str) -> None:
        """Write the entries of an execution; while following, until its log is closed."""
        path = f"executions/{execution_id}/log"
        # A number counts in one execution: the next is shown from its beginning.
        after, self._after, wait_ms = self._after, 0, 0
        unfinished: set[int] = set()
        while True:
            page = self.ask(path, after=after, limit=_LINES_PER_PAGE, wait_ms=wait_ms)
            for entry in _in_order(page):
                # A line that is still being written is shown once, when it is whole. Lines of
                # the other stream go on meanwhile, and the next page begins behind both.
                if self._follow and entry.get("open"):
                    unfinished.add(entry["n"])
                else:
                    self._write(entry)
            moved, after = page["next"] > after, page["next"]
            # What the next page brings again need not be looked up.
            unfinished = {n for n in unfinished if n <= after}
            self._show_finished(path, unfinished)
            sys.stdout.flush()
            if moved:
                wait_ms = 0
                continue
            if page["closed"] or not self._follow:
                return
            if wait_ms:
                self._rest()
            wait_ms = _WAIT_MS

    def _show_finished(self, path: str, unfinished: set[int]) -> None:
        for number in sorted(unfinished):
            for entry in self.ask(path, after=number - 1, limit=1)["entries"]:
                if entry["n"] == number and not entry.get("open"):
                    unfinished.discard(number)
                    self._write(entry)

    def _rest(self) -> None:
        # Without an agent a question is answered at once, from the stores.
        if not self._client.running():
            time.sleep(_RETRY_S)

    def _write(self, entry: dict[str, Any]) -> None:
        if self._invocation.as_json:
            self._invocation.reply_json(entry)
        elif "gap" in entry:
            first, last = entry["gap"]
            said = f"[... entries {first} to {last} are missing: {entry['reason']} ...]"
            click.secho(said, fg="yellow")
        else:
            colour = _COLOURS.get(entry["stream"])
            click.secho(entry["text"] + (" [...]" if entry.get("cut") else ""), fg=colour)


def _in_order(page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield entries and gaps by their numbers."""
    both = [(one["n"], one) for one in page["entries"]]
    both += [(one["gap"][0], one) for one in page["gaps"]]
    for _, one in sorted(both, key=lambda pair: pair[0]):
        yield one
