"""Notices: what a person should know about this node, as ops of its journal.

Owns how often the same one is repeated. Must not decide that something is wrong: its callers do.
"""

from collections import OrderedDict
from typing import Final

from node_agent.stamps import new_id, now_ms
from node_agent.store.database import Database
from node_agent.store.journal import save
from protocol.entities import Notice
from protocol.ops import OpKind

#: The same notice about the same attempt is not told again within this time.
REPEAT_MS: Final = 3_600_000
_REMEMBERED_MAX: Final = 500
_MESSAGE_CHARACTERS_MAX: Final = 2_000


class Notices:
    """Tells notices, each not too often."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._told: OrderedDict[tuple[str, str | None], int] = OrderedDict()

    async def tell(
        self, level: str, code: str, message: str, *, hint: str = "", attempt_id: str | None = None
    ) -> bool:
        """Write a notice and its op; False where it was told a short while ago."""
        at_ms = now_ms()
        about = (code, attempt_id)
        told_ms = self._told.get(about)
        # A clock that was set back must not silence it for as long as that.
        if told_ms is not None and 0 <= at_ms - told_ms < REPEAT_MS:
            return False
        notice = Notice(
            id=new_id(),
            level=level,
            code=code,
            message=message[:_MESSAGE_CHARACTERS_MAX],
            hint=hint[:_MESSAGE_CHARACTERS_MAX],
            attempt_id=attempt_id,
        )
        await self._database.write(save, OpKind.NOTICE, notice.id, at_ms, notice)
        self._told[about] = at_ms
        self._told.move_to_end(about)
        while len(self._told) > _REMEMBERED_MAX:
            self._told.popitem(last=False)
        return True
