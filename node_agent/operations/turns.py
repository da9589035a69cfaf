"""`follow_up`, `interrupt`, `go_on` and the queue of turns, as operations.

The effect of each is rows of this node's own, so key, effect and answer are one transaction.
"""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from node_agent.attempt_runner import StartKey
from node_agent.attempt_secrets import secrets_of_attempt
from node_agent.executors import executor_named
from node_agent.executors.adapter import Wish
from node_agent.operations.asking import Asking
from node_agent.operations.attempts import attempt_of
from node_agent.operations.head_check import check_expected_head
from node_agent.redaction import Redactor
from node_agent.sessions.follow_ups import check_edit, check_follow_up, check_session
from node_agent.stamps import now_ms
from node_agent.store import attempts, operations, sessions, turns
from node_agent.store.database import Database
from node_agent.store.transaction import Transaction
from node_agent.store.turns import Shown
from node_agent.turn_steps import done_record, session_to_go_on_in
from protocol.conversation import Session
from protocol.entities import OperationRecord
from protocol.errors import ErrorCode, OperationError
from protocol.turn_requests import (
    DropTurnsRequest,
    FollowUpRequest,
    GoOnRequest,
    InterruptRequest,
    SetTurnsRequest,
    Turn,
    TurnsReply,
)


class TurnRunner(Protocol):
    """What begins turns and interrupts them."""

    async def follow_up(self, attempt_id: str, request: FollowUpRequest, key: StartKey) -> Turn: ...

    async def interrupt(
        self, attempt_id: str, request: InterruptRequest, key: StartKey
    ) -> Turn: ...

    async def go_on(self, attempt_id: str, request: GoOnRequest, key: StartKey) -> Turn: ...

    async def shown_prompts(
        self, attempt_id: str, prompts: Mapping[str, str | None]
    ) -> dict[str, Shown]: ...


class TurnsShown:
    """Turns as they may leave the node: the agent alone gets a secret that is in one.

    `secrets` gives the values to hide, as they are now.
    """

    def __init__(self, database: Database, secrets: Callable[[], list[bytes]] = list) -> None:
        self._database = database
        self._secrets = secrets

    async def _hidden(self, turn: Turn) -> Turn:
        own = await self._database.read(secrets_of_attempt, turn.attempt_id)
        values = [*self._secrets(), *own]
        redactor = Redactor(values)
        return msgspec.structs.replace(
            turn, command=_hidden(redactor, turn.command), prompt=_hidden(redactor, turn.prompt)
        )

    async def turn_again(self, answer: bytes) -> bytes:
        """Return a turn that was answered before as it may be shown."""
        turn = await self._hidden(msgspec.msgpack.decode(answer, type=Turn))
        return msgspec.msgpack.encode(turn)

    async def turns_again(self, answer: bytes) -> bytes:
        """Return a queue that was answered before as it may be shown."""
        reply = await self._all_hidden(msgspec.msgpack.decode(answer, type=TurnsReply))
        return msgspec.msgpack.encode(reply)

    async def _all_hidden(self, reply: TurnsReply) -> TurnsReply:
        return TurnsReply(
            items=[await self._hidden(turn) for turn in reply.items],
            running=None if reply.running is None else await self._hidden(reply.running),
        )


class TurnReading(TurnsShown):
    """Reads the turns of attempts."""

    async def turns(self, asking: Asking) -> TurnsReply:
        """Answer what runs, and what is queued behind it."""
        await attempt_of(self._database, asking)
        return await self._all_hidden(await self._database.read(_listed, asking.attempt_id))


