"""New ids for what the hive owns."""

import secrets

from protocol import ids


def new_id(now_ms: int) -> str:
    """Return a new UUIDv7."""
    return ids.uuid7(now_ms, secrets.token_bytes(ids.UUID7_RANDOM_BYTES))
