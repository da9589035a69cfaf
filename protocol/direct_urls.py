"""Direct addresses of nodes: which text may be one, so that neither end hands on anything else.

An address is where a client sends a token to, so it is a plain origin: no user, path, or query.
"""

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

#: A machine has a few addresses; a client tries them one after the other.
DIRECT_URLS_MAX: Final = 8
_CHARACTERS_MAX: Final = 300


def is_direct_url(text: str) -> bool:
    """Whether this is `http(s)://HOST[:PORT]` and nothing more."""
    if len(text) > _CHARACTERS_MAX or not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return (
        parts.scheme in {"http", "https"}
        and bool(parts.hostname)
        and port != 0
        and "@" not in parts.netloc
        and text.rstrip("/") == f"{parts.scheme}://{parts.netloc}"
    )


def usable_direct_urls(texts: Iterable[str]) -> list[str]:
    """Return those that are direct addresses, without a slash at the end, each once."""
    usable = dict.fromkeys(text.rstrip("/") for text in texts if is_direct_url(text))
    return list(usable)[:DIRECT_URLS_MAX]
