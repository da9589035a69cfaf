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
    categories = [unicodedata.category(letter) for letter in text]
    return (
        not _REFUSED_CATEGORIES.intersection(categories)
        and _TURNS.isdisjoint(text)
        and not all(category.startswith(_UNSEEN) for category in categories)
    )
