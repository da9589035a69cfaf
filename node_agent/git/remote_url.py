"""The address of a repository in one form, however a clone spells it. Pure.

Two nodes have the same project when their clones' `origin` say the same place: over ssh or https,
with or without a user name, a default port, `.git` at the end.
"""

import re
from typing import Final
from urllib.parse import unquote

_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<rest>.+)", re.IGNORECASE | re.DOTALL)
_SCP_LIKE = re.compile(r"(?P<authority>(?:[^/\s@]+@)?(?:\[[^\]/\s]+\]|[^:/\s]+)):(?P<path>.+)")
_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^:]*)(?::(?P<port>\d*))?")
_DEFAULT_PORTS: Final = {
    "ssh": "22",
    "git+ssh": "22",
    "ssh+git": "22",
    "https": "443",
    "http": "80",
    "git": "9418",
}


def normalised(url: str) -> str | None:
    """Return `host[:port]/path` for the address of a repository on a server.

    None for an address that means nothing on another machine: a path, `file://`, and what only a
    helper program understands.
    """
    url = url.strip()
    scheme = "ssh"
    if found := _URL.fullmatch(url):
        scheme = found["scheme"].lower()
        authority, _, path = found["rest"].partition("/")
    elif (found := _SCP_LIKE.fullmatch(url)) and not _is_drive(found["authority"]):
        authority, path = found["authority"], found["path"]
        if path.startswith(":"):  # helper::address
            return None
    else:
        return None
    if scheme not in _DEFAULT_PORTS:
        return None
    place = _PORT.fullmatch(authority.rpartition("@")[2])
    if place is None or not place["host"]:
        return None
    host = place["host"].lower().rstrip(".")
    if place["port"] and place["port"] != _DEFAULT_PORTS[scheme]:
        host = f"{host}:{place['port']}"
    parts = [part for part in unquote(path).split("/") if part]
    while parts and parts[-1].endswith(".git"):
        parts[-1] = parts[-1].removesuffix(".git")
        if not parts[-1]:
            parts.pop()
    return "/".join((host, *parts)) if parts else None


def last_name(url: str) -> str | None:
    """Return what a clone of `url` would call its folder."""
    parts = [part for part in re.split(r"[/:]", url.strip()) if part]
    if parts and parts[-1] == ".git":
        parts.pop()
    name = parts[-1].removesuffix(".git") if parts else ""
    return name or None


def _is_drive(authority: str) -> bool:
    return len(authority) == 1
