"""What the demo shows: a line for each step with the time it took, and what happens below it.

Must not know what the steps do.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_WIDTH_MAX: Final = 100
_OUTCOMES: Final = {
    "succeeded": ("✓", "green"),
    "stopped": ("■", "yellow"),
    "failed": ("✕", "red"),
    "lost": ("▲", "red"),
}


class StepFailed(Exception):  # noqa: N818  what happened, in the words of the story
    """A step did not work: what was expected, and what a person can do about it."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.hint = hint


class Screen:
    """Where the story is told."""

    def __init__(self) -> None:
        found = Console(highlight=False)
        # In a file or a pipe there is no width; there, lines are never folded.
        self.console = Console(
            highlight=False,
            width=min(found.width, _WIDTH_MAX) if found.is_terminal else _WIDTH_MAX,
            soft_wrap=not found.is_terminal,
        )
        #: What is under way, until its name has been shown above its first detail.
        self._heading = ""

    def title(self, text: str, below: str) -> None:
        self.console.print(f"\n[bold #CC785C]{escape(text)}[/]  [bright_black]{escape(below)}[/]\n")

    @contextmanager
    def step(self, doing: str, done: str = "") -> Iterator[None]:
        """Show that something is under way, then that it is done and how long it took."""
        begun = time.monotonic()
        self._heading = doing
        try:
            if self.console.is_terminal:
                with self.console.status(f"{escape(doing)} …", spinner_style="#CC785C"):
                    yield
            else:
                yield
        except Exception as error:
            mark = "[red]✕[/]" if isinstance(error, StepFailed) else "[yellow]■[/]"
            self._settled(mark, doing, time.monotonic() - begun)
            raise
        self._settled("[green]✓[/]", done or doing, time.monotonic() - begun)

    def _settled(self, mark: str, text: str, took_s: float) -> None:
        self._heading = ""
        took = f"{took_s:.1f} s"
        room = max(1, self.console.width - 4 - len(text) - len(took))
        self.console.print(f" {mark} [bold]{escape(text)}[/]{' ' * room}[bright_black]{took}[/]")

    def detail(self, text: str) -> None:
        """A line below the step that is under way."""
        self._below(Text(text, style="bright_black"))

    def command(self, line: str) -> None:
        """The command a step ran, as a person would type it."""
        self._below(Text.assemble(("$ ", "#CC785C"), (line, "bright_black")))

    def printed(self, who: str, text: str) -> None:
        """A line that came live from an attempt."""
        self._below(Text.assemble((f"{who} │ ", "cyan"), text))

    def said(self, who: str, text: str) -> None:
        """A line of a conversation: who, and what."""
        self._below(Text.assemble((f"{who:>6} │ ", "cyan"), text))

    def patch(self, lines: Sequence[str]) -> None:
        """A piece of a diff."""
        for line in lines:
            colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "bright_black")
            self._below(Text(line, style=colour))

    def check(self, text: str, *, holds: bool, why: str) -> None:
        mark = "[green]✓[/]" if holds else "[red]✕[/]"
        self.console.print(f" {mark} {escape(text)}")
        if not holds:
            self._below(Text(why, style="red"))

    def _below(self, text: Text) -> None:
        if self._heading:
            self.console.print(f" [#CC785C]▸[/] {escape(self._heading)}")
            self._heading = ""
        text.no_wrap, text.overflow = True, "ellipsis"
        room = max(20, self.console.width - 3)
        text.truncate(room, overflow="ellipsis")
        self.console.print(Text("   ") + text)

    def attempts(self, rows: Sequence[Sequence[str]]) -> None:
        """The attempts of the story and how each ended."""
        table = Table(box=box.SIMPLE_HEAD, header_style="bold #CC785C", pad_edge=False)
        for name in ("attempt", "task", "node", "outcome", "lines", "took", "branch"):
            right = name in {"lines", "took"}
            # Only the branch, which repeats what stands before it, is shortened.
            table.add_column(
                name,
                justify="right" if right else "left",
                no_wrap=name != "branch",
                overflow="ellipsis",
            )
        for attempt, task, node, outcome, *rest in rows:
            shape, colour = _OUTCOMES.get(outcome, ("?", "yellow"))
            shown = Text(f"{shape} {outcome}", style=colour)
            table.add_row(Text(attempt, style="yellow"), task, node, shown, *map(Text, rest))
        self.console.print()
        self.console.print(table)

    def next_steps(self, heading: str, lines: Sequence[str]) -> None:
        """What to try next; never folded, so that it can be copied."""
        self.console.print(f"[bold]{escape(heading)}[/]\n")
        for line in lines:
            self.console.print(Text(f"  {line}"), soft_wrap=True)
        self.console.print()

    def say(self, text: str) -> None:
        self.console.print(text)

    def failed(self, error: StepFailed, logs: str) -> None:
        """Which step failed was said already; why, what to do, where to look."""
        self.console.print(Text("   ") + Text(error.why, style="red"), soft_wrap=True)
        if error.hint:
            self.console.print(f"   [cyan]hint[/] {escape(error.hint)}", soft_wrap=True)
        self.console.print(f"   [cyan]logs[/] {escape(logs)}", soft_wrap=True)
