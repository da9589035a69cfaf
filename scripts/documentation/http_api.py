"""The page of the HTTP API, from the same description that `/api/v1/openapi.json` serves."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from hive.api.openapi import describe
from hive.api.routes import api_routes
from scripts.documentation.markdown import cell, code, page, paragraphs, table

_INTRODUCTION: Final = """\
Under `/api/v1`, JSON. Every request carries `Authorization: Bearer TOKEN`. The same description,
for programs, is served at `/api/v1/openapi.json`; a page to browse it, at `/api/docs`. At the
root: `/healthz` (the process lives), `/readyz` (the store is open), `/metrics` (Prometheus; this
machine only, unless a token is given).

Lists answer `{"items": [...], "next": ...}`; give `next` back as `cursor` for the next page.
Times are milliseconds since the epoch. Every error has the shape of [errors](errors.md). Changing
requests to a node take an `Idempotency-Key` header: the same key again does it once only.

Each request names the least role it needs: `viewer`, `operator`, `maintainer` and `admin`, each
with all that the ones before may do. `anyone` is any valid token, `nobody` is no token at all,
`audit` is the auditor or an admin."""


def api_page() -> str:
    """Return the page of the HTTP API."""
    document = describe(api_routes(), server_url="http://127.0.0.1:8700")
    by_noun: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            by_noun.setdefault(said["tags"][0], []).append((method.upper(), path, said))
    rows = [row for rows in by_noun.values() for row in rows]
    return page(
        "The HTTP API",
        _INTRODUCTION,
        table(["request", "role", "what"], (_overview(*row) for row in rows)),
        *(block for noun, rows in by_noun.items() for block in _noun(noun, rows)),
        "## Shapes",
        *_shapes(document["components"]["schemas"]),
    )


def _overview(method: str, path: str, said: dict[str, Any]) -> tuple[str, str, str]:
    return code(f"{method} {path}"), said["x-role"], said["summary"]


def _noun(noun: str, rows: Iterable[tuple[str, str, dict[str, Any]]]) -> Iterator[str]:
    yield f"## {noun}"
    for method, path, said in rows:
        yield f"### `{method} {path}`"
        facts = [f"{said['summary']}.", f"Role: {said['x-role']}."]
        if "x-errors" in said:
            facts.append(f"Errors of its own: {', '.join(map(code, said['x-errors']))}.")
        yield " ".join(facts)
        yield table(
            ["parameter", "in", "kind", "must"],
            (
                (code(one["name"]), one["in"], type_of(one["schema"]), _must(one["required"]))
                for one in said["parameters"]
            ),
        )
        body = said.get("requestBody", {}).get("content", {}).get("application/json")
        if body is not None:
            yield f"Body: {type_of(body['schema'])}."
        for status, reply in said["responses"].items():
            if status == "default":
                continue
            for media_type, content in reply.get("content", {}).items():
                shape = type_of(content["schema"]) if "schema" in content else code(media_type)
                yield f"Reply: {status}, {shape}."


def _shapes(schemas: dict[str, Any]) -> Iterator[str]:
    for name, schema in sorted(schemas.items()):
        yield f"### {name}"
        yield paragraphs(schema.get("description"))
        if "enum" in schema:
            yield f"One of {', '.join(map(code, schema['enum']))}."
        required = set(schema.get("required", ()))
        yield table(
            ["field", "kind", "must"],
            (
                (code(field), type_of(one), _must(field in required))
                for field, one in schema.get("properties", {}).items()
            ),
        )


def _must(required: bool) -> str:
    return "yes" if required else ""


def type_of(schema: dict[str, Any]) -> str:
    """Return what a schema allows, in words, with links to the shapes."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{''.join(one for one in name.lower() if one.isalnum() or one in '_-')})"
    if "anyOf" in schema:
        return " or ".join(type_of(one) for one in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(code(one) for one in schema["enum"])
    kind = schema.get("type", "anything")
    if "prefixItems" in schema:
        return f"({', '.join(type_of(one) for one in schema['prefixItems'])})"
    if kind == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map of {type_of(schema['additionalProperties'])}"
    return cell(kind)
