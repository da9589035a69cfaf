"""Tokens of attempts: what a node shows a hive to ask on behalf of an agent that runs on it.

Signed by the node with its own key, so that nothing has to be handed out or kept: the hive knows
the key, and whose attempt it is. Of another kind than all the hive signs.
"""

from typing import Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import limits
from protocol.tokens import ALGORITHM, refused, verified_claims

_TYPE: Final = "skep-attempt+jwt"
_WHAT: Final = "token of an attempt"
#: How a caller tells it from a person's token: theirs hold no dot.
SEPARATOR: Final = "."


class AttemptToken(msgspec.Struct, frozen=True, kw_only=True):
    """Which attempt of which node asks which hive, and until when."""

    jti: str
    node_id: str
    attempt_id: str
    hive_id: str
    issued_at_s: int
    expires_at_s: int


def mint_attempt_token(token: AttemptToken, *, key: Ed25519PrivateKey) -> str:
    """Sign a token as a JWT; its key's id is the node's."""
    claims = {
        "iss": token.node_id,
        "aud": token.hive_id,
        "sub": token.attempt_id,
        "jti": token.jti,
        "iat": token.issued_at_s,
        "exp": token.expires_at_s,
    }
    headers = {"kid": token.node_id, "typ": _TYPE}
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers=headers)


def node_named(text: str) -> str:
    """Return the node that a token says it is of, unproven. Raises RemoteProtocolError."""
    try:
        header = jwt.get_unverified_header(text)
    except jwt.InvalidTokenError as error:
        raise refused(f"that is no {_WHAT}") from error
    node_id = header.get("kid")
    if header.get("typ") != _TYPE or not isinstance(node_id, str):
        raise refused(f"that is no {_WHAT}")
    return node_id


def check_attempt_token(
    text: str, *, node_id: str, public_key: bytes, hive_id: str, now_s: float
) -> AttemptToken:
    """Return the token if this node signed it for this hive and now; else RemoteProtocolError.

    The caller holds the attempt against the node's own.
    """
    claims = verified_claims(text, {node_id: public_key}, node_id, hive_id, kind=_TYPE, what=_WHAT)
    try:
        token = msgspec.convert(
            {
                "jti": claims["jti"],
                "node_id": node_id,
                "attempt_id": claims["sub"],
                "hive_id": hive_id,
                "issued_at_s": claims["iat"],
                "expires_at_s": claims["exp"],
            },
            AttemptToken,
        )
    except msgspec.ValidationError as error:
        raise refused(f"a claim of the {_WHAT} is not what it should be") from error
    if token.expires_at_s + limits.TOKEN_LEEWAY_S < now_s:
        raise refused(f"the {_WHAT} has expired")
    if token.issued_at_s - limits.TOKEN_LEEWAY_S > now_s:
        raise refused(f"the {_WHAT} is not valid yet")
    if token.expires_at_s - token.issued_at_s > limits.ATTEMPT_TOKEN_TTL_S:
        raise refused(f"the {_WHAT} lives too long")
    return token
