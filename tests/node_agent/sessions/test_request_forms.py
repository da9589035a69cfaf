"""Filled forms against what was asked: each wrong value is named by its place."""

from typing import Any

import pytest

from node_agent.sessions.request_forms import FormInvalid, check_form

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 5, "pattern": "^[a-z]+$"},
        "mail": {"type": "string", "format": "email"},
        "day": {"type": "string", "format": "date"},
        "when": {"type": "string", "format": "date-time"},
        "where": {"type": "string", "format": "uri"},
        "count": {"type": "integer", "minimum": 1, "exclusiveMaximum": 10},
        "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "sure": {"type": "boolean"},
        "colour": {"type": "string", "enum": ["red", "blue"]},
        "size": {"oneOf": [{"const": "s", "title": "Small"}, {"const": "l", "title": "Large"}]},
        "tags": {
            "type": "array",
            "minItems": 1,
            "maxItems": 2,
            "uniqueItems": True,
            "items": {"anyOf": [{"const": "a"}, {"const": "b"}, {"const": "c"}]},
        },
        "odd": {"type": ["string", "null"], "unknownWord": 7},
    },
    "required": ["name"],
}
GOOD: dict[str, Any] = {
    "name": "anna",
    "mail": "a@b.example",
    "day": "2026-02-28",
    "when": "2026-02-28T10:00:00+00:00",
    "where": "https://example.org/x",
    "count": 9.0,
    "share": 1,
    "sure": False,
    "colour": "red",
    "size": "l",
    "tags": ["a", "c"],
    "odd": None,
}


def test_what_fits_is_taken():
    """Each kind of field with a value of it; and only what is required has to be there."""
    check_form(SCHEMA, GOOD)
    check_form(SCHEMA, {"name": "anna"})
    check_form({}, {"anything": [1]})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "a"),
        ("name", "abcdef"),
        ("name", "AB"),
        ("name", 7),
        ("mail", "nobody"),
        ("day", "2026-02-30"),
        ("when", "2026-02-28"),
        ("where", "somewhere"),
        ("count", 0),
        ("count", 10),
        ("count", 1.5),
        ("count", True),
        ("share", 0),
        ("share", 1.1),
        ("sure", "yes"),
        ("sure", 1),
        ("colour", "green"),
        ("size", "Large"),
        ("tags", []),
        ("tags", ["a", "b", "c"]),
        ("tags", ["a", "a"]),
        ("odd", 1),
        ("other", 1),
    ],
)
def test_what_does_not_is_named(name: str, value: Any):
    """The field is part of the error."""
    with pytest.raises(FormInvalid) as wrong:
        check_form(SCHEMA, {**GOOD, name: value})
    assert wrong.value.details["field"] == f"form.{name}"


def test_items_and_missing_fields_are_named():
    """A place within a list, and a field that is not there."""
    with pytest.raises(FormInvalid) as wrong:
        check_form(SCHEMA, {**GOOD, "tags": ["a", "x"]})
    assert wrong.value.details["field"] == "form.tags.1"
    with pytest.raises(FormInvalid) as missing:
        check_form(SCHEMA, {})
    assert missing.value.details["field"] == "form.name"
    with pytest.raises(FormInvalid):
        check_form({"additionalProperties": False}, {"a": 1})


@pytest.mark.parametrize("pattern", ["^(a+)+$", "a*" * 20 + "b", "a?" * 60 + "a" * 60, "a{1,}" * 9])
def test_a_pattern_that_could_take_for_ever_is_left_to_the_agent(pattern: str):
    """Nobody can hold the node up by the form its agent made."""
    hostile = {"properties": {"a": {"type": "string", "pattern": pattern}}}
    check_form(hostile, {"a": "a" * 59 + "!"})


def test_a_pattern_that_is_broken_or_plain():
    """The one is left to the agent, the other is held against what was filled in."""
    day = {"properties": {"a": {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}}}
    check_form(day, {"a": "2026-11-28"})
    with pytest.raises(FormInvalid):
        check_form(day, {"a": "tomorrow"})
    broken = {"properties": {"a": {"type": "string", "pattern": "("}}}
    check_form(broken, {"a": "x"})
