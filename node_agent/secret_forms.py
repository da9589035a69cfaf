"""The forms in which a secret value shows up in output: itself, its lines, and its encodings.

Pure. Owns what is searched for; must not search: that is `redaction.py`.
"""

import base64
import json
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import Final

#: Shorter values are words: hiding them would hide half the log, and protect nothing.
SECRET_BYTES_MIN: Final = 6
#: A longer form is searched for in parts of this size, which bounds what is held back of a stream.
FORM_BYTES_MAX: Final = 4096


def forms_of(values: Iterable[bytes]) -> list[bytes]:
    """Return every form of the values to hide, longest first, without newlines in any."""
    found: set[bytes] = set()
    for value in values:
        for form in _encodings(value.strip()):
            # A value of many lines (a key) is printed by lines, with other ends or behind
            # prefixes; so its lines are what is hidden.
            for line in form.splitlines():
                found.update(_parts(line.strip()))
    return sorted(found, key=lambda form: (-len(form), form))


def _encodings(value: bytes) -> Iterator[bytes]:
    if len(value) < SECRET_BYTES_MIN:
        return
    yield value
    text = value.decode("utf-8", "surrogateescape")
    yield urllib.parse.quote_from_bytes(value, safe="").encode()
    yield urllib.parse.quote_from_bytes(value).encode()
    yield urllib.parse.quote_plus(value).encode()
    yield json.dumps(text)[1:-1].encode()
    yield json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "surrogateescape")
    for shift in range(3):
        # Encoded behind other bytes (`user:secret`), the value starts at any of three places in
        # a group; the characters it shares with its neighbours are left out.
        encoded = base64.b64encode(bytes(shift) + value)
        sole = encoded[(8 * shift + 5) // 6 : 8 * (shift + len(value)) // 6]
        yield sole
        yield sole.translate(bytes.maketrans(b"+/", b"-_"))


def _parts(form: bytes) -> Iterator[bytes]:
    for start in range(0, len(form), FORM_BYTES_MAX):
        part = form[start : start + FORM_BYTES_MAX]
        if len(part) >= SECRET_BYTES_MIN:
            yield part
