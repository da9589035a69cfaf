"""What handlers work with: the parts of one running hive, put together by `server`.

Must not do anything itself.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from hive.api.middleware import TokenCache
from hive.backfill import Backfill
from hive.config import HiveConfig
from hive.deferred_operations import DeferredOperations
from hive.direct_access import DirectAccess
from hive.external_sessions import ExternalSessions
from hive.live_feed import LiveFeed
from hive.minute_limit import MinuteLimit
from hive.node_registry import NodeRegistry
from hive.operation_proxy import OperationProxy
from hive.store.backend import Clock, Database
from hive.store.credentials import Revocations
from protocol.entities import Attempt


def now_ms() -> int:
    """Return the wall clock, for people."""
    return int(time.time() * 1000)


@dataclass
class HiveContext:
    """One hive."""

    config: HiveConfig
    hive_id: str
    #: The hive's public keys for capabilities, by key id.
    keys: dict[str, bytes]
    generation: Callable[[], int]
    version: str
    database: Database
    revocations: Revocations
    feed: LiveFeed
    registry: NodeRegistry
    backfill: Backfill
    proxy: OperationProxy
    deferred: DeferredOperations
    direct: DirectAccess
    sessions: ExternalSessions
    tokens: TokenCache
    enrol_failures: MinuteLimit
    #: Wall-clock milliseconds, for what is judged by time.
    clock: Clock = now_ms
    #: The address to tell others; known once the port is.
    url: str = ""
    #: Attempts started through this process whose first op may still be on its way, with nodes.
    started: dict[str, tuple[str, Attempt]] = field(default_factory=dict)
    started_at_ms: int = field(default_factory=now_ms)
    ready: bool = False
    stopping: bool = False


def url_of(request: web.Request) -> str:
    """Return the address to tell the caller: the hive's own, else the one it was called by.

    A hive that listens on all addresses does not know which of them others reach it at; whoever
    calls it does. The name was checked before.
    """
    context = request.app[CONTEXT]
    if context.config.public_urls:
        return context.config.public_urls[0]
    scheme = request.scheme
    if context.config.behind_proxy and request.headers.get("X-Forwarded-Proto") == "https":
        scheme = "https"
    return f"{scheme}://{request.host}" if request.host else context.url


CONTEXT: Final = web.AppKey("CONTEXT", HiveContext)
