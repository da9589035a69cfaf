"""`/api/v1/events`: what happened, and who did it; for auditors and admins."""

import msgspec
from aiohttp import web

from hive.api import replies
from hive.api.context import CONTEXT
from hive.api.decoding import query_of
from hive.api.middleware import json_response
from hive.api.paging import PageQuery, page_of, unpack
from hive.store.backend import Transaction
from hive.store.catalog import resolve
from hive.store.events import Event, list_events


class EventsQuery(PageQuery, frozen=True, kw_only=True):
    """Narrows the list; `audit` leaves out what is activity only."""

    node: str | None = None
    project: str | None = None
    task: str | None = None
    attempt: str | None = None
    kind: str | None = None
    audit: bool = False


async def list_(request: web.Request) -> web.Response:
    """List what happened, newest first."""
    context = request.app[CONTEXT]
    query = query_of(request, EventsQuery)
    named: dict[str, str | None] = {}
    for noun in ("node", "project", "task", "attempt"):
        text = getattr(query, noun)
        named[noun] = None if text is None else await context.database.read(resolve, noun, text)
    before = unpack(query.cursor, tuple[int])

    async def read(tx: Transaction) -> list[Event]:
        return await list_events(
            tx,
            before=None if before is None else before[0],
            audit=query.audit,
            limit=query.limit + 1,
            kind=query.kind,
            node_id=named["node"],
            project_id=named["project"],
            task_id=named["task"],
            attempt_id=named["attempt"],
        )

    rows = await context.database.read(read)
    page = page_of(rows, query.limit, _shown, lambda event: (event.no,))
    return json_response(page)


def _shown(event: Event) -> replies.Event:
    return msgspec.convert(event, replies.Event, from_attributes=True)
