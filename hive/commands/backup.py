"""`hive backup` and `hive restore`: copies of the hive's data, made while it runs, and put back."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from hive.commands.terminal import Terminal, facts, size, when


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--data", "data_dir", metavar="DIR", help="The hive's data folder.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def backup(file: Path, data_dir: str | None, *, as_json: bool) -> None:
    """Copy the hive's data to FILE, also while it runs; the copy is verified."""
    import time

    import msgspec

    from hive import failpoints
    from hive.config import load
    from hive.store import backups

    config = load(data_dir)
    failpoints.arm(config.failpoint)
    made = backups.backup(config.database, file, config.backups, int(time.time() * 1000))
    Terminal(as_json=as_json).show(msgspec.structs.asdict(made), _render_made)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--data", "data_dir", metavar="DIR", help="The folder to make, or to put it into.")
@click.option("--force", is_flag=True, help="Put aside the data that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def restore(file: Path, data_dir: str | None, *, force: bool, as_json: bool) -> None:
    """Make the hive's data from a copy. What was revoked stays revoked."""
    import asyncio
    import time

    import msgspec

    from hive import failpoints
    from hive.config import load
    from hive.store import backups
    from hive.store.signing_key import load_or_make_signing_key

    config = load(data_dir)
    failpoints.arm(config.failpoint)
    restored = asyncio.run(
        backups.restore(
            file,
            config.database,
            config.revocations,
            config.lock,
            force=force,
            now_ms=int(time.time() * 1000),
        )
    )
    # On another machine there is none; nodes learn the new one when they connect.
    load_or_make_signing_key(config.signing_key)
    shown = {**msgspec.structs.asdict(restored), "data_dir": str(config.data_dir)}
    Terminal(as_json=as_json).show(shown, _render_restored)


def _render_made(made: dict[str, Any]) -> Iterable[Any]:
    yield "[bold]The copy is whole.[/] Nodes may delete what all copies of the last 7 days hold."
    yield facts(
        [
            ("file", made["path"]),
            ("hive", made["hive_id"]),
            ("size", size(made["bytes"])),
            ("made", when(made["at_ms"])),
        ]
    )


def _render_restored(shown: dict[str, Any]) -> Iterable[Any]:
    yield f"[bold]Restored[/] to {shown['data_dir']}."
    yield facts(
        [
            ("hive", shown["hive_id"]),
            ("generation", shown["generation"]),
            ("revoked again", shown["revoked"] or None),
            ("put aside", shown["replaced"]),
        ]
    )
    yield f"Next: hive serve --data {shown['data_dir']}"
