"""`hive init`: make the data folder of a new hive, with its keys and the first admin's token."""

from collections.abc import Iterable
from typing import Any

import click

from hive.commands.terminal import Terminal


@click.command()
@click.option("--data", "data_dir", metavar="DIR", help="Where. Default: the user's own folder.")
@click.option("--public-url", "public_urls", multiple=True, help="An address others use.")
@click.option("--port", type=int, help="The port it will listen on, for the address shown.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def init(
    data_dir: str | None, public_urls: tuple[str, ...], port: int | None, *, as_json: bool
) -> None:
    """Make the data folder of a new hive; prints the admin's token, this once."""
    import asyncio

    from hive.config import load
    from hive.founding import found

    config = load(data_dir, flags={"public_urls": list(public_urls) or None, "port": port})
    founded = asyncio.run(found(config))
    made = {
        "hive_id": founded.hive_id,
        "url": config.url,
        "admin_token": founded.admin_token,
        "sign_in_url": f"{config.url}/#sign-in={founded.admin_token}",
    }
    Terminal(as_json=as_json).show(made, lambda shown: _render(str(config.data_dir), shown))


def _render(data_dir: str, made: dict[str, Any]) -> Iterable[Any]:
    yield f"[bold]A new hive[/] in {data_dir}"
    yield ""
    yield f"  its id       {made['hive_id']}"
    yield f"  admin token  [bold]{made['admin_token']}[/]   (shown this once)"
    yield ""
    yield "Next:"
    yield f"  hive serve --data {data_dir}"
    yield f"  export SKEP_HIVE_URL={made['url']} SKEP_TOKEN={made['admin_token']}"
    yield "  hive nodes join-token"
