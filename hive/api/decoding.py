"""Queries and bodies into Structs: unknown names are refused, and errors name the field.

Must not know any route.
"""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar, get_args

import msgspec
from aiohttp import web

from protocol.errors import ErrorCode, SkepError
from protocol.whole_numbers import field_out_of_range
from protocol.wrong_fields import choices_of, wrong_field

S = TypeVar("S", bound=msgspec.Struct)

PAGE_MAX: Final = 200
PAGE_DEFAULT: Final = 50
KEY_CHARACTERS_MAX: Final = 200


class InvalidInput(SkepError):  # noqa: N818  said of the input
    """What the caller sent cannot be used; `field` names the part at fault."""

    def __init__(self, message: str, *, field: str = "", hint: str = "") -> None:
        super().__init__(ErrorCode.INVALID, message, hint=hint, field=field)


def query_of(request: web.Request, kind: type[S], *, besides: frozenset[str] = frozenset()) -> S:
    """Return the query as `kind`; names in `besides` are read elsewhere."""
    given: dict[str, Any] = {}
    lists = _list_fields(kind)
    for name, value in request.query.items():
        if name in besides:
            continue
        if name in lists:
            given.setdefault(name, []).extend(value.split(","))
        elif name in given:
            raise InvalidInput(f"{name} is given twice", field=name)
        else:
            given[name] = value
    return convert(given, kind, strict=False)


async def body_of(
    request: web.Request, kind: type[S], of_path: Mapping[str, str] = MappingProxyType({})
) -> S:
    """Return the JSON body as `kind`, with what the path named; no body is an empty object."""
    given = await json_of(request)
    if not isinstance(given, dict):
        raise InvalidInput("the body is not a JSON object")
    return convert({**given, **of_path}, kind)


async def json_of(request: web.Request) -> Any:
    """Return the JSON body as it is; no body is an empty object."""
    content = await request.read()
    if not content.strip():
        return {}
    if request.content_type not in {"application/json", "application/octet-stream"}:
        raise InvalidInput(
            f"the body is {request.content_type}",
            field="",
            hint="Send JSON, with Content-Type: application/json.",
        )
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"the body is not JSON: {error}") from error


def convert(given: Mapping[str, Any], kind: type[S], *, strict: bool = True) -> S:
    """Return `given` as `kind`; raise InvalidInput naming the first field at fault."""
    known = _fields(kind)
    for name in given:
        if name not in known:
            hint = f"There are: {', '.join(known)}." if known else "It takes none."
            raise InvalidInput(f"there is no field {name[:100]!r}", field=name[:100], hint=hint)
    if not strict:
        given = {name: _as_bool(value) if known[name] else value for name, value in given.items()}
    try:
        made = msgspec.convert(given, kind, strict=strict)
    except msgspec.ValidationError as error:
        wrong = wrong_field(error)
        raise InvalidInput(
            wrong.message, field=wrong.field, hint=_choices(kind, wrong.field)
        ) from error
    try:
        field = field_out_of_range(made)
    except RecursionError as error:
        raise InvalidInput("it is nested too deep") from error
    if field:
        raise InvalidInput(f"{field}: the number is too large", field=field)
    return made


def _choices(kind: type[msgspec.Struct], field: str) -> str:
    words = choices_of(kind, field)
    return f"One of: {', '.join(words)}." if words else ""


def idempotency_key(request: web.Request) -> str | None:
    """Return the key of a changing request, if it carries one."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    key = key.strip()
    if not key or len(key) > KEY_CHARACTERS_MAX or not key.isprintable():
        raise InvalidInput(
            f"Idempotency-Key must be 1 to {KEY_CHARACTERS_MAX} printable characters",
            field="Idempotency-Key",
        )
    return key


@functools.lru_cache(maxsize=256)
def _fields(kind: type[msgspec.Struct]) -> dict[str, bool]:
    """The names of a Struct, each with whether it is a truth value."""
    return {
        field.encode_name: field.type is bool or bool in get_args(field.type)
        for field in msgspec.structs.fields(kind)
    }


@functools.lru_cache(maxsize=256)
def _list_fields(kind: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(
        field.encode_name for field in msgspec.structs.fields(kind) if "list[" in str(field.type)
    )


def _as_bool(value: Any) -> Any:
    # A bare `?stat` means yes.
    return True if value == "" else value
