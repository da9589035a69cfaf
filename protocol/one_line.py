"""One line of text that people read, in any script: what may stand in a title or a name. Pure.

Must not know what is called so. Joiners, marks of direction and wide spaces are parts of how people
write; what ends a line, or turns the text around it over, is not.
"""

import unicodedata
from typing import Final

#: Control characters, lone surrogates, and what ends a line or a paragraph.
_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
#: Embeddings, overrides and isolates: text after them is shown in another order than it has.
_TURNS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
#: Spaces, and what shows nothing by itself.
_UNSEEN: Final = ("Z", "Cc", "Cf")


def is_one_line(text: str) -> bool:
    """Return whether a text is one line of which something can be seen."""
    return all(map(_may_stand, text)) and not all(
        unicodedata.category(letter).startswith(_UNSEEN) for letter in text
    )


def as_one_line(text: str) -> str:
    """Return a text in one line: spaces for what may not stand in one; empty where none is left."""
    line = "".join(letter if _may_stand(letter) else " " for letter in text)
    return " ".join(filter(None, line.split(" "))) if is_one_line(line) else ""


def _may_stand(letter: str) -> bool:
    return letter not in _TURNS and unicodedata.category(letter) not in _REFUSED_CATEGORIES
