"""Ranges of files, and what they are served as."""

import pytest

from node_agent.git.errors import FileTooLarge, InvalidInput
from node_agent.git.file_content import READ_BYTES_MAX, is_binary, media_type, wanted_range


def test_ranges() -> None:
    """Without a range, the whole; with one, what there is of it."""
    assert wanted_range("f", 100, 0, None) == (0, 100)
    assert wanted_range("f", 100, 10, None) == (10, 90)
    assert wanted_range("f", 100, 10, 20) == (10, 20)
    assert wanted_range("f", 100, 90, 20) == (90, 10)
    assert wanted_range("f", 100, 200, 20) == (200, 0)
    assert wanted_range("f", READ_BYTES_MAX, 0, None) == (0, READ_BYTES_MAX)
    assert wanted_range("f", 10 * READ_BYTES_MAX, 1, None) == (1, READ_BYTES_MAX)
    with pytest.raises(FileTooLarge) as raised:
        wanted_range("f", READ_BYTES_MAX + 1, 0, None)
    assert raised.value.code == "too_large"
    assert raised.value.details["size"] == READ_BYTES_MAX + 1


@pytest.mark.parametrize(("first", "count"), [(-1, None), (0, 0), (0, -1), (0, READ_BYTES_MAX + 1)])
def test_impossible_ranges_name_their_field(first: int, count: int | None) -> None:
    """A range that cannot be is refused by the input's name."""
    with pytest.raises(InvalidInput) as raised:
        wanted_range("f", 100, first, count)
    assert raised.value.field == ("first_byte" if first < 0 else "bytes_max")


def test_what_files_are_served_as() -> None:
    """Text is plain, whatever it says; a few images are images; the rest is bytes."""
    assert media_type(b"<html><script>") == "text/plain; charset=utf-8"
    assert media_type(b"<svg onload=x>") == "text/plain; charset=utf-8"
    assert media_type(b"") == "text/plain; charset=utf-8"
    assert media_type(b"\x89PNG\r\n\x1a\n\0") == "image/png"
    assert media_type(b"RIFF\0\0\0\0WEBP") == "image/webp"
    assert media_type(b"\x7fELF\0") == "application/octet-stream"
    assert not is_binary(b"x" * 8000 + b"\0")
