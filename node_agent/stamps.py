"""What every new row is stamped with: the wall clock, and an id that follows it.

The wall clock is for people and never orders anything that matters.
"""

import hashlib
import os
import time
import uuid

from protocol.ids import UUID7_RANDOM_BYTES, IdSequence, uuid7

_ids = IdSequence()


def now_ms() -> int:
    """Return the wall clock in milliseconds."""
    return time.time_ns() // 1_000_000


def new_id() -> str:
    """Return a fresh id, which sorts after the last one of the same millisecond."""
    return _ids.next(now_ms(), os.urandom(UUID7_RANDOM_BYTES))


def id_from(identifier: str, what: str) -> str:
    """Return the id of what belongs to something else, and is named before it is there."""
    made_ms = uuid.UUID(identifier).int >> 80
    named = hashlib.blake2b(f"{what} {identifier}".encode(), digest_size=UUID7_RANDOM_BYTES)
    return uuid7(made_ms, named.digest())
