"""Identifiers: UUIDv7 for rows, a node's id from its first public key.

Pure: the time and the random bytes come from the caller.
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
