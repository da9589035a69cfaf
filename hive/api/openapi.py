"""The description of the API, made from the routes and their Structs, and the page that shows it.

Must not describe anything by hand: what is not in the table of routes is not in the description.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from aiohttp import web

from hive.access import ROUTES, Need
from hive.api.examples import example_of
from hive.api.middleware import Handler
from hive.api.replies import ErrorReply
from protocol.errors import ErrorCode

_REFERENCE: Final = "#/components/schemas/{name}"
_FILES: Final = {
    "docs.css": "text/css",
    "docs.js": "text/javascript",
}
_FOLDER: Final = Path(__file__).parent / "docs"


class RouteExample(NamedTuple):
    """What a route takes and answers, where its Structs alone do not say it."""

    request: msgspec.Struct | None = None
    #: A text, where the reply is no JSON or is made as it is sent.
    reply: msgspec.Struct | str | None = None


class Route(NamedTuple):
    """One row of the API: what is called how, what it takes and what it answers."""

    method: str
    path: str
    handler: Handler
    summary: str
    #: The Struct of the query, of the body, and of the reply (None: no content).
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    reply: Any = None
    status: int = 200
    #: Where the reply is no JSON.
    media_type: str = "application/json"
    #: Takes an Idempotency-Key.
    changing: bool = False
    errors: tuple[ErrorCode, ...] = ()
    #: What is answered with 202 where it was kept instead.
    kept_reply: Any = None
    example: RouteExample = RouteExample()

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


def describe(routes: Sequence[Route], *, server_url: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of `routes`."""
    replies = [route.reply for route in routes if route.reply is not None]
    replies += [route.kept_reply for route in routes if route.kept_reply is not None]
    bodies = [route.body for route in routes if route.body is not None]
    queries = [route.query for route in routes if route.query is not None]
    kinds = _unique([*replies, *bodies, *queries, ErrorReply])
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    by_kind = {repr(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(_plain_path(route.path), {})[route.method.lower()] = _operation(
            route, by_kind, components
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Skep",
            "version": version("skep"),
            "description": "Run coding agents on every machine a team owns; see and steer each"
            " run from one hive.",
        },
        "servers": [{"url": server_url}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, by_kind: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    requirement = ROUTES.get(route.name)
    described: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "tags": [_noun(route.path)],
        "x-role": requirement.name.lower() if requirement is not None else "nobody",
        "parameters": _parameters(route, by_kind, components),
        "responses": {
            str(route.status): _reply(route, by_kind),
            "default": {
                "description": "What went wrong, in the one shape.",
                "content": _json(ErrorReply, by_kind),
            },
        },
    }
    if requirement is Need.NOBODY:
        described["security"] = []
    if route.kept_reply is not None:
        described["responses"]["202"] = {
            "description": "Kept until the node is back.",
            "content": _json(route.kept_reply, by_kind),
        }
    if route.changing:
        described["x-changing"] = True
    if route.errors:
        described["x-errors"] = [code.value for code in route.errors]
    if route.body is not None:
        asked = _told(route.example.request or example_of(route.body))
        taken = {field.encode_name for field in msgspec.structs.fields(route.body)}
        described["requestBody"] = {"content": _json(route.body, by_kind)}
        described["requestBody"]["content"]["application/json"]["example"] = {
            name: value for name, value in asked.items() if name in taken
        }
    return described


def _reply(route: Route, by_kind: dict[str, Any]) -> dict[str, Any]:
    told = route.example.reply
    if route.reply is not None:
        example = None if isinstance(told, str) else told
        return {"description": route.summary, "content": _json(route.reply, by_kind, example)}
    if route.status == 204:
        return {"description": "Done; nothing to say."}
    content: dict[str, Any] = {}
    if isinstance(told, str):
        is_json = route.media_type == "application/json"
        content["example"] = msgspec.json.decode(told) if is_json else told
    return {"description": route.summary, "content": {route.media_type: content}}


def _json(
    kind: Any, by_kind: dict[str, Any], example: msgspec.Struct | None = None
) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": by_kind[repr(kind)]}
    shown = example if example is not None else example_of(kind)
    if shown is not None:
        content["example"] = msgspec.to_builtins(shown, builtin_types=(), str_keys=True)
    return {"application/json": content}


def _parameters(
    route: Route, by_kind: dict[str, Any], components: dict[str, Any]
) -> list[dict[str, Any]]:
    in_path = _told(route.example.request)
    parameters: list[dict[str, Any]] = []
    for name in _path_names(route.path):
        one = {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        parameters.append({**one, "example": in_path[name]} if name in in_path else one)
    if route.query is not None:
        schema = components[by_kind[repr(route.query)]["$ref"].rpartition("/")[2]]
        required = set(schema.get("required", ()))
        shown = _told(route.example.request or example_of(route.query))
        for name, field in schema["properties"].items():
            one = {"name": name, "in": "query", "required": name in required, "schema": field}
            parameters.append({**one, "example": shown[name]} if name in shown else one)
    if route.changing:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "maxLength": 200},
            }
        )
    return parameters


def _told(example: msgspec.Struct | None) -> dict[str, Any]:
    # What a caller would write: no field that has its default anyway.
    if example is None:
        return {}
    said: dict[str, Any] = msgspec.to_builtins(example)
    bare = {
        field.encode_name
        for field in msgspec.structs.fields(example)
        if not field.required and not getattr(example, field.name)
    }
    return {name: value for name, value in said.items() if name not in bare}


def _unique(kinds: list[Any]) -> list[Any]:
    return list({repr(kind): kind for kind in kinds}.values())


def _plain_path(path: str) -> str:
    # `{path:...}` of the router is `{path}` to the reader.
    parts = [part.partition(":")[0] + "}" if ":" in part else part for part in path.split("/")]
    return "/".join(parts)


def _path_names(path: str) -> list[str]:
    parts = _plain_path(path).split("/")
    return [part[1:-1] for part in parts if part.startswith("{")]


def _noun(path: str) -> str:
    words = [part for part in path.split("/") if part not in {"", "api", "v1"}]
    return words[0] if words else "page"


def _operation_id(route: Route) -> str:
    words = [
        part.strip("{}").replace("-", "_").replace(".", "_")
        for part in _plain_path(route.path).split("/")
        if part not in {"", "api"}
    ]
    return "_".join([route.method.lower(), *words])


# --- served ---------------------------------------------------------------------------------------


def docs_handlers(document: bytes) -> tuple[Handler, Handler, Handler]:
    """Return the handlers of the description, the page, and the page's files."""

    async def description(_request: web.Request) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    async def page(_request: web.Request) -> web.Response:
        return _file("index.html", "text/html")

    async def file(request: web.Request) -> web.Response:
        name = request.match_info["file"]
        if name not in _FILES:
            raise web.HTTPNotFound
        return _file(name, _FILES[name])

    return description, page, file


def _file(name: str, media_type: str) -> web.Response:
    content = (_FOLDER / name).read_bytes()
    return web.Response(body=content, content_type=media_type, charset="utf-8")
