"""What a form asks, as people read it."""

from typing import Any

import pytest

from protocol.form_words import form_lines

FORM = {
    "type": "object",
    "required": ["port"],
    "properties": {
        "port": {"type": "integer", "minimum": 1, "maximum": 65535, "title": "Where it listens"},
        "proto": {"type": "string", "enum": ["tcp", "udp"]},
        "who": {"oneOf": [{"const": "a", "title": "Ada"}, {"const": "b", "title": "b"}]},
        "many": {"type": "array", "items": {"enum": list(range(30))}},
        "name": {"type": "string", "minLength": 2, "pattern": "^[a-z]+$"},
        "odd": {"anyOf": [{"type": "string"}, {"const": 1}]},
    },
}


def test_each_field_is_a_line():
    """Its name, what it takes, whether it is needed, what it is for."""
    many = ", ".join(map(str, range(20)))
    assert list(form_lines(FORM)) == [
        "port: integer, needed, at least 1, at most 65535 - Where it listens",
        "proto: one of tcp, udp",
        "who: one of a (Ada), b",
        f"many: some of {many}, ...",
        "name: string, at least 2 characters, like ^[a-z]+$",
        "odd: any value",
    ]


@pytest.mark.parametrize(
    "form", [{}, {"properties": 7}, {"properties": {"a": 7}}, {"required": 7, "properties": {}}]
)
def test_what_is_no_form_has_no_lines(form: dict[str, Any]):
    """Whatever an agent sends, showing it does not fail."""
    assert list(form_lines(form)) == []
