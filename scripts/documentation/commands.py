"""The pages of commands, from the command lines themselves."""

from collections.abc import Iterator
from typing import Final

import click

from hive import cli as hive_cli
from node_agent import cli as node_cli
from scripts.documentation.markdown import code, page, paragraphs, table

_EVERYWHERE: Final = """\
Every command also takes `--help`. Every command that answers takes `--json`: it prints one JSON
value on stdout and nothing else there; errors are JSON on stderr, in the shape of
[errors](errors.md). Exit codes: 0 success, 1 failure, 2 wrong use."""
_HIVE: Final = """\
`init`, `serve`, `backup`, `restore` and `doctor` work on the hive's data folder: `--data DIR`, or
`SKEP_HIVE_DATA_DIR`, or a folder of the user's own. All other commands are clients. They read
`SKEP_HIVE_URL`, `SKEP_TOKEN` and `SKEP_CA` (a file with the certificate of the hive's own
authority), or what `hive login` kept. They take `--ca FILE` too.

A noun alone lists: `hive nodes` is `hive nodes list`, with the same options. Where an id is asked
for, give the id, 8 or more of its first or last digits, or, for nodes and projects, the name."""
_NODE: Final = """\
Every command takes `--data DIRECTORY`: the node's data folder. Without it, `SKEP_NODE_DATA_DIR`
says where, or it is a folder of the user's own.

Where an attempt is asked for, give its id, or 8 or more of its first or last digits."""
#: Options that nearly every command has; the page says them once.
_SHARED: Final = frozenset({"--help", "--json", "--version"})


def hive_page() -> str:
    """Return the page of `hive`."""
    blocks = _blocks(hive_cli.root, "hive", hidden=_SHARED | {"--ca"})
    return page("The commands of `hive`", _EVERYWHERE, _HIVE, *blocks)


def node_page() -> str:
    """Return the page of `node-agent`."""
    blocks = _blocks(node_cli.root, "node-agent", hidden=_SHARED | {"--data"})
    return page("The commands of `node-agent`", _EVERYWHERE, _NODE, *blocks)


def _blocks(command: click.Command, path: str, *, hidden: frozenset[str]) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    words = path.split()
    if len(words) > 1:
        yield f"{'#' * min(len(words), 4)} `{path}`"
    yield paragraphs(command.help)
    if not isinstance(command, click.Group) or (command.invoke_without_command and len(words) > 1):
        usage = " ".join(command.collect_usage_pieces(context))
        yield f"```\n{path} {usage}\n```"
        yield table(["option", "meaning"], _options(command, context, hidden))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if (found := command.get_command(context, name)) is not None:
                yield from _blocks(found, f"{path} {name}", hidden=hidden)


def _options(
    command: click.Command, context: click.Context, hidden: frozenset[str]
) -> Iterator[tuple[str, str]]:
    for parameter in command.get_params(context):
        if not isinstance(parameter, click.Option) or hidden.intersection(parameter.opts):
            continue
        record = parameter.get_help_record(context)
        if record is not None:
            yield code(record[0]), record[1]
