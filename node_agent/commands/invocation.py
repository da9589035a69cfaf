"""What every command shares: --data and --json, one shape of error, exit codes.

Owns how a command speaks: JSON alone on stdout with --json, else tables and colours for people.
"""

import functools
import math
import os
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from protocol.errors import ErrorBody, ErrorCode, SkepError

if TYPE_CHECKING:
    from rich.console import Console

    from node_agent.config import NodeConfig
    from node_agent.local_client import LocalClient

_FAILED: Final = 1
#: How each phase and outcome of an attempt is drawn.
_COLOURS: Final = {
    "succeeded": "green",
    "succeeded_with_warning": "yellow",
    "failed": "red",
    "lost": "red",
    "stopped": "yellow",
    "running": "cyan",
    "awaiting_input": "magenta",
    "parked": "yellow",
}


class Seconds(click.FloatRange):
    """A number of seconds within bounds; `nan` is in none of them, and `inf` is no number."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; wrong use where it is not finite."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number of seconds.", param, ctx)
        return number


class Invocation:
    """One call of a command: where the node's data is, and how to answer."""

    def __init__(self, data_dir: Path | None, *, as_json: bool) -> None:
        self._data_dir = data_dir
        self.as_json = as_json
        self._config: NodeConfig | None = None
        self._way = ""

    @property
    def config(self) -> "NodeConfig":
        """The node's settings, read at the first use."""
        if self._config is None:
            self._config = self.configure()
        return self._config

    def configure(self, **flags: Any) -> "NodeConfig":
        """Read the settings with what was given as flags."""
        from node_agent import config

        return config.load(self._data_dir, flags=flags)

    def command_line(self, *words: str) -> str:
        """Return a command to try next, for the same node."""
        named = ["--data", str(self._data_dir)] if self._data_dir is not None else []
        return shlex.join(["node-agent", *words, *named])

    @property
    def client(self) -> "LocalClient":
        """The node itself, its agent running or not."""
        from node_agent.local_client import LocalClient

        return LocalClient(self.config, self._tell_way)

    def check_person(self) -> None:
        """Raise OperationError (FORBIDDEN) within an attempt of this node: this is for people."""
        from node_agent.callers import attempt_behind, attempt_in, check_person
        from node_agent.config import process_environment
        from node_agent.identity import read_record

        record = read_record(self.config.data_dir)
        if record is not None:
            node_id = record.node_id
            check_person(
                attempt_in(process_environment(), node_id) or attempt_behind(os.getpid(), node_id)
            )

    def _tell_way(self, way: str) -> None:
        """Say to people which way the answers of another node come, where that changed."""
        if way != self._way and not self.as_json:
            sys.stdout.flush()
            click.secho(f"[{way}]", err=True, dim=True)
        self._way = way

    @functools.cached_property
    def console(self) -> "Console":
        """Where people read."""
        from rich.console import Console

        class PipedConsole(Console):
            def on_broken_pipe(self) -> None:
                # Who read has seen enough: no failure, as for all that is printed without rich.
                raise BrokenPipeError

        return PipedConsole(highlight=False, soft_wrap=True)

    def reply(self, value: Any, show: Callable[[Any], None]) -> None:
        """Answer: `value` as JSON, or what `show` draws of it."""
        if self.as_json:
            self.reply_json(value)
        else:
            show(value)

    def reply_json(self, value: Any) -> None:
        """Write one JSON value as a line of stdout."""
        sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
        sys.stdout.buffer.flush()

    def say(self, text: str) -> None:
        """Write a line for people; `text` may hold rich's markup."""
        self.console.print(text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
        """Draw a table, or say `empty`."""
        from rich import box
        from rich.table import Table

        if not rows:
            self.say(f"[dim]{empty}[/dim]")
            return
        drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, header_style="bold", pad_edge=False)
        for number, column in enumerate(columns):
            drawn.add_column(column, no_wrap=number == 0, overflow="fold")
        for row in rows:
            drawn.add_row(*row)
        self.console.print(drawn)

    def more(self, place: str | None) -> None:
        """Say how to go on from where a page ends, if it is not the last."""
        if place:
            self.say(f"[dim]More: --after {plain(place)}[/]")

    def facts(self, rows: Sequence[tuple[str, str]]) -> None:
        """Draw names and values below each other; empty values are left out."""
        from rich.table import Table

        drawn = Table.grid(padding=(0, 2))
        drawn.add_column(style="bold", no_wrap=True)
        drawn.add_column(overflow="fold")
        for name, value in rows:
            if value:
                drawn.add_row(name, value)
        self.console.print(drawn)


def node_command(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command --data and --json, and its errors their shape and exit code."""

    @click.option(
        "--data",
        "data_dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="The node's data folder.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Answer with one JSON value.")
    @functools.wraps(function)
    def called(*args: Any, data_dir: Path | None, as_json: bool, **options: Any) -> None:
        with _errors_in_shape(as_json=as_json):
            function(Invocation(data_dir, as_json=as_json), *args, **options)

    return called


def page_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a list --limit and --after."""
    function = click.option("--after", help="Go on behind a list's `next`.")(function)
    return click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)(
        function
    )


def new_key() -> str:
    """Return an idempotency key of its own for one call of a changing command."""
    return str(uuid.uuid4())


@contextmanager
def _errors_in_shape(*, as_json: bool) -> Iterator[None]:
    try:
        yield
    except SkepError as error:
        complain(error.body(), as_json=as_json)
        sys.exit(_FAILED)
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        body = ErrorBody(
            code=ErrorCode.INTERNAL.value,
            message=f"{error.strerror or error}{where}",
            hint="Check that the data folder is yours and that its disk has room.",
        )
        complain(body, as_json=as_json)
        sys.exit(_FAILED)


def complain(body: ErrorBody, *, as_json: bool) -> None:
    """Write an error to stderr: in its one shape, or for people."""
    if as_json:
        sys.stderr.write(msgspec.json.encode({"error": body}).decode() + "\n")
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]error[/] {plain(body.message)} [dim]({body.code})[/]")
    if body.hint:
        console.print(f"[bold]hint[/]  {plain(body.hint)}")


# --- how values are written for people ------------------------------------------------------------


def plain(text: object) -> str:
    """Return text that rich prints as it is, and that does nothing to a terminal."""
    from rich.markup import escape

    from protocol import transcript

    return "" if text is None else escape(transcript.plain(str(text)))


def coloured(word: str | None) -> str:
    """Return a phase or outcome in its colour."""
    if not word:
        return ""
    colour = _COLOURS.get(word)
    return f"[{colour}]{word}[/]" if colour else word


def standing(status: str, one: Mapping[str, Any]) -> str:
    """Return a state, or that it is parked and until when, or since when its agent is silent."""
    if until_ms := one.get("parked_until_ms"):
        return f"{coloured('parked')} until {moment(until_ms)}"
    if since_ms := one.get("silent_since_ms"):
        return f"{coloured(status)} [yellow]silent since {moment(since_ms)}[/]"
    return coloured(status)


def moment(at_ms: int | None) -> str:
    """Return a time as the clock on this machine's wall shows it."""
    if not at_ms:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))


def ago(at_ms: int | None) -> str:
    """Return how long ago that was, in the unit a person would use."""
    if not at_ms:
        return ""
    passed_s = max(0, int(time.time() - at_ms / 1000))
    return f"{length(passed_s)} ago"


def length(seconds: float) -> str:
    """Return a length of time in the unit a person would use."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def size_of(count: int) -> str:
    """Return a number of bytes in the unit a person would use."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count = count / 1024  # type: ignore[assignment]
    return f"{count:.1f} GiB"
