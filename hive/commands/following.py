"""Follows an attempt's log: reads pages after what it has, woken by the live stream.

Owns what was printed already, so that no line is lost or doubled when the hive restarts. Must not
trust an event for more than that something may be new.
"""

import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import click
import msgspec

from hive.client import HiveClient, path_of
from hive.commands.patience import Patience
from hive.commands.terminal import coloured
from hive.ways import Ways
from protocol.errors import ErrorCode, SkepError

PAGE_ENTRIES: Final = 5000
#: Looked at anew this often even where no event came: the stream is never the truth.
_LOOK_AGAIN_S: Final = 20.0
_STREAM_COLOURS: Final = {"stderr": "red", "event": "cyan"}
#: So many digits of an id name it.
_DIGITS_MIN: Final = 8
#: A log that the hive does not hold raises no events here: its node is asked to wait instead.
_NODE_WAIT_MS: Final = 5_000


class Printer:
    """Writes entries: a JSON object a line, or the text itself."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._encoder = msgspec.json.Encoder()

    def header(self, execution: dict[str, Any]) -> None:
        """Say which execution follows, to people."""
        if not self.as_json:
            label = f"── {execution.get('script') or execution['kind']} {execution['id'][-8:]} ──"
            sys.stdout.flush()
            click.secho(label, err=True, dim=True)

    def entry(self, entry: dict[str, Any]) -> None:
        if self.as_json:
            sys.stdout.write(self._encoder.encode(entry).decode() + "\n")
            return
        text = entry["text"]
        if entry.get("cut"):
            cut = f" [cut: {entry['bytes']} bytes in all]"
            text += click.style(cut, dim=True) if coloured(sys.stdout) else cut
        colour = _STREAM_COLOURS.get(entry["stream"])
        shown = click.style(text, fg=colour) if colour and coloured(sys.stdout) else text
        sys.stdout.write(shown + "\n")

    def gap(self, gap: dict[str, Any]) -> None:
        if self.as_json:
            sys.stdout.write(self._encoder.encode(gap).decode() + "\n")
            return
        first, last = gap["gap"]
        sys.stdout.flush()
        click.secho(f"[entries {first} to {last} are missing: {gap['reason']}]", err=True, dim=True)

    def flush(self) -> None:
        sys.stdout.flush()


class _Log:
    """How far one execution's log is printed."""

    def __init__(self, execution: dict[str, Any], after: int) -> None:
        self.execution = execution
        self.after = after
        #: Entries past which printing has gone, but which were unfinished then.
        self.held: set[int] = set()
        self.printed_gaps: set[tuple[int, int]] = set()
        self.begun = False
        self.closed = False
        #: The last page came straight from the node.
        self.at_node = False


