"""Which handler answers a path. Pure: method and path in, route and names out."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar
from urllib.parse import unquote

from node_agent.api.exchange import ApiReply, ApiRequest
from protocol.errors import ErrorCode, OperationError

N = TypeVar("N")

PREFIX: Final = "/api/v1/"
#: `{name}` takes one part of a path; `{name:rest}` all that is left, slashes included.
_HOLE: Final = re.compile(r"\{(\w+)(:rest)?\}")


@dataclass(frozen=True)
class Route(Generic[N]):
    """One route. `alone`: it can be answered from the stores, with no agent running.

    `writes`: it appends to the journal, so that answering it alone begins an epoch. `of_agents`: a
    program of an attempt may ask it, although it changes something.
    """

    method: str
    path: str
    handler: Callable[[N, ApiRequest], Awaitable[ApiReply]]
    alone: bool = True
    writes: bool = False
    of_agents: bool = False

    def match(self, path: str) -> dict[str, str] | None:
        """Return the names in `path`, or None where it is another route's."""
        found = self._pattern().fullmatch(path)
        return found and {name: unquote(text) for name, text in found.groupdict().items()}

    def _pattern(self) -> re.Pattern[str]:
        parts = []
        end = 0
        for hole in _HOLE.finditer(self.path):
            parts.append(re.escape(self.path[end : hole.start()]))
            parts.append(f"(?P<{hole[1]}>{'.+' if hole[2] else '[^/]+'})")
            end = hole.end()
        parts.append(re.escape(self.path[end:]))
        return re.compile("".join(parts))


def find_route(
    routes: Sequence[Route[N]], method: str, path: str
) -> tuple[Route[N], dict[str, str]]:
    """Return the route of a request and the names in its path; raises OperationError."""
    allowed = []
    if path.startswith(PREFIX):
        for route in routes:
            names = route.match(path.removeprefix(PREFIX))
            if names is not None and route.method == method:
                return route, names
            if names is not None:
                allowed.append(route.method)
    if allowed:
        raise OperationError(
            ErrorCode.INVALID,
            f"{path} takes {', '.join(sorted(set(allowed)))}, not {method}",
            hint="Is the command of another release than the agent?",
        )
    raise OperationError(
        ErrorCode.NOT_FOUND,
        f"there is nothing at {path}",
        hint="Is the command of another release than the agent?",
    )
