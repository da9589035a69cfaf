"""`hive doctor`: looks at the data folder for what is wrong, and says what to do about it."""

from collections.abc import Iterable
from typing import Any

import click

from hive.commands.terminal import Terminal

_LOOKS = {"ok": ("✓", "green"), "warning": ("▲", "yellow"), "error": ("✕", "red")}


@click.command()
@click.option("--data", "data_dir", metavar="DIR", help="The hive's data folder.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def doctor(data_dir: str | None, *, as_json: bool) -> int:
    """Look for what is wrong; exits 1 where something is."""
    import msgspec

    from hive.checkup import examine
    from hive.config import load

    config = load(data_dir)
    findings = [msgspec.structs.asdict(found) for found in examine(config)]
    ok = all(found["level"] != "error" for found in findings)
    Terminal(as_json=as_json).show({"ok": ok, "findings": findings}, _render)
    return 0 if ok else 1


def _render(shown: dict[str, Any]) -> Iterable[Any]:
    from rich.text import Text

    for found in shown["findings"]:
        shape, colour = _LOOKS[found["level"]]
        yield Text.assemble((f"{shape} ", colour), (found["name"], "bold"), f"  {found['message']}")
        if found["hint"]:
            yield Text(f"    {found['hint']}", style="cyan")
