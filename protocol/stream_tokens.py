"""Tokens of streams: what a client shows at a node's own address to read one attempt.

Signed by the hive as capabilities are, and of another kind: neither passes for the other. A token
may be used again until it expires, because it only ever reads; see `docs/decisions/0012-*`.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import limits
from protocol.tokens import refused, signed_token, verified_claims

_TYPE: Final = "skep-stream+jwt"
_WHAT: Final = "token of a stream"


class StreamToken(msgspec.Struct, frozen=True, kw_only=True):
    """Who may read which attempt at which node, and until when."""

    jti: str
    actor: str
    role: str
    node_id: str
    attempt_id: str
    hive_id: str
    generation: int
    issued_at_s: int
    expires_at_s: int
    project_id: str | None = None


def mint_stream_token(token: StreamToken, *, key: Ed25519PrivateKey, key_id: str) -> str:
    """Sign a token as a JWT."""
    claims = {
        "iss": token.hive_id,
        "aud": token.node_id,
        "sub": token.actor,
        "jti": token.jti,
        "iat": token.issued_at_s,
        "exp": token.expires_at_s,
        "role": token.role,
        "prj": token.project_id,
        "att": token.attempt_id,
        "gen": token.generation,
    }
    return signed_token(claims, kind=_TYPE, key=key, key_id=key_id)


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
    claims = verified_claims(text, keys, hive_id, node_id, kind=_TYPE, what=_WHAT)
    try:
        token = msgspec.convert(
            {
                "jti": claims["jti"],
                "actor": claims["sub"],
                "role": claims["role"],
                "node_id": node_id,
                "attempt_id": claims["att"],
                "hive_id": hive_id,
                "generation": claims["gen"],
                "issued_at_s": claims["iat"],
                "expires_at_s": claims["exp"],
                "project_id": claims.get("prj"),
            },
            StreamToken,
        )
    except KeyError as missing:
        raise refused(f"the {_WHAT} lacks {missing}") from missing
    except msgspec.ValidationError as error:
        raise refused(f"a claim of the {_WHAT} is not what it should be") from error
    if token.expires_at_s + limits.TOKEN_LEEWAY_S < now_s:
        raise refused(f"the {_WHAT} has expired")
    if token.issued_at_s - limits.TOKEN_LEEWAY_S > now_s:
        raise refused(f"the {_WHAT} is not valid yet")
    if token.expires_at_s - token.issued_at_s > limits.STREAM_TOKEN_TTL_S:
        raise refused(f"the {_WHAT} lives too long")
    if token.generation != generation:
        raise refused(f"the {_WHAT} is of another generation of the hive")
    return token
