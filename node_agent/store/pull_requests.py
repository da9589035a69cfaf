"""What is kept of attempts' pull requests: the one an attempt has, and one that was asked for.

A wish is kept before it is sent, so that a start after a crash knows what to look for.
"""

import msgspec

from node_agent.store import attempts, operations, settings
from node_agent.store.transaction import Transaction
from protocol.entities import Attempt, OperationRecord, PullRequest
from protocol.pull_requests import CreatePrReply


class AskedPr(msgspec.Struct, frozen=True, kw_only=True):
    """A pull request that a forge was asked for under an idempotency key; `reply` once it is."""

    key: str
    attempt_id: str
    owner: str
    name: str
    branch: str
    title: str
    target: str
    head: str
    reply: CreatePrReply | None = None


def _name(attempt_id: str) -> str:
    return f"pull_request:{attempt_id}"


async def ask(tx: Transaction, asked: AskedPr) -> None:
    """Keep what is about to be asked for, in place of what the attempt asked for before."""
    await settings.put(tx, _name(asked.attempt_id), msgspec.msgpack.encode(asked))


async def asked_under(tx: Transaction, attempt_id: str, key: str) -> AskedPr | None:
    """Return what was asked for under a key; None where it never came so far."""
    value = await settings.get(tx, _name(attempt_id))
    asked = None if value is None else msgspec.msgpack.decode(value, type=AskedPr)
    return asked if asked is not None and asked.key == key else None


async def made(
    tx: Transaction, asked: AskedPr, reply: CreatePrReply, pr: PullRequest, at_ms: int
) -> None:
    """Keep that it was made: the attempt has it, and its key finds the answer."""
    await ask(tx, msgspec.structs.replace(asked, reply=reply))
    await keep(tx, asked.attempt_id, pr, at_ms)


async def keep(tx: Transaction, attempt_id: str, pr: PullRequest, at_ms: int) -> Attempt:
    """Have an attempt's pull request be this one, where it is not already."""
    attempt = await attempts.get(tx, attempt_id)
    if attempt.pr == pr:
        return attempt
    changed = msgspec.structs.replace(attempt, pr=pr)
    await attempts.save(tx, changed, at_ms)
    return changed


async def attach(
    tx: Transaction, record: OperationRecord, body_hash: str, attempt_id: str, pr: PullRequest
) -> PullRequest:
    """Have an attempt's pull request be this one; it, the key and the answer are one commit."""
    before = await operations.answered_before(tx, record, body_hash)
    if before is not None:
        return msgspec.msgpack.decode(before, type=PullRequest)
    await keep(tx, attempt_id, pr, record.started_at_ms)
    await operations.answer(tx, record, body_hash, msgspec.msgpack.encode(pr))
    return pr
