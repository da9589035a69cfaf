"""How the hive is: for people, for load balancers, for a metrics collector."""

from typing import Any

from aiohttp import web

from hive.api import replies
from hive.api.context import CONTEXT
from hive.api.middleware import (
    PRINCIPAL,
    caller_address,
    error_response,
    json_response,
    principal_of,
)
from hive.config import is_loopback
from hive.store.statistics import totals
from protocol.errors import ErrorBody, ErrorCode, SkepError


async def healthz(_request: web.Request) -> web.Response:
    """The process answers."""
    return json_response({"ok": True})


async def readyz(request: web.Request) -> web.Response:
    """The hive takes work: its store is open and it is not about to stop."""
    context = request.app[CONTEXT]
    if not context.ready or context.stopping:
        body = ErrorBody(code=ErrorCode.DRAINING, message="the hive is not ready", retryable=True)
        return error_response(body, 503)
    return json_response({"ok": True, "generation": context.generation()})


async def status(request: web.Request) -> web.Response:
    """Tell how the hive is."""
    context = request.app[CONTEXT]
    known = await context.database.read(totals)
    online = len(context.registry.online())
    return json_response(
        replies.Status(
            hive_id=context.hive_id,
            generation=context.generation(),
            version=context.version,
            nodes=replies.NodeCounts(online=online, offline=max(0, known.nodes - online)),
            ready=context.ready and not context.stopping,
            started_at_ms=context.started_at_ms,
        )
    )


async def me(request: web.Request) -> web.Response:
    """Tell the caller who it is here."""
    principal = principal_of(request)
    return json_response(
        replies.Me(
            token_id=principal.token_id, name=principal.name, role=principal.role.name.lower()
        )
    )


async def metrics(request: web.Request) -> web.Response:
    """Answer in Prometheus' text format: this machine without a token, others with one."""
    context = request.app[CONTEXT]
    address = caller_address(request, behind_proxy=context.config.behind_proxy)
    near = is_loopback(address) and "X-Forwarded-For" not in request.headers
    if PRINCIPAL not in request and not near:
        raise SkepError(
            ErrorCode.UNAUTHENTICATED,
            "a token is needed from another machine",
            hint="Send `Authorization: Bearer TOKEN`.",
        )
    known = await context.database.read(totals)
    lines: list[str] = []
    for name, kind, meaning, value in (
        ("nodes", "gauge", "Nodes enrolled and not revoked.", known.nodes),
        ("nodes_online", "gauge", "Nodes with a live link.", len(context.registry.online())),
        ("viewers", "gauge", "Live streams open.", context.feed.viewers),
        ("operations_under_way", "gauge", "Changing calls under way.", context.proxy.under_way),
        ("attempts_total", "counter", "Attempts held.", known.attempts),
        ("ops_total", "counter", "Ops committed.", known.ops),
        ("ops_kept_aside_total", "counter", "Ops that were not applied.", known.ops_aside),
        ("log_chunks_total", "counter", "Log chunks committed.", known.chunks),
        ("log_bytes_total", "counter", "Log bytes committed, as stored.", known.log_bytes),
        ("changes_total", "counter", "Changes published to viewers.", known.change_no),
        ("store_bytes", "gauge", "Size of the database.", _store_bytes(context.config.database)),
    ):
        lines += [
            f"# HELP skep_hive_{name} {meaning}",
            f"# TYPE skep_hive_{name} {kind}",
            f"skep_hive_{name} {value}",
        ]
    return web.Response(
        text="\n".join(lines) + "\n",
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )


def _store_bytes(path: Any) -> int:
    try:
        return int(path.stat().st_size)
    except OSError:
        return 0
