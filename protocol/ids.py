"""Identifiers: UUIDv7 for rows, a node's id from its first public key.

No I/O: the time and the random bytes come from the caller.
"""

import hashlib
import re
import uuid
from typing import Final

#: Random bytes `uuid7` consumes.
UUID7_RANDOM_BYTES: Final = 10
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def uuid7(now_ms: int, random: bytes) -> str:
    """Return a UUID version 7 (RFC 9562, section 5.7) from a wall clock and 10 random bytes."""
    tail = int.from_bytes(random[:UUID7_RANDOM_BYTES], "big")
    value = (now_ms & (2**48 - 1)) << 80
    value |= 0x7 << 76
    value |= (tail >> 68 & 0xFFF) << 64
    value |= 0b10 << 62
    value |= tail & (2**62 - 1)
    return str(uuid.UUID(int=value))


class IdSequence:
    """Makes UUIDv7s that sort as they were made, also within a millisecond.

    The 12 bits after the time count up while the time stands still (RFC 9562, section 6.2,
    method 1), from a random start in their lower half, so that 2,048 ids fit at the least; after
    4,096 of one millisecond their order is left to chance. A clock set back is followed: an id
    tells the time at which it was made.
    """

    def __init__(self) -> None:
        self._last = 0  # the time and the count of the latest id, as one number

    def next(self, now_ms: int, random: bytes) -> str:
        """Return the next id, from a wall clock and 10 random bytes."""
        tail = int.from_bytes(random[:UUID7_RANDOM_BYTES], "big")
        count = tail >> 68 & 0x7FF
        last_ms, last_count = divmod(self._last, 1 << 12)
        if last_ms == now_ms and last_count < 0xFFF:
            count = last_count + 1
        self._last = now_ms << 12 | count
        tail = count << 68 | tail & (2**68 - 1)
        return uuid7(now_ms, tail.to_bytes(UUID7_RANDOM_BYTES, "big"))


def node_id_of(public_key: bytes) -> str:
    """Return the id of the node whose first public key (32 raw Ed25519 bytes) this is.

    A version 8 UUID (RFC 9562, section 5.8) over BLAKE2b, so that joining again keeps the id.
    """
    digest = hashlib.blake2b(public_key, digest_size=16, person=b"skep-node-id").digest()
    value = int.from_bytes(digest, "big")
    value = value & ~(0xF << 76) | 0x8 << 76
    value = value & ~(0b11 << 62) | 0b10 << 62
    return str(uuid.UUID(int=value))


def is_id(text: str) -> bool:
    """Whether `text` is a whole id in canonical form."""
    return _ID.fullmatch(text) is not None


def short_id(identifier: str) -> str:
    """Return the part of an id that people see: its last 8 digits, which are all random."""
    return identifier.replace("-", "")[-8:]
