"""What every attempt of this node shares: the stores, the folders, how its processes are run.

Must not know what an attempt is doing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from node_agent.notices import Notices
from node_agent.request_drafts import Draft
from node_agent.stamps import now_ms
from node_agent.store import requests
from node_agent.store.contract import ChunkStore
from node_agent.store.database import Database, Unit
from node_agent.store.errors import StoreFull
from node_agent.store.transaction import Transaction
from protocol.conversation import AgentRequest
from protocol.limits import EXECUTION_LOG_BYTES_MAX
from protocol.profiles import Profile

P = ParamSpec("P")
T = TypeVar("T")

LOG: Final = logging.getLogger(__name__)
#: How long a running attempt waits between two looks whether the disk has room again.
_ROOM_S_FIRST: Final = 0.5
_ROOM_S_MAX: Final = 15.0


#: Hands on a piece of a message that is not whole: its session, its id, where the piece begins in
#: what is shown of it (in characters), the piece, and the message's role. Never stored.
Live = Callable[[str, str, int, str, str], None]
#: Opens a request of an agent, in the transaction of the step that made it.
OpenRequest = Callable[[Transaction, Draft, int], Awaitable[AgentRequest]]


def _drop(_session_id: str, _message_id: str, _at: int, _text: str, _role: str) -> None:
    """Show nothing live."""


async def open_request(tx: Transaction, draft: Draft, at_ms: int) -> AgentRequest:
    """Open a request that waits for as long as it takes."""
    return await requests.open_request(tx, draft, at_ms=at_ms, deadline_ms=None)


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The surroundings of attempts. `secrets` gives the values to hide, as they are now."""

    database: Database
    chunks: ChunkStore
    notices: Notices
    node_id: str
    node_name: str
    slots: int
    worktrees_dir: Path
    runs_dir: Path
    environment: Mapping[str, str]
    secrets: Callable[[], list[bytes]] = field(default=list)
    git_identity: str | None = None
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    #: The values of this node's secrets, by name, as they are now.
    secrets_by_name: Callable[[], Mapping[str, str]] = dict
    grace_s: float = 10.0
    #: Output kept unread, and what of a log is shown live: together they bound one execution.
    spool_quota_bytes: int = EXECUTION_LOG_BYTES_MAX // 2
    live_log_bytes_max: int = EXECUTION_LOG_BYTES_MAX // 2
    live: Live = _drop
    #: Where the programs of agents are that were installed for this node alone.
    agents_bin: Path | None = None
    open_request: OpenRequest = open_request
    #: How long an agent may say nothing in a turn before people are told; 0: as long as it likes.
    silence_s: float = 600.0
    #: Where a tool server of an agent finds this node.
    data_dir: Path = Path()
    #: The wall clock, for what conversations do by the hour.
    clock: Callable[[], int] = now_ms

    def run_folder(self, execution_id: str) -> Path:
        """Return where the supervisor of an execution keeps its files."""
        return self.runs_dir / execution_id

    async def keep(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Write what has happened already: waits for room on a full disk, however long."""
        return await when_there_is_room(lambda: self.database.write(unit, *args, **kwargs))


async def when_there_is_room(write: Callable[[], Awaitable[T]]) -> T:
    """Do a write that cannot be refused any more, again and again while the disk is full."""
    pause_s = _ROOM_S_FIRST
    while True:
        try:
            return await write()
        except StoreFull as error:
            LOG.warning("waiting for room on the disk: %s", error)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _ROOM_S_MAX)
