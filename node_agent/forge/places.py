"""Which repository of which GitHub an origin's address means. Pure.

GitHub's own, or one other that a setting names: a token goes to no host but that one's API.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from node_agent.forge.errors import NoForge
from node_agent.git.errors import InvalidInput
from node_agent.git.remote_url import normalised

GITHUB_COM: Final = "github.com"
#: GitHub's ssh over the port of https has a host of its own.
_ALIASES: Final = {GITHUB_COM: ("ssh.github.com:443", "www.github.com")}
_PART: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}")
_PULL: Final = re.compile(r"/([^/]+)/([^/]+)/pull/([0-9]{1,9})(?:/.*)?")


@dataclass(frozen=True)
class Forge:
    """One GitHub: the host in its pages' addresses, its API, and other names of the host."""

    host: str
    api_url: str
    aliases: tuple[str, ...] = ()

    @classmethod
    def of(cls, url: str, api_url: str = "", hosts: list[str] | None = None) -> "Forge":
        """Make it of the settings `github_url`, `github_api_url` and `github_hosts`."""
        parts = urlsplit(url)
        host = (normalised(f"{url.rstrip('/')}/owner/name") or "").partition("/")[0]
        own = "https://api.github.com" if host == GITHUB_COM else f"{parts.scheme}://{host}/api/v3"
        # By ssh the same host is called without the port of its pages.
        aliases = (parts.hostname or "", *_ALIASES.get(host, ()), *(hosts or []))
        return cls(host, (api_url or own).rstrip("/"), tuple(one.lower() for one in aliases))


@dataclass(frozen=True)
class Place:
    """A repository at its forge."""

    owner: str
    name: str

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"

    def is_named(self, full_name: str) -> bool:
        """Whether that is this repository's name: capitals do not count."""
        return self.full_name.lower() == full_name.lower()


def place_of(forge: Forge, origin: str | None) -> Place:
    """Return the repository an origin's address means. Raises NoForge."""
    host, _, path = (normalised(origin or "") or "").partition("/")
    parts = path.split("/")
    known = host in {forge.host, *forge.aliases}
    if not known or len(parts) != 2 or not all(map(_PART.fullmatch, parts)):
        raise NoForge(origin, forge.host)
    return Place(*parts)


def number_of(forge: Forge, place: Place, url: str) -> int:
    """Return the number of the pull request that `url` names, of this repository alone."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        parts = urlsplit("")
    found = _PULL.fullmatch(parts.path)
    if (
        found is None
        or parts.scheme not in {"http", "https"}
        or parts.netloc.lower() != forge.host
        or not place.is_named(f"{found[1]}/{found[2]}")
    ):
        raise InvalidInput(
            "url", url, f"Give https://{forge.host}/{place.full_name}/pull/NUMBER, or the number."
        )
    return int(found[3])
