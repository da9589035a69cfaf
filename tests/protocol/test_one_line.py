"""What people write in one line, in any script; and what is none."""

import pytest

from protocol.one_line import as_one_line, is_one_line


@pytest.mark.parametrize(
    "text",
    [
        "Mend the door",
        " a ",
        "e\u0301",
        "\u05d0\u05d1 and \u0627",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, with its joiner
        "\U0001f469\u200d\U0001f467",  # one emoji, joined of two
        "\U0001f3f4\U000e0067\U000e0062\U000e007f",  # a flag
        "\U0001fae9",  # younger than this Python
        "a\u00a0b\u3000c",
        "\u200fa",
    ],
)
def test_a_line_in_any_script(text: str):
    """Joiners, marks of direction and wide spaces are how people write."""
    assert is_one_line(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\u00a0\u3000",
        "\u200d",
        "a\nb",
        "a\r",
        "a\tb",
        "a\0",
        "\x1b[2J",
        "a\x85b",
        "a\u2028b",
        "a\u2029",
        "a\u202eb",
        "\u2066a\u2069",
        "\ud800",
    ],
)
def test_what_is_no_line(text: str):
    """Nothing to be seen, an end of a line, control characters, text turned around."""
    assert not is_one_line(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (" Mend  it ", "Mend it"),
        ("a\u3000b", "a\u3000b"),
        ("a\r\n\tb\u202ec", "a b c"),
        ("\U0001f469\u200d\U0001f467\nx", "\U0001f469\u200d\U0001f467 x"),
        ("\n\u200d\0", ""),
        ("", ""),
    ],
)
def test_any_text_in_one_line(text: str, line: str):
    """With what may stand in one as it is."""
    assert as_one_line(text) == line
