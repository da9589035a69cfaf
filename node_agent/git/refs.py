"""Names of branches: which may be used, and what an attempt's branch is called. Pure.

Stricter than git, on purpose: a name that could be read as an option, a forced push, or an
expression over commits is refused before git sees it; so is one that a shell would take apart, as
scripts get it, or that does not look like what it is.
"""

import re
import unicodedata
from typing import Final

from node_agent.git.errors import InvalidRefName
from protocol.ids import short_id

BRANCH_PREFIX: Final = "skep/"
SAVED_PREFIX: Final = "refs/skep/saved/"
_SLUG_CHARACTERS_MAX: Final = 40
_CHARACTERS_MAX: Final = 181
#: What a file's name may hold, with the `.lock` that git adds to it for a while.
_BYTES_MAX: Final = 240
#: Beside letters, digits and their marks, of any script.
_SIGNS: Final = frozenset("._/-#+@=,")
_NEVER_FIRST: Final = frozenset("-+./")
_WORD_CATEGORIES: Final = ("L", "M", "N")
_COMMIT_ID: Final = re.compile(r"[0-9a-fA-F]{40}(?:[0-9a-fA-F]{24})?")
_COMMIT_PREFIX: Final = re.compile(r"[0-9a-fA-F]{4,64}")
_ATTEMPT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def check_ref_name(field: str, name: str) -> str:
    """Return `name` if it may be looked up as a branch, a tag or a commit; else InvalidRefName."""
    if not 0 < len(name) <= _CHARACTERS_MAX or len(name.encode("utf-8", "replace")) > _BYTES_MAX:
        raise InvalidRefName(
            field, name, f"Use 1 to {_CHARACTERS_MAX} characters, {_BYTES_MAX} bytes at most."
        )
    if name[0] in _NEVER_FIRST or not all(_may_stand(letter) for letter in name):
        raise InvalidRefName(
            field,
            name,
            "Use letters, digits, '.', '_', '/', '-', '#', '+', '@', '=' and ',';"
            " not '-', '+', '.' or '/' at the beginning.",
        )
    if unicodedata.normalize("NFC", name) != name:
        # Another name that looks the same, and the same file on some systems.
        raise InvalidRefName(field, name, "Write its accents as one character with their letters.")
    # What git check-ref-format refuses of what the pattern lets through.
    if ".." in name or "//" in name or name.endswith(("/", ".")) or name == "@":
        raise InvalidRefName(
            field, name, "No '..', '//' or lone '@', and no '.' or '/' at its end."
        )
    for part in name.split("/"):
        if part.startswith(".") or part.endswith(".lock"):
            raise InvalidRefName(field, name, "No part may begin with a dot or end with '.lock'.")
    return name


def _may_stand(letter: str) -> bool:
    return letter in _SIGNS or unicodedata.category(letter).startswith(_WORD_CATEGORIES)


def check_branch_name(field: str, name: str) -> str:
    """Return `name` if a branch may be made with it; else InvalidRefName."""
    check_ref_name(field, name)
    if name == "HEAD" or name.startswith("refs/"):
        raise InvalidRefName(field, name, "The name has a meaning of its own in git.")
    if _COMMIT_ID.fullmatch(name):
        raise InvalidRefName(field, name, "The name would be read as the id of a commit.")
    return name


def check_attempt_id(attempt_id: str) -> str:
    """Return `attempt_id` if it may stand in a path and a ref; else InvalidRefName."""
    if not _ATTEMPT_ID.fullmatch(attempt_id):
        raise InvalidRefName("attempt_id", attempt_id, "Give the attempt's whole id.")
    return attempt_id


def branch_ref(branch: str) -> str:
    """Return the full name of a local branch."""
    return f"refs/heads/{branch}"


def saved_ref(attempt_id: str) -> str:
    """Return the full name of the ref that keeps an attempt's uncommitted work."""
    return f"{SAVED_PREFIX}{check_attempt_id(attempt_id)}"


def attempt_branch(task_title: str, attempt_id: str) -> str:
    """Return the name of an attempt's branch: `skep/<task-slug>-<short id>`."""
    return f"{BRANCH_PREFIX}{slug(task_title)}-{short_id(attempt_id)}"


def slug(title: str) -> str:
    """Return a title as a word for branches: small ASCII letters and digits, joined by '-'."""
    ascii_only = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    words = re.findall(r"[a-z0-9]+", ascii_only)
    text = "-".join(words)
    if len(text) > _SLUG_CHARACTERS_MAX:
        cut = text[: _SLUG_CHARACTERS_MAX + 1]
        # Whole words where there is more than one of them.
        text = cut.rpartition("-")[0] or cut[:_SLUG_CHARACTERS_MAX]
    return text or "task"


def candidates(name: str) -> list[str]:
    """Return the full names under which a base may stand, in the order they are tried."""
    if name == "HEAD" or name.startswith("refs/"):
        return [name]
    refs = [
        branch_ref(name),
        f"refs/remotes/{name}",
        f"refs/remotes/origin/{name}",
        f"refs/tags/{name}",
    ]
    # Last, so that a branch that looks like a commit's id is still the branch.
    return [*refs, name] if _COMMIT_PREFIX.fullmatch(name) else refs
