"""What commands print: one JSON value for programs, tables and colours for people.

Owns how times, ids and states look. Must not call the hive.
"""

import itertools
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Final

import click
import msgspec

from hive.config import wants_colours
from protocol.errors import ErrorBody
from protocol.transcript import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_WIDTH_PIPED: Final = 240
#: On a screen narrower than this, columns that can be done without are left out.
_WIDTH_WIDE: Final = 110
#: State -> shape and colour. Shape and word differ too, for those who see no colours.
_LOOKS: Final[dict[str, tuple[str, str]]] = {
    "online": ("●", "green"),
    "offline": ("○", "bright_black"),
    "draining": ("◐", "yellow"),
    "quarantined": ("▲", "red"),
    "revoked": ("✕", "red"),
    "idle": ("○", "bright_black"),
    "busy": ("●", "cyan"),
    "waiting": ("◐", "yellow"),
    "error": ("▲", "red"),
    "draft": ("·", "bright_black"),
    "ready": ("○", "blue"),
    "queued": ("◌", "blue"),
    "in_progress": ("◐", "cyan"),
    "in_review": ("◆", "magenta"),
    "done": ("✓", "green"),
    "failed": ("✕", "red"),
    "cancelled": ("−", "bright_black"),  # noqa: RUF001  a minus is the shape meant
    "created": ("·", "blue"),
    "preparing": ("◌", "blue"),
    "running": ("●", "cyan"),
    "awaiting_input": ("?", "yellow"),
    "parked": ("◔", "yellow"),
    "finishing": ("◐", "cyan"),
    "succeeded": ("✓", "green"),
    "succeeded_with_warning": ("✓", "yellow"),
    "stopped": ("■", "yellow"),
    "killed": ("✕", "red"),
    "lost": ("▲", "red"),
    "complete": ("✓", "green"),
    "partial": ("◔", "yellow"),
    "backfilling": ("↻", "cyan"),
    "unknown": ("?", "yellow"),
    "sent": ("◌", "blue"),
    "delivered": ("◌", "cyan"),
    "expired": ("−", "yellow"),  # noqa: RUF001  a minus is the shape meant
}


#: Columns whose cells stay on one line.
_WHOLE: Final = frozenset({"id", "when", "status", "activity", "last seen", "took", "held here"})


class Terminal:
    """Where a command's outcome goes."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def show(self, value: Any, render: Callable[[Any], Iterable[Any]]) -> None:
        """Print `value` as JSON, or what `render` makes of it for people."""
        if self.as_json:
            print_json(value)
            return
        console = stdout_console()
        for part in render(value):
            console.print(part)

    def note(self, text: str) -> None:
        """Say something beside the outcome, to people only."""
        if not self.as_json:
            click.echo(text, err=True)


def print_json(value: Any) -> None:
    """Print one JSON value on a line of its own."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def print_error(body: ErrorBody, *, as_json: bool) -> None:
    """Print an error on stderr, in the one shape or in words."""
    if as_json:
        click.echo(msgspec.json.encode({"error": body}).decode(), err=True)
        return
    colours = coloured(sys.stderr)
    code = click.style(body.code, fg="red", bold=True)
    line = f"{click.style('error', fg='red')} {code}: {plain(body.message)}"
    click.echo(line, err=True, color=colours)
    for name, value in body.details.items():
        if _is_plain(value):
            line = f"  {name.removesuffix('_ms').removesuffix('_at')}: {_detail(name, value)}"
            click.echo(click.style(plain(line), dim=True), err=True, color=colours)
    if body.hint:
        line = f"  {click.style('hint', fg='cyan')}: {plain(body.hint)}"
        click.echo(line, err=True, color=colours)


def coloured(stream: IO[str]) -> bool:
    """Whether what is written there is to have colours."""
    return stream.isatty() and wants_colours()


