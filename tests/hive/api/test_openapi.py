"""The description of the API: made of the routes, and shown by a page that needs no net."""

import re

import pytest

from hive.access import ROUTES
from hive.api.routes import api_routes
from tests.hive.api.running import RunningHive


def references(value) -> set[str]:
    """Every reference anywhere inside."""
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(inner) for inner in value.values()))
    if isinstance(value, list):
        return set().union(*(references(inner) for inner in value))
    return set()


@pytest.mark.asyncio
async def test_every_route_is_described(running: RunningHive):
    """Each route stands there with its role, its parameters and what it answers."""
    document = (await running.get("/openapi.json", token=None)).json
    assert document["openapi"] == "3.1.0"
    described = {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    for route in api_routes():
        operation = described[route.name]
        assert operation["summary"], route.name
        assert operation["x-role"] == ROUTES[route.name].name.lower()
        assert str(route.status) in operation["responses"]
        in_path = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", route.path))
    assert len({operation["operationId"] for operation in described.values()}) == len(described)


@pytest.mark.asyncio
async def test_what_the_path_names_is_not_asked_again(running: RunningHive):
    """No body and no query takes what stands in the path; and no example shows it there."""
    document = (await running.get("/openapi.json", token=None)).json
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            named = set(re.findall(r"\{(\w+)\}", path))
            named |= {f"{name}_id" for name in named}
            asked = {p["name"] for p in operation["parameters"] if p["in"] == "query"}
            if "requestBody" in operation:
                body = operation["requestBody"]["content"]["application/json"]
                schema = schemas[body["schema"]["$ref"].rpartition("/")[2]]
                asked |= set(schema["properties"]) | set(body["example"])
            assert not named & asked, (method, path)


@pytest.mark.asyncio
async def test_every_reference_leads_somewhere(running: RunningHive):
    """No schema is named that is not there."""
    document = (await running.get("/openapi.json", token=None)).json
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= known


@pytest.mark.asyncio
async def test_the_page_needs_nothing_from_elsewhere(running: RunningHive):
    """Its script and style are the hive's own files, and nothing stands inline."""
    page = (await running.get("/api/docs", token=None)).content.decode()
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert named
    for path in named:
        assert path.startswith("/")
        assert (await running.get(path, token=None)).status == 200
    assert not re.search(r"<script>|<style|style=|onclick", page)
    assert (await running.get("/api/docs/../access.py", token=None)).status == 404
    assert (await running.get("/api/docs/index.html", token=None)).status == 404
