"""Sessions as the API shows them: from their rows, or as their node just answered."""

import msgspec

from hive.api import conversation_replies
from hive.api.context import HiveContext
from hive.store.sessions import SessionRow, get_session
from protocol.conversation import Session


def session_reply(context: HiveContext, row: SessionRow) -> conversation_replies.Session:
    """Return a session as the API shows it."""
    values = {
        name: getattr(row, name)
        for name in conversation_replies.Session.__struct_fields__
        if hasattr(row, name)
    }
    online = row.node_id is not None and context.registry.is_online(row.node_id)
    return conversation_replies.Session(
        **values,
        reachable=row.external or online,
        rotation_due=context.sessions.rotation_due(row),
        closes_at_ms=context.sessions.closes_at_ms(row),
    )


async def session_of_entity(context: HiveContext, session: Session) -> conversation_replies.Session:
    """Return a session as its node just answered it, in the shape of all others."""
    row = await context.database.read(get_session, session.id)
    told = msgspec.structs.asdict(session) | {"status": session.status.value}
    return session_reply(context, msgspec.structs.replace(row, **told))
