"""`?when=online`: a changing operation for a node that is away, kept until that is back.

Owns what such a request may say, and whether it runs at once or is kept. Must not send what was
kept: `deferred_operations` does.
"""

from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web

from hive.api.context import HiveContext, now_ms
from hive.api.decoding import InvalidInput
from hive.operation_proxy import NOTHING_DONE, Intent, Target, settled_reply
from hive.operation_records import recorded_of
from hive.store import deferred, operations
from hive.store.deferred import Deferral
from hive.store.operations import OperationRow
from protocol import limits
from protocol.errors import ErrorCode, OperationError
from protocol.operation_values import Request
from protocol.operations import OPERATIONS
from protocol.states import DeferredStatus

#: The only time that can be asked for: once the node is there.
ONLINE: Final = "online"
_RETRIED: Final = frozenset(code.value for code in NOTHING_DONE)
_KEPT: Final = frozenset({DeferredStatus.WAITING, DeferredStatus.DELIVERED})


class WhenQuery(msgspec.Struct, frozen=True, kw_only=True):
    """`when=online`: where the node is away, keep it until that is back, for `expires_in_s`."""

    when: Literal["online"] | None = None
    expires_in_s: Annotated[float, msgspec.Meta(gt=0, le=limits.DEFERRED_S_MAX)] | None = None


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """How long an operation may wait for its node."""

    expires_in_s: float


def wish_of(request: web.Request) -> Wish | None:
    """Return what a request says of waiting; None where it is for now or never."""
    when, expires = request.query.get("when"), request.query.get("expires_in_s")
    if when is None:
        if expires is not None:
            raise InvalidInput("expires_in_s: it goes with when=online", field="expires_in_s")
        return None
    if when != ONLINE:
        raise InvalidInput(f"when: there is {ONLINE} alone", field="when")
    try:
        expires_in_s = limits.DEFERRED_S_MAX if expires is None else float(expires)
    except ValueError:
        expires_in_s = 0.0
    if not 0 < expires_in_s <= limits.DEFERRED_S_MAX:
        raise InvalidInput(
            f"expires_in_s: it is more than 0 and at most {limits.DEFERRED_S_MAX} (7 days)",
            field="expires_in_s",
        )
    return Wish(expires_in_s=expires_in_s)


def refuse_wish(request: web.Request) -> None:
    """Refuse `when` where there is no attempt yet that an operation could be kept for."""
    if request.query.get("when") is not None:
        raise InvalidInput(
            "when: a start is not kept for a node that is away; there is no attempt to keep it for",
            field="when",
            hint="With `wait_s` and no node, or hive tasks run T --wait S, it waits for any node.",
        )


async def change_or_keep(
    context: HiveContext, wish: Wish, intent: Intent, target: Target, asked: Request
) -> bytes | OperationRow:
    """Carry an operation out now where its node is there, else keep it.

    Returns its reply, or its record where it is kept. Raises OperationError as a change does.
    """
    present = await context.database.read(operations.find_operation, intent.key)
    kept = present is not None and present.status in _KEPT
    told = present is not None and _is_told(present)
    # What was asked before it and waits still is done before it.
    behind = OPERATIONS[intent.operation].queues and await context.database.read(
        deferred.has_before, target.attempt_id, intent.operation, intent.key
    )
    online = context.registry.is_online(target.node_id)
    if told or (online and not kept and (present is not None or not behind)):
        try:
            return await context.proxy.change(intent, target, asked)
        except OperationError as error:
            if told or error.code is not ErrorCode.NODE_OFFLINE:
                raise
            # It went between our look and the sending: the same as if it had been away.
    return await _keep(context, wish, intent, target, asked)


def _is_told(row: OperationRow) -> bool:
    """Whether it is settled by its node's own report, and the answer itself is with the node."""
    settled = row.status in {operations.DONE, operations.FAILED}
    return settled and row.reply is None and (row.error is None or not row.body_hash)


async def _keep(
    context: HiveContext, wish: Wish, intent: Intent, target: Target, asked: Request
) -> bytes | OperationRow:
    now = now_ms()
    wanted = Deferral(
        key=intent.key,
        body_hash=intent.body_hash,
        operation=intent.operation,
        node_id=target.node_id,
        attempt_id=target.attempt_id,
        task_id=target.task_id,
        project_id=target.project_id,
        actor=intent.principal.name,
        token_id=intent.principal.token_id,
        body=msgspec.msgpack.encode(asked),
        expected_head=intent.expected_head,
        deadline_s=intent.deadline_s,
        expires_at_ms=now + round(wish.expires_in_s * 1000),
    )
    fresh = await context.database.write(deferred.keep, wanted, _RETRIED, now)
    row = await context.database.read(operations.get_operation, intent.key)
    if not fresh:
        stored = settled_reply(recorded_of(row), intent, kept_is_fine=True)
        if stored is not None:
            return stored
    # It may have come back in between, when there was nothing yet to be delivered.
    context.deferred.look(target.node_id)
    return row
