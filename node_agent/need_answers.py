"""Answers to the hive's needs: pages of state and chunks, then what became of each id.

Owns the order inside an answer. Must not send: the uplink takes one frame at a time, as credit
allows.
"""

from collections.abc import AsyncIterator
from typing import Final, Protocol

from protocol import limits
from protocol.credit import cost
from protocol.log_chunks import GapChunk, LogChunk
from protocol.messages import Fetched, Need, NeedDone, NeedOutcome, Records
from protocol.ops import OpKind, Record, record_pages

_CHUNKS_PER_READ_MAX: Final = 16
_MESSAGES_PER_READ_MAX: Final = 50
_READ_BYTES_MAX: Final = 1024 * 1024

Frame = Fetched | Records | NeedDone


class AnswerStore(Protocol):
    """What an answer is read from."""

    async def records(self, kind: str, ids: list[str]) -> list[Record]: ...

    async def executions_of(self, attempt_id: str) -> list[str] | None: ...

    async def messages_after(
        self, session_id: str, seq: int, limit: int
    ) -> tuple[int, list[Record]]: ...

    async def tombstone(self, entity_id: str) -> str | None: ...

    async def has_log(self, execution_id: str) -> bool: ...

    async def chunks_from(
        self, execution_id: str, chunk_seq: int, *, chunks_max: int, bytes_max: int
    ) -> list[LogChunk | GapChunk]: ...


async def answer(need: Need, store: AnswerStore) -> AsyncIterator[Frame]:
    """Yield the frames that answer `need`; the last is its `NeedDone`.

    One bad id spoils nothing else: each gets `sent`, `gone` (it was here) or `unknown`.
    """
    budget = need.max_bytes or limits.NEED_BYTES_DEFAULT
    outcomes: list[NeedOutcome] = []
    more = False
    for index, identifier in enumerate(need.ids[: limits.NEED_IDS_MAX]):
        if budget <= 0:
            more = True
            break
        sent = 0
        async for frame in _answer_one(need, index, identifier, store):
            yield frame
            sent += 1
            budget -= cost(frame)
            if budget <= 0:
                more = True
                break
        outcomes.append(await _outcome(need, identifier, sent, store))
    yield NeedDone(request_id=need.request_id, outcomes=outcomes, more=more)


async def _outcome(need: Need, identifier: str, sent: int, store: AnswerStore) -> NeedOutcome:
    if sent or (need.kind == "logs" and await store.has_log(identifier)):
        return NeedOutcome(identifier, "sent", sent)
    reason = await store.tombstone(identifier)
    if reason is not None:
        return NeedOutcome(identifier, "gone", 0, reason)
    return NeedOutcome(identifier, "unknown")


async def _answer_one(
    need: Need, index: int, identifier: str, store: AnswerStore
) -> AsyncIterator[Fetched | Records]:
    match need.kind:
        case "full_attempt":
            async for frame in _attempt(need.request_id, identifier, store, logs=True):
                yield frame
        case "executions":
            async for frame in _attempt(need.request_id, identifier, store, logs=False):
                yield frame
        case "logs":
            after = need.after[index] if index < len(need.after) else 0
            first = need.from_chunk[index] if index < len(need.from_chunk) else 1
            async for frame in _log(need.request_id, identifier, store, first, after):
                yield frame
        case "messages":
            after = need.after[index] if index < len(need.after) else 0
            async for page in _messages(need.request_id, identifier, store, after):
                yield page
        case _:
            # Kinds of a newer hive: every id is answered `unknown`.
            return


async def _attempt(
    request_id: str, attempt_id: str, store: AnswerStore, *, logs: bool
) -> AsyncIterator[Fetched | Records]:
    executions = await store.executions_of(attempt_id)
    if executions is None:
        return
    records = await store.records(OpKind.ATTEMPT, [attempt_id])
    records += await store.records(OpKind.EXECUTION, executions)
    records += await store.records(OpKind.LOG_END, executions)
    for page in record_pages(records):
        yield Records(request_id=request_id, records=page)
    if logs:
        for execution_id in executions:
            async for frame in _log(request_id, execution_id, store, 1, 0):
                yield frame


async def _messages(
    request_id: str, session_id: str, store: AnswerStore, after: int
) -> AsyncIterator[Records]:
    session = await store.records(OpKind.SESSION, [session_id])
    if not session:
        return
    # The session first: it says whose the messages are.
    yield Records(request_id=request_id, records=session)
    while True:
        before = after
        after, records = await store.messages_after(session_id, after, _MESSAGES_PER_READ_MAX)
        if after == before:
            return
        # Of places whose messages are damaged there is nothing to send, but of those behind them.
        for page in record_pages(records) if records else ():
            yield Records(request_id=request_id, records=page)


async def _log(
    request_id: str, execution_id: str, store: AnswerStore, first: int, after: int
) -> AsyncIterator[Fetched]:
    following = max(1, first)
    while True:
        chunks = await store.chunks_from(
            execution_id,
            following,
            chunks_max=_CHUNKS_PER_READ_MAX,
            bytes_max=_READ_BYTES_MAX,
        )
        if not chunks or chunks[0].chunk_seq > following:
            # A hole of an older disk: such a log streams, where it is numbered on behind a gap.
            return
        for chunk in chunks:
            following = (chunk.through_seq if isinstance(chunk, GapChunk) else chunk.chunk_seq) + 1
            # A chunk that ends before the entry after `after` holds only what the hive has.
            if chunk.first_entry + chunk.entries > after + 1 or chunk.first_entry > after:
                yield Fetched(request_id=request_id, chunk=chunk)
