"""File names as text and back."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node_agent.git.path_text import to_bytes, to_text


@given(st.binary(max_size=40))
@example(b"\\xe9")
@example(b"\\\xe9")
@example(b"\\\\xe9")
@example(b"\\x5cxe9")
@example(b"\\x5c\\x5c\xff")
@example("\ud800".encode("utf-8", "surrogatepass"))
def test_every_name_comes_back(name: bytes) -> None:
    """Any bytes become text that JSON carries, and come back the same."""
    text = to_text(name)
    assert to_bytes(json.loads(json.dumps(text).encode())) == name
    text.encode("utf-8")


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_two_names_never_share_a_text(one: bytes, other: bytes) -> None:
    """Different names have different texts."""
    assert (to_text(one) == to_text(other)) == (one == other)


@pytest.mark.parametrize(
    "name", ["plain", "with space", "a\\b", "ünï", "new\nline", 'q"uote', "\\x41"]
)
def test_ordinary_names_stand_as_they_are(name: str) -> None:
    """A name that is UTF-8 is its own text."""
    assert to_text(name.encode()) == name


def test_byte_that_is_not_utf8_is_shown_in_hex() -> None:
    """The escape is the one the docs name."""
    assert to_text(b"caf\xe9.txt") == "caf\\xe9.txt"


def test_lone_surrogate_stands_for_no_name() -> None:
    """Text that is no Unicode is refused."""
    with pytest.raises(ValueError):
        to_bytes("\udce9")
