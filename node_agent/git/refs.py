"""Names of branches: those of attempts, where a name stands in git, and what may be none. Pure.

Which names may be used at all, `protocol.branch_names` says.
"""

import re
import unicodedata
from typing import Final

from node_agent.git.errors import InvalidRefName
from protocol.branch_names import wrong_branch_name, wrong_ref_name
from protocol.ids import short_id

BRANCH_PREFIX: Final = "skep/"
SAVED_PREFIX: Final = "refs/skep/saved/"
#: For `update-ref`, the commit of a ref that is not there. Zeros would have to be as many as the
#: repository's hash has digits.
NO_COMMIT: Final = ""
_SLUG_CHARACTERS_MAX: Final = 40
_COMMIT_PREFIX: Final = re.compile(r"[0-9a-fA-F]{4,64}")
_ATTEMPT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def check_ref_name(field: str, name: str) -> str:
    """Return `name` if it may be looked up as a branch, a tag or a commit; else InvalidRefName."""
    if hint := wrong_ref_name(name):
        raise InvalidRefName(field, name, hint)
    return name


def check_branch_name(field: str, name: str) -> str:
    """Return `name` if a branch may be made with it; else InvalidRefName."""
    if hint := wrong_branch_name(name):
        raise InvalidRefName(field, name, hint)
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