class LogReader:
    """Prints the logs of one attempt, execution by execution."""

    def __init__(
        self,
        hive: HiveClient,
        attempt_id: str,
        printer: Printer,
        *,
        after: int = 0,
        execution: str | None = None,
        grep: str | None = None,
        ways: Ways | None = None,
        node_id: str | None = None,
    ) -> None:
        self._hive = hive
        # A log that is not held here raises no events of its own: its node's coming back is one.
        self._topics = f"attempt:{attempt_id}" + (f",node:{node_id}" if node_id else "")
        #: Where pages are followed: straight from the node where that can be reached.
        self._ways = ways
        self._path = f"attempts/{path_of(attempt_id)}"
        self._printer = printer
        self._after = after
        self._wanted = execution
        self._grep = grep
        self._logs: dict[str, _Log] = {}
        self._attempt: dict[str, Any] = {}
        self._ended = False
        self._follow = False

    def run(self, *, follow: bool) -> None:
        """Print what there is; with `follow`, go on until the attempt has ended and all is out."""
        self._follow = follow
        if not follow:
            self._look()
            self._check_found()
            self._read_all(follow=False)
            self._check_whole()
            return
        patience = Patience()
        while True:
            try:
                for _ in self._wakes():
                    patience.answered()
                    while True:
                        self._look()
                        self._read_all(follow=True)
                        if self._done():
                            return
                        if not self._is_read_at_node():
                            break
            except SkepError as error:
                wait_s = patience.next_wait_s(error, time.monotonic())
                self._hive.close()
                time.sleep(wait_s)

    def _wakes(self) -> Iterator[None]:
        """Yield when there may be something new; raises HiveAwayError where the stream breaks."""
        looked = 0.0
        version = None
        while self._ways is not None and self._ways.is_direct():
            yield
            if not self._is_read_at_node():
                # Nothing is printed just now: the node says when the attempt is another.
                shown = self._ways.get_direct(self._path, version=version, wait_ms=_NODE_WAIT_MS)
                version = shown and shown["version"]
        for event in self._hive.events(self._topics):
            # The first sign of life: the stream is open, so nothing from here on is missed.
            if event is not None or time.monotonic() - looked > _LOOK_AGAIN_S:
                yield
                looked = time.monotonic()

    def _look(self) -> None:
        attempt = (self._ways or self._hive).get(self._path)
        self._attempt = attempt
        self._ended = attempt["phase"] == "ended"
        for execution in attempt["executions"]:
            known = self._logs.get(execution["id"])
            if known is not None:
                known.execution = execution
            elif self._is_wanted(execution):
                # `after` counts in one execution: the first of those that are shown.
                after = 0 if self._logs else self._after
                self._logs[execution["id"]] = _Log(execution, after)
        if self._ended:
            self._check_found()

    def _is_wanted(self, execution: dict[str, Any]) -> bool:
        wanted = self._wanted
        if wanted is None:
            # A script may run for ever, beside the turns that are followed: it comes at its end.
            endless = execution["kind"] == "script" and execution["status"] == "running"
            return not (self._follow and endless)
        if wanted in {execution["kind"], execution["id"]}:
            return True
        digits, whole = wanted.replace("-", "").lower(), execution["id"].replace("-", "")
        return len(digits) >= _DIGITS_MIN and (whole.startswith(digits) or whole.endswith(digits))

    def _check_found(self) -> None:
        wanted = self._wanted
        if wanted and not self._logs:
            raise SkepError(
                ErrorCode.NOT_FOUND,
                f"the attempt has no execution {wanted!r}",
                hint="Give its id, 8 or more digits of one, or kind; `hive attempts show` lists"
                " them.",
            )
        kinds = {log.execution["kind"] for log in self._logs.values()}
        if wanted and wanted not in kinds and len(self._logs) > 1:
            raise SkepError(
                ErrorCode.INVALID,
                f"{wanted!r} is more than one execution",
                hint="Give more digits of its id.",
            )

    def _check_whole(self) -> None:
        """Raise where what was printed is not all, and why: an empty log must not be invented."""
        for log in self._logs.values():
            ended = self._ended or log.execution.get("ended_at_ms") is not None
            if ended and not log.closed and not self._attempt["reachable"]:
                node = self._attempt.get("node_name") or self._attempt["node_id"]
                raise SkepError(
                    ErrorCode.NODE_OFFLINE,
                    f"the rest of this log is at the node {node}, which is not connected",
                    hint="It was asked for, and comes when the node is back.",
                    execution_id=log.execution["id"],
                    printed_through=log.after,
                )

    def _done(self) -> bool:
        return self._ended and all(log.closed for log in self._logs.values())

    def _is_read_at_node(self) -> bool:
        return any(log.at_node and not log.closed for log in self._logs.values())

    def _read_all(self, *, follow: bool) -> None:
        for log in list(self._logs.values()):
            if not log.closed:
                self._read(log, follow=follow)
            if follow and not log.closed:
                # One after the other: the next begins when this one is out.
                break
        self._printer.flush()

    def _read(self, log: _Log, *, follow: bool) -> None:
        if not log.begun:
            log.begun = True
            self._printer.header(log.execution)
        self._read_held(log)
        while True:
            wait_ms = _NODE_WAIT_MS if follow and log.at_node else None
            page = self._page(log, log.after, PAGE_ENTRIES, wait_ms=wait_ms)
            log.at_node = page["source"] == "node"
            self._print_page(log, page, hold=follow and not page["closed"])
            moved = page["next"] > log.after
            log.after = max(log.after, page["next"])
            if not (page["more"] and moved):
                log.closed = page["closed"] and not page["more"]
                break
        if log.closed:
            self._read_held(log)

    def _print_page(self, log: _Log, page: dict[str, Any], *, hold: bool) -> None:
        shown: list[tuple[int, bool, dict[str, Any]]] = [
            (entry["n"], False, entry) for entry in page["entries"]
        ]
        shown += [(gap["gap"][0], True, gap) for gap in page["gaps"]]
        shown.sort(key=lambda row: row[0])
        for number, is_gap, row in shown:
            if is_gap:
                first, last = row["gap"]
                if (first, last) not in log.printed_gaps:
                    log.printed_gaps.add((first, last))
                    self._printer.gap(row)
            elif hold and row.get("open"):
                # An unfinished line may grow: it is printed once, when it is whole.
                if number <= page["next"]:
                    log.held.add(number)
            else:
                self._printer.entry(row)

    def _read_held(self, log: _Log) -> None:
        for number in sorted(log.held):
            page = self._page(log, number - 1, 1)
            for entry in page["entries"]:
                if entry["n"] == number and not entry.get("open"):
                    log.held.discard(number)
                    self._printer.entry(entry)

    def _page(
        self, log: _Log, after: int, limit: int, *, wait_ms: int | None = None
    ) -> dict[str, Any]:
        page: dict[str, Any] = (self._ways or self._hive).get(
            f"executions/{path_of(log.execution['id'])}/log",
            after=after,
            limit=limit,
            grep=self._grep,
            wait_ms=wait_ms,
        )
        return page
