"""New ids for what the hive owns."""

import secrets

from protocol import ids

_ids = ids.IdSequence()


def new_id(now_ms: int) -> str:
    """Return a new UUIDv7, which sorts after the last one of the same millisecond."""
    return _ids.next(now_ms, secrets.token_bytes(ids.UUID7_RANDOM_BYTES))
