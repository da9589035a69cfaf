"""The pages of settings, and `.env.example`, from `HiveConfig` and `NodeConfig`."""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin

import msgspec

from hive import config as hive_config
from node_agent import config as node_config
from scripts.documentation.markdown import code, page, table

#: For tests of crashes; not for the ones who read these pages.
#: What has no place in an environment.
_SECTIONS: Final = "sections"
_HIDDEN: Final = frozenset({"failpoint"})
_ORDER: Final = """\
Where a setting comes from, the later winning over the earlier: its default; the file
`config.toml` in the data folder; the environment; a flag of the command line. A name that is not
on this page is refused, with the place it came from. In the environment a list is written with
commas."""

_EXAMPLE: Final = """\
# Every setting that can come from the environment, with its default. Made by scripts/docs.
# Nothing reads this file by itself: give a copy to your service manager (EnvironmentFile= of
# systemd) or to your shell."""


class Setting(NamedTuple):
    """One setting as a reader needs it."""

    name: str
    variable: str
    kind: str
    default: Any
    description: str
    bounds: str


def hive_page() -> str:
    """Return the page of the hive's settings."""
    example = 'public_urls = ["https://hive.example.org"]\nlog_json = true'
    return page(
        "Settings of a hive",
        _ORDER,
        f"An example of `config.toml`:\n\n```toml\n{example}\n```",
        _table(_settings(hive_config.HiveConfig, hive_config.ENVIRONMENT_PREFIX)),
        "## What client commands read",
        table(
            ["variable", "meaning"],
            [
                (code("SKEP_HIVE_URL"), "The hive to call."),
                (code("SKEP_TOKEN"), "The token to call it with."),
                (code("SKEP_CA"), "A file with the certificate of the hive's own authority."),
            ],
        ),
    )


def node_page() -> str:
    """Return the page of a node's settings."""
    example = 'slots = 4\nlabels = ["gpu"]\nrefuse = ["executor:command"]'
    return page(
        "Settings of a node agent",
        _ORDER,
        f"An example of `config.toml`:\n\n```toml\n{example}\n```",
        _table(_settings(node_config.NodeConfig, node_config.ENVIRONMENT_PREFIX)),
    )


def environment_example() -> str:
    """Return `.env.example`: every variable with its default, commented out."""
    blocks = [_EXAMPLE]
    for title, kind, prefix in (
        ("The hive", hive_config.HiveConfig, hive_config.ENVIRONMENT_PREFIX),
        ("The node agent", node_config.NodeConfig, node_config.ENVIRONMENT_PREFIX),
    ):
        blocks.append(f"# --- {title} ---")
        for setting in _settings(kind, prefix):
            if setting.kind == _SECTIONS:
                continue
            said = textwrap.wrap(
                setting.description, 96, initial_indent="# ", subsequent_indent="# "
            )
            value = "" if setting.name == "data_dir" else _plain(setting.default)
            blocks.append("\n".join([*said, f"#{setting.variable}={value}"]))
    blocks.append("# --- Client commands of hive ---\n#SKEP_HIVE_URL=\n#SKEP_TOKEN=\n#SKEP_CA=")
    return "\n\n".join(blocks) + "\n"


def _table(settings: Iterator[Setting]) -> str:
    rows = (
        (
            code(one.name),
            code(one.variable) if one.kind != _SECTIONS else "(the file alone)",
            one.kind + (f", {one.bounds}" if one.bounds else ""),
            _default(one),
            one.description,
        )
        for one in settings
    )
    return table(["setting", "environment", "kind", "default", "meaning"], rows)


def _default(one: Setting) -> str:
    if one.default is None:
        return "(none)"
    if one.name == "data_dir":
        return str(one.default)
    return code(_plain(one.default)) or "(empty)"


def _settings(kind: type[msgspec.Struct], prefix: str) -> Iterator[Setting]:
    for field in msgspec.structs.fields(kind):
        if field.name in _HIDDEN:
            continue
        type_, meta = field.type, None
        if get_origin(type_) is Annotated:
            type_, meta = get_args(type_)[0], get_args(type_)[1]
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if field.name == "data_dir":
            default = "the user's own folder"
        yield Setting(
            name=field.name,
            variable=prefix + field.name.upper(),
            kind=_kind(type_),
            default=default,
            description=getattr(meta, "description", None) or "",
            bounds=_bounds(meta),
        )


def _kind(type_: Any) -> str:
    plain = [
        get_args(one)[0] if get_origin(one) is Annotated else one
        for one in get_args(type_) or (type_,)
        if one is not type(None)
    ]
    if get_origin(type_) is list:
        return "list"
    if get_origin(type_) is dict:
        return _SECTIONS
    # What may also be left out has its bounds inside.
    named = get_args(plain[0])[0] if get_origin(plain[0]) is Annotated else plain[0]
    names = {bool: "yes or no", int: "whole number", float: "number", str: "text", Path: "path"}
    return names[named]


def _bounds(meta: Any) -> str:
    lowest, least = getattr(meta, "ge", None), getattr(meta, "gt", None)
    highest = getattr(meta, "le", None)
    if lowest is not None and highest is not None:
        return f"{lowest} to {highest}"
    if lowest is not None:
        return f"{lowest} or more"
    return f"more than {least}" if least is not None else ""


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(str(one) for one in value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
