"""`hive serve`: run the hive until it is told to stop."""

from typing import Any

import click


@click.command()
@click.option("--data", "data_dir", metavar="DIR", help="The hive's data folder.")
@click.option("--host", help="The address to listen on. Default: 127.0.0.1.")
@click.option("--port", type=int, help="The port; 0 takes a free one. Default: 8700.")
@click.option(
    "--public-url", "public_urls", multiple=True, help="An address nodes and viewers use."
)
@click.option("--tls-cert", metavar="FILE", help="The certificate, with its chain, in PEM.")
@click.option("--tls-key", metavar="FILE", help="The certificate's private key, in PEM.")
@click.option("--behind-proxy", is_flag=True, default=None, help="A proxy in front ends TLS.")
@click.option("--plain-http", is_flag=True, default=None, help="Serve others without TLS.")
@click.option("--log-level", metavar="LEVEL")
@click.option("--log-json", is_flag=True, default=None, help="Log JSON, one object a line.")
@click.option("--json", "as_json", is_flag=True, hidden=True, help="Errors as JSON.")
def serve(
    data_dir: str | None, public_urls: tuple[str, ...], *, as_json: bool, **given: Any
) -> None:
    """Run the hive; logs go to stderr."""
    del as_json  # read by `main`, for the shape of errors
    from hive import log_lines
    from hive.config import load
    from hive.server import run

    config = load(data_dir, flags={"public_urls": list(public_urls) or None, **given})
    log_lines.set_up(config.log_level, as_json=config.log_json)
    run(config)
