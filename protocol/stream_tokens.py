"""Tokens of streams: what a client shows at a node's own address to read one attempt.

Signed by the hive as capabilities are, and of another kind: neither passes for the other. A token
may be used again until it expires, because it only ever reads; see `docs/decisions/0012-*`.
"""

from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import limits
from protocol.tokens import Grant, check_grant, refused, sign_grant

_TYPE: Final = "skep-stream+jwt"
_WHAT: Final = "token of a stream"


class StreamToken(Grant, frozen=True, kw_only=True):
    """Who may read which attempt at which node, and until when."""


def mint_stream_token(token: StreamToken, *, key: Ed25519PrivateKey, key_id: str) -> str:
    """Sign a token as a JWT."""
    return sign_grant(token, kind=_TYPE, key=key, key_id=key_id)


def check_stream_token(
    text: str,
    *,
    keys: Mapping[str, bytes],
    hive_id: str,
    generation: int,
    node_id: str,
    now_s: float,
) -> StreamToken:
    """Return what the token allows at this node now; raise RemoteProtocolError if nothing.

    The caller holds the request against `attempt_id` and `role`.
    """
    token = check_grant(
        text,
        StreamToken,
        kind=_TYPE,
        what=_WHAT,
        keys=keys,
        hive_id=hive_id,
        generation=generation,
        node_id=node_id,
        now_s=now_s,
    )
    if token.expires_at_s - token.issued_at_s > limits.STREAM_TOKEN_TTL_S:
        raise refused(f"the {_WHAT} lives too long")
    return token