class TurnOperations(TurnsShown):
    """Changes the turns of attempts."""

    def __init__(
        self,
        database: Database,
        worktrees_dir: Path,
        runner: TurnRunner,
        secrets: Callable[[], list[bytes]] = list,
    ) -> None:
        super().__init__(database, secrets)
        self._worktrees_dir = worktrees_dir
        self._runner = runner

    async def follow_up(self, asking: Asking) -> Turn:
        """Begin another turn, or queue it."""
        request = asking.request
        assert isinstance(request, FollowUpRequest)  # noqa: S101  the table's own pairing
        attempt = await attempt_of(self._database, asking)
        if executor_named(attempt.executor).converses:
            session, last_no, goes_on_in = await self._database.read(_conversation_of, attempt.id)
            check_follow_up(request, session, last_no)
            if request.session is not None:
                # Sooner than the commit that takes it, which looks again: a fork may come between.
                check_session(request.session, goes_on_in)
        else:
            _check_without_session(request, attempt.executor)
        await check_expected_head(self._database, self._worktrees_dir, asking, attempt)
        turn = await self._runner.follow_up(asking.attempt_id, request, _key(asking))
        return await self._hidden(turn)

    async def interrupt(self, asking: Asking) -> Turn:
        """Interrupt the turn that runs."""
        request = asking.request
        assert isinstance(request, InterruptRequest)  # noqa: S101  the table's own pairing
        await attempt_of(self._database, asking)
        turn = await self._runner.interrupt(asking.attempt_id, request, _key(asking))
        return await self._hidden(turn)

    async def go_on(self, asking: Asking) -> Turn:
        """Go on now with the turn that waits for a usage limit."""
        request = asking.request
        assert isinstance(request, GoOnRequest)  # noqa: S101  the table's own pairing
        await attempt_of(self._database, asking)
        turn = await self._runner.go_on(asking.attempt_id, request, _key(asking))
        return await self._hidden(turn)

    async def set_turns(self, asking: Asking) -> TurnsReply:
        """Put the queue into another order, and edit it."""
        request = asking.request
        assert isinstance(request, SetTurnsRequest)  # noqa: S101  the table's own pairing
        attempt = await attempt_of(self._database, asking)
        converses = executor_named(attempt.executor).converses
        for item in request.items:
            if converses:
                check_edit(item)
            elif item.command is not None:
                wish = Wish(command=item.command, profile=attempt.profile)
                executor_named(attempt.executor).launch(wish)

        shown = await self._runner.shown_prompts(
            asking.attempt_id, {item.id: item.prompt for item in request.items}
        )

        async def set_queue(tx: Transaction) -> None:
            await turns.set_queue(tx, asking.attempt_id, request.items, shown, now_ms())

        reply = await self._database.write(_changed, asking, _record(asking), set_queue)
        return await self._all_hidden(reply)

    async def drop_turns(self, asking: Asking) -> TurnsReply:
        """Take queued turns out of the queue."""
        request = asking.request
        assert isinstance(request, DropTurnsRequest)  # noqa: S101  the table's own pairing
        await attempt_of(self._database, asking)
        if (request.turn is None) == (not request.all):
            raise OperationError(
                ErrorCode.INVALID,
                "name one turn, or ask for all of them",
                hint="`turns` lists the queue with the ids.",
                field="turn",
            )

        async def drop(tx: Transaction) -> None:
            turn_id = None
            if request.turn is not None:
                turn_id = (await turns.resolve(tx, asking.attempt_id, request.turn)).id
            reason = f"dropped by {asking.actor}"
            await turns.drop(tx, asking.attempt_id, reason, now_ms(), turn_id=turn_id)

        reply = await self._database.write(_changed, asking, _record(asking), drop)
        return await self._all_hidden(reply)


def _check_without_session(request: FollowUpRequest, executor: str) -> None:
    for field, given in (
        ("images", request.images),
        ("from_turn", request.from_turn),
        ("steer", request.steer or None),
        ("session", request.session),
    ):
        if given not in ([], None):
            raise OperationError(
                ErrorCode.NOT_AVAILABLE,
                f"the executor {executor!r} cannot take {field}",
                hint="Leave them out: it keeps no session.",
                field=field,
            )
    if request.prompt is None and request.command is None:
        raise OperationError(
            ErrorCode.INVALID,
            "a follow-up needs a prompt or a command",
            hint="With a prompt alone, the attempt's own command gets it as its input.",
            field="prompt",
        )


async def _conversation_of(
    tx: Transaction, attempt_id: str
) -> tuple[Session | None, int | None, Session | None]:
    begun = await turns.current(tx, attempt_id)
    session = await sessions.newest_of(tx, attempt_id)
    goes_on_in = await session_to_go_on_in(tx, attempt_id)
    return session, None if begun is None else begun.turn.no, goes_on_in


def _key(asking: Asking) -> StartKey:
    return StartKey(asking.key or "", asking.body_hash, asking.actor, asking.expected_execution)


def _record(asking: Asking) -> OperationRecord:
    return done_record(asking.operation.name, asking.key or "", asking.attempt_id, asking.actor)


def _hidden(redactor: Redactor, text: str | None) -> str | None:
    if text is None:
        return None
    return redactor.whole(text.encode("utf-8", "replace")).decode("utf-8", "replace")


async def _listed(tx: Transaction, attempt_id: str) -> TurnsReply:
    return TurnsReply(
        items=await turns.queued(tx, attempt_id), running=await turns.running(tx, attempt_id)
    )


async def _changed(
    tx: Transaction,
    asking: Asking,
    record: OperationRecord,
    change: Callable[[Transaction], Awaitable[None]],
) -> TurnsReply:
    before = await operations.answered_before(tx, record, asking.body_hash)
    if before is not None:
        return msgspec.msgpack.decode(before, type=TurnsReply)
    await attempts.get(tx, asking.attempt_id)
    await change(tx)
    reply = await _listed(tx, asking.attempt_id)
    await operations.answer(tx, record, asking.body_hash, msgspec.msgpack.encode(reply))
    return reply
