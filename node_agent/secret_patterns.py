"""What secrets look like that nobody told us of: tokens with known prefixes, keys, credentials.

Pure. A pattern is written once, as a sequence of parts, and compiled to two expressions: `whole`
(here is a secret) and `begun` (the text ends inside what may become one). The second is what lets
a stream be redacted without waiting for its end. Every part has a maximum, so both are bounded.
"""

import re
from typing import Final, NamedTuple


class Text(NamedTuple):
    """Exactly these bytes."""

    value: bytes

    def whole(self) -> bytes:
        return re.escape(self.value)

    def begun(self) -> bytes:
        partly = b""
        for byte in reversed(self.value[:-1]):
            partly = b"(?:%s%s)?" % (re.escape(bytes([byte])), partly)
        return partly


class Some(NamedTuple):
    """From `least` to `most` bytes of a class, written as inside the brackets of an expression."""

    members: bytes
    least: int
    most: int

    def whole(self) -> bytes:
        return b"[%s]{%d,%d}" % self

    def begun(self) -> bytes:
        return b"[%s]{0,%d}" % (self.members, self.most)


class Either(NamedTuple):
    """One of several sequences, the first that fits."""

    ways: tuple["Parts", ...]

    def whole(self) -> bytes:
        return b"(?:%s)" % b"|".join(whole(way) for way in self.ways)

    def begun(self) -> bytes:
        return b"(?:%s)" % b"|".join(begun(way) for way in self.ways)


class Many(NamedTuple):
    """A sequence, from `least` to `most` times."""

    parts: "Parts"
    least: int
    most: int

    def whole(self) -> bytes:
        return b"(?:%s){%d,%d}" % (whole(self.parts), self.least, self.most)

    def begun(self) -> bytes:
        return b"(?:%s){0,%d}%s" % (whole(self.parts), self.most - 1, begun(self.parts))


class Hidden(NamedTuple):
    """The part of a pattern that is the secret; the rest stays to be read."""

    parts: "Parts"

    def whole(self) -> bytes:
        return b"(%s)" % whole(self.parts)

    def begun(self) -> bytes:
        return begun(self.parts)


Part = Text | Some | Either | Many | Hidden
Parts = tuple[Part, ...]


def whole(parts: Parts) -> bytes:
    """Return the expression of all parts in order."""
    return b"".join(part.whole() for part in parts)


def begun(parts: Parts) -> bytes:
    """Return the expression of any beginning of the parts, shortest to longest."""
    beginnings = [
        whole(parts[:index]) + part.begun() for index, part in reversed(list(enumerate(parts)))
    ]
    return b"(?:%s)" % b"|".join(b + rb"\Z" if b else rb"\Z" for b in beginnings)


class Pattern:
    """A kind of secret known by its looks.

    `anchor`: the bytes every match begins with, searched for first. `gate`: a byte every match
    has and ordinary text with the anchor often has not.
    `apart`: a match is not the tail of a longer word. `lines`: a match may span lines.
    """

    def __init__(
        self,
        name: str,
        *parts: Part,
        gate: bytes = b"",
        apart: bool = True,
        lines: bool = False,
    ) -> None:
        first = parts[0]
        if not isinstance(first, Text):
            raise TypeError(f"pattern {name} does not begin with a text to look for")
        self.name = name
        self.anchor = first.value
        self.gate = gate
        self.apart = apart
        self.lines = lines
        self.whole = re.compile(whole(parts))
        self.begun = re.compile(begun(parts))
        # A pattern that hides all of itself says what was there; one that hides a part shows it.
        self.marker = b"***" if self.whole.groups else b"[redacted:%s]" % name.encode()


_ALNUM: Final = b"A-Za-z0-9"
_WORD: Final = b"A-Za-z0-9_-"
_BREAK: Final = Either(((Text(rb"\n"),), (Text(rb"\r"),), (Some(rb"\s", 1, 1),)))
_SCHEME: Final = Either(
    tuple((Text(word),) for word in (b"Basic ", b"Bearer ", b"Token ", b"token ", b"Digest "))
)
_NO_USERINFO: Final = rb"\s/@:\"'<>"

#: Markers are no longer than the shortest match, so that hiding never makes a chunk outgrow.
DEFAULT: Final = (
    *(
        Pattern("github-token", Text(prefix), Some(_ALNUM, 36, 255))
        for prefix in (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_")
    ),
    Pattern(
        "github-token",
        Text(b"github_pat_"),
        Some(_ALNUM, 20, 24),
        Some(b"A-Za-z0-9_", 0, 255),
    ),
    Pattern(
        "api-key",
        Text(b"sk-"),
        Either(
            (
                *(
                    (Text(vendor), Some(_WORD, 16, 1024))
                    for vendor in (b"ant-", b"proj-", b"or-", b"svcacct-", b"admin-")
                ),
                (Some(_ALNUM, 20, 1024),),
            )
        ),
    ),
    *(Pattern("aws-key", Text(prefix), Some(b"A-Z0-9", 16, 16)) for prefix in (b"AKIA", b"ASIA")),
    Pattern(
        "slack", Text(b"xox"), Some(b"abeoprs", 1, 1), Text(b"-"), Some(b"A-Za-z0-9-", 11, 250)
    ),
    Pattern(
        "private-key",
        Text(b"-----BEGIN "),
        Some(b"A-Z0-9 ", 0, 40),
        Text(b"PRIVATE KEY-----"),
        Many((_BREAK,), 0, 4),
        Some(b"A-Za-z0-9+/=", 16, 16_384),
        Many((Many((_BREAK,), 1, 4), Some(b"A-Za-z0-9+/=", 16, 80)), 0, 200),
        Many(
            (
                Many((_BREAK,), 0, 4),
                Some(b"A-Za-z0-9+/=", 0, 80),
                Many((_BREAK,), 0, 4),
                Text(b"-----END "),
                Some(b"A-Z0-9 ", 0, 40),
                Text(b"PRIVATE KEY-----"),
            ),
            0,
            1,
        ),
        apart=False,
        lines=True,
    ),
    Pattern(
        "bearer",
        Text(b"earer "),
        Some(b" ", 0, 3),
        Hidden((Some(rb"A-Za-z0-9._~+/=-", 16, 4096),)),
        apart=False,
    ),
    Pattern(
        "authorization",
        Text(b"uthorization"),
        Some(b"\"'", 0, 1),
        Some(rb" \t", 0, 2),
        Some(b":=", 1, 1),
        Some(rb" \t", 0, 2),
        Some(b"\"'", 0, 1),
        _SCHEME,
        Some(b" ", 0, 2),
        Hidden((Some(rb"^\s\"',;", 6, 4096),)),
        apart=False,
    ),
    Pattern(
        "url-password",
        Text(b"://"),
        Some(b"^" + _NO_USERINFO, 0, 128),
        Text(b":"),
        Hidden((Some(rb"^\s/@\"'<>", 1, 256),)),
        Text(b"@"),
        gate=b"@",
        apart=False,
    ),
    Pattern(
        "url-token",
        Text(b"://"),
        Hidden((Some(_WORD, 20, 256),)),
        Text(b"@"),
        gate=b"@",
        apart=False,
    ),
)
