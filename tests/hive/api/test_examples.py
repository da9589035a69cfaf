"""The examples in the description of the API: everywhere one can stand, and true to its schema."""

from typing import Any

import msgspec
import pytest

from hive.api.openapi import Route
from hive.api.replies import ErrorReply
from hive.api.routes import api_routes
from tests.hive.api.running import RunningHive


def example_in(content: dict[str, Any]) -> Any:
    """The one example of a body or reply."""
    ((_, said),) = content.items()
    return said["example"]


def check(example: Any, kind: Any) -> None:
    """An example decodes as its Struct, and nothing in it is unknown there."""
    decoded = msgspec.convert(example, kind, builtin_types=())
    again = msgspec.to_builtins(decoded, builtin_types=())
    assert contains(again, example)


def contains(whole: Any, part: Any) -> bool:
    """Whether all that `part` says stands in `whole` too."""
    if isinstance(part, dict):
        return all(name in whole and contains(whole[name], part[name]) for name in part)
    if isinstance(part, list | tuple):
        return len(whole) == len(part) and all(map(contains, whole, part))
    return whole == part


def check_route(route: Route, described: dict[str, Any]) -> None:
    """Whatever the route takes and answers has a true example."""
    if route.body is not None:
        check(example_in(described["requestBody"]["content"]), route.body)
    if route.query is not None:
        given = {
            one["name"]: one["example"]
            for one in described["parameters"]
            if one["in"] == "query" and "example" in one
        }
        if given:
            check(given, route.query)
    for status, kind in ((str(route.status), route.reply), ("202", route.kept_reply)):
        if kind is not None:
            check(example_in(described["responses"][status]["content"]), kind)
        elif status in described["responses"] and route.reply is None:
            assert example_in(described["responses"][status]["content"])
    check(example_in(described["responses"]["default"]["content"]), ErrorReply)


@pytest.mark.asyncio
async def test_every_route_has_examples_that_are_true(running: RunningHive):
    """Bodies, queries, replies and errors as served decode as their own Structs."""
    document = (await running.get("/openapi.json", token=None)).json
    for route in api_routes():
        described = document["paths"][route.path][route.method.lower()]
        try:
            check_route(route, described)
        except (AssertionError, KeyError, msgspec.ValidationError) as error:
            raise AssertionError(f"the example of {route.name}: {error!r}") from error


@pytest.mark.asyncio
async def test_what_a_query_must_have_is_shown(running: RunningHive):
    """What a query must have has an example."""
    document = (await running.get("/openapi.json", token=None)).json
    for methods in document["paths"].values():
        for described in methods.values():
            for one in described["parameters"]:
                assert one["in"] != "query" or not one["required"] or "example" in one