def stdout_console() -> "Console":
    """Return the console for people; rich is imported only here, since it takes its time."""
    from rich.console import Console

    class PipedConsole(Console):
        def on_broken_pipe(self) -> None:
            # Who read has seen enough: no failure, as for all that is printed without rich.
            raise BrokenPipeError

    # What is read by a file or another program is not folded to the width of a screen.
    return PipedConsole(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_PIPED)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> "Table":
    """Return a table; a column is `>name` to stand right, `name?` to be left out where narrow."""
    from rich import box
    from rich.table import Table

    made = Table(
        # It may be the name of a folder.
        title=written(title) if title else None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        header_style="bold #CC785C",
        pad_edge=False,
    )
    narrow = sys.stdout.isatty() and stdout_console().width < _WIDTH_WIDE
    shown = [not (narrow and name.endswith("?")) for name in columns]
    for name in itertools.compress(columns, shown):
        title = name.removeprefix(">").removesuffix("?")
        made.add_column(
            title,
            justify="right" if name.startswith(">") else "left",
            min_width=len(title),
            no_wrap=title in _WHOLE,
            overflow="fold",
        )
    for row in rows:
        made.add_row(*(_cell(value) for value in itertools.compress(row, shown)))
    return made


def facts(rows: Iterable[tuple[str, Any]]) -> "Table":
    """Return one thing's fields, a line each; what there is none of is left out."""
    from rich.table import Table

    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column(style="bright_black", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        if value not in (None, "", [], {}):
            made.add_row(name, _cell(value))
    return made


def state(name: str | None) -> Any:
    """Return a state as shape, word and colour."""
    from rich.text import Text

    if not name:
        return Text("")
    shape, colour = _LOOKS.get(name, ("", "default"))
    return Text(f"{shape} {name.replace('_', ' ')}".strip(), style=colour)


def standing(status: str, one: Mapping[str, Any]) -> Any:
    """Return a state, or that it is parked and until when, or since when its agent is silent."""
    from rich.text import Text

    if until_ms := one.get("parked_until_ms"):
        return Text.assemble(state("parked"), f" until {moment(until_ms)}")
    if since_ms := one.get("silent_since_ms"):
        return Text.assemble(state(status), (f" silent since {moment(since_ms)}", "yellow"))
    return state(status)


def short(identifier: str | None) -> Any:
    """Return the part of an id that people type: its last 8 digits."""
    from rich.text import Text

    return Text((identifier or "").replace("-", "")[-8:], style="yellow")


def when(at_ms: int | None) -> str:
    """Return a time as people read it, in local time, with how long ago where that is recent."""
    if not at_ms:
        return ""
    ago_s = time.time() - at_ms / 1000
    if 0 <= ago_s < 60:
        return f"{int(ago_s)} s ago"
    if 0 <= ago_s < 3600:
        return f"{int(ago_s // 60)} min ago"
    return moment(at_ms)


def moment(at_ms: int) -> str:
    """Return a time as a clock on the wall shows it, with the day where that is not today."""
    shown = time.localtime(at_ms / 1000)
    today = time.localtime()[:3] == shown[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", shown)


def duration(from_ms: int | None, to_ms: int | None) -> str:
    """Return how long something took, or has been taking."""
    if not from_ms:
        return ""
    seconds = max(0, int((to_ms or time.time() * 1000) - from_ms)) / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size(nbytes: int | None) -> str:
    """Return a size in bytes as people read it."""
    if nbytes is None:
        return ""
    shown = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if shown < 1024 or unit == "GiB":
            return f"{shown:.0f} {unit}" if unit == "B" else f"{shown:.1f} {unit}"
        shown /= 1024
    raise AssertionError  # pragma: no cover  the last unit always returns


def more(page: dict[str, Any]) -> Iterable[str]:
    """Yield how to see the next page, where there is one."""
    if page.get("next"):
        yield f"[bright_black]more: --cursor {page['next']}[/]"


def written(text: str, style: str = "") -> "Text":
    """Return text as others wrote it: brackets are no markup, and nothing moves the cursor."""
    from rich.text import Text

    return Text(plain(text), style=style)


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return written(value) if isinstance(value, str) else value if _is_rich(value) else str(value)


def _is_rich(value: Any) -> bool:
    return hasattr(value, "__rich_console__") or hasattr(value, "__rich__")


def _detail(name: str, value: Any) -> Any:
    """Return a time as people read it, and all else as it is."""
    if name.endswith("_at_ms"):
        return when(value)
    return f"{value} ms" if name.endswith("_ms") else value


def _is_plain(value: Any) -> bool:
    return value not in ("", None) and isinstance(value, str | int | float | bool)
