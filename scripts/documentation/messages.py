"""The page of the wire: every frame, op and record, from `protocol.messages` and its neighbours."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, get_args, get_origin

import msgspec

from protocol import entities, messages, ops
from protocol.errors import ErrorBody
from scripts.documentation.markdown import code, page, paragraphs, table

_PARTS: tuple[type[msgspec.Struct], ...] = (
    ops.Op,
    ops.Record,
    ops.EpochState,
    messages.EpochMark,
    messages.LogState,
    messages.LogMark,
    messages.Fork,
    messages.NeedOutcome,
    messages.OutboxState,
    messages.ProjectLink,
    entities.ProcessIdentity,
    ErrorBody,
)


def messages_page() -> str:
    """Return the page of the wire."""
    reserved = ", ".join(code(tag) for tag in sorted(messages.RESERVED_TAGS))
    kinds = ", ".join(code(kind) for kind in sorted(ops.RESERVED_KINDS))
    return page(
        "What goes over the wire",
        "One WebSocket from node to hive, at `/v1/link`. Frames are msgpack maps with the tag under"
        f" `type`. WebSocket subprotocol: {', '.join(map(code, messages.SUBPROTOCOLS))}. How the"
        " two ends use them stands in [the rules of the link](../architecture/link.md); sizes in"
        " [limits](limits.md).",
        "## From the node",
        *_frames(get_args(messages.NodeMessage)),
        "## From the hive",
        *_frames(get_args(messages.HiveMessage)),
        f"Reserved tags, never used for anything else: {reserved}.",
        "## Parts of frames",
        *_structs(_PARTS),
        "## Kinds of ops",
        paragraphs(ops.__doc__).split("\n\n")[-1],
        *_kinds(),
        f"Reserved kinds: {kinds}.",
    )


def _frames(kinds: Iterable[type[msgspec.Struct]]) -> Iterator[str]:
    for kind in kinds:
        yield f"### `{kind.__struct_config__.tag}`"
        yield paragraphs(kind.__doc__)
        yield _fields(kind)


def _structs(kinds: Iterable[type[msgspec.Struct]]) -> Iterator[str]:
    for kind in kinds:
        yield f"### {kind.__name__}"
        form = "An array on the wire. " if kind.__struct_config__.array_like else ""
        yield form + paragraphs(kind.__doc__)
        yield _fields(kind)


def _kinds() -> Iterator[str]:
    for kind, body in ops.BODIES.items():
        yield f"### op `{kind.value}`: {body.__name__}"
        yield paragraphs(body.__doc__)
        yield _fields(body)


def _fields(kind: type[msgspec.Struct]) -> str:
    rows = []
    for field in msgspec.structs.fields(kind):
        default = "" if field.required else code(_default(field))
        rows.append((code(field.encode_name), type_name(field.type), default))
    return table(["field", "type", "default"], rows)


def _default(field: Any) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
        return "{}" if value == {} else "[]" if value == [] else type(value).__name__
    if isinstance(field.default, msgspec.Struct):
        return "all defaults"
    return repr(field.default)


def type_name(kind: Any) -> str:
    """Return a type as a reader needs it."""
    if get_origin(kind) is Annotated:
        return type_name(get_args(kind)[0])
    arguments = get_args(kind)
    if not arguments:
        return "none" if kind is type(None) else getattr(kind, "__name__", str(kind))
    if getattr(kind, "__origin__", None) is None or type(None) in arguments:
        return " or ".join(type_name(one) for one in arguments)
    inner = ", ".join(type_name(one) for one in arguments if one is not ...)
    origin = kind.__origin__.__name__
    return {"list": f"list of {inner}", "dict": f"map of {inner}"}.get(origin, f"({inner})")
