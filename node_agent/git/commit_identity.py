"""Whose name stands on commits made at this node.

The repository's or user's own `user.name` and `user.email`; else the node's setting; else the
node itself. Must not write any setting of git's.
"""

import re
from dataclasses import dataclass
from typing import Final

from node_agent.git.errors import InvalidInput
from node_agent.git.repository import Repository

NODE_EMAIL: Final = "skep@node.invalid"
_SETTING = re.compile(r"\s*(?P<name>[^<>]+?)\s*<(?P<email>[^<>\s]+)>\s*")
# Git takes these out of names; a name that is nothing else is refused by it.
_NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f<>]+")
_CRUD: Final = " .,:;<>\"\\'"


@dataclass(frozen=True)
class CommitIdentity:
    """A name and an address, and where they come from: git, setting or node."""

    name: str
    email: str
    source: str

    @property
    def environment(self) -> dict[str, str]:
        """The identity as git takes it, for executions and for our own commits."""
        return {
            "GIT_AUTHOR_NAME": self.name,
            "GIT_AUTHOR_EMAIL": self.email,
            "GIT_COMMITTER_NAME": self.name,
            "GIT_COMMITTER_EMAIL": self.email,
        }


#: On commits that only keep work safe and are never pushed.
SKEP: Final = CommitIdentity("Skep", NODE_EMAIL, "node")


async def commit_identity(
    repository: Repository, *, setting: str | None, node_name: str
) -> CommitIdentity:
    """Return whose name commits made in this repository carry."""
    name = _cleaned(await repository.setting("user.name") or "")
    email = _cleaned(await repository.setting("user.email") or "")
    if name and email:
        return CommitIdentity(name, email, "git")
    if setting:
        return parse_identity(setting)
    shown = _cleaned(node_name)
    return CommitIdentity(f"Skep on {shown}" if shown else SKEP.name, NODE_EMAIL, "node")


def parse_identity(setting: str) -> CommitIdentity:
    """Read `Name <mail>`; InvalidInput where it is not that."""
    found = _SETTING.fullmatch(setting)
    name = _cleaned(found["name"]) if found else ""
    if found is None or not name:
        raise InvalidInput("git_identity", setting, "Write it as: Ada Byron <ada@example.org>")
    return CommitIdentity(name, _cleaned(found["email"]), "setting")


def _cleaned(text: str) -> str:
    # Surrogates stand for bytes that are not UTF-8, which no commit of ours should carry.
    text = text.encode("utf-8", "replace").decode()
    return _NOT_IN_NAMES.sub(" ", text).strip().strip(_CRUD)
