"""Names of branches, tags and commits: which may be used, so that both ends refuse the same. Pure.

Stricter than git, on purpose: a name that could be read as an option, a forced push, or an
expression over commits is refused before git sees it; so is one that a shell would take apart, as
scripts get it, or that does not look like what it is.
"""

import re
import unicodedata
from typing import Final

BRANCH_CHARACTERS_MAX: Final = 181
#: What a file's name may hold, with the `.lock` that git adds to it for a while.
_BYTES_MAX: Final = 240
#: Beside letters, digits and their marks, of any script.
_SIGNS: Final = frozenset("._/-#+@=,")
_NEVER_FIRST: Final = frozenset("-+./")
_WORD_CATEGORIES: Final = ("L", "M", "N")
_COMMIT_ID: Final = re.compile(r"[0-9a-fA-F]{40}(?:[0-9a-fA-F]{24})?")


def wrong_ref_name(name: str) -> str:
    """Return why `name` may be no branch, tag or commit to look up, as a hint; "" if it may."""
    too_long = len(name.encode("utf-8", "replace")) > _BYTES_MAX
    if too_long or not 0 < len(name) <= BRANCH_CHARACTERS_MAX:
        return f"Use 1 to {BRANCH_CHARACTERS_MAX} characters, {_BYTES_MAX} bytes at most."
    if name[0] in _NEVER_FIRST or not all(_may_stand(letter) for letter in name):
        return (
            "Use letters, digits, '.', '_', '/', '-', '#', '+', '@', '=' and ',';"
            " not '-', '+', '.' or '/' at the beginning."
        )
    if unicodedata.normalize("NFC", name) != name:
        # Another name that looks the same, and the same file on some systems.
        return "Write its accents as one character with their letters."
    # What git check-ref-format refuses of what the pattern lets through.
    if ".." in name or "//" in name or name.endswith(("/", ".")) or name == "@":
        return "No '..', '//' or lone '@', and no '.' or '/' at its end."
    if any(part.startswith(".") or part.endswith(".lock") for part in name.split("/")):
        return "No part may begin with a dot or end with '.lock'."
    return ""


def wrong_branch_name(name: str) -> str:
    """Return why no branch may be made with `name`, as a hint; "" if one may."""
    if wrong := wrong_ref_name(name):
        return wrong
    if name == "HEAD" or name.startswith("refs/"):
        return "The name has a meaning of its own in git."
    if _COMMIT_ID.fullmatch(name):
        return "The name would be read as the id of a commit."
    return ""


def _may_stand(letter: str) -> bool:
    return letter in _SIGNS or unicodedata.category(letter).startswith(_WORD_CATEGORIES)
