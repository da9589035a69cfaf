"""What a client shows at a node's own listener: the hive's signed word on an attempt or a call.

Owns how long such a word lives and what stands in it. Must not decide who may do what: callers
have asked `access`.
"""

import secrets
import time

import msgspec

from hive.access import Principal
from hive.node_registry import Signer
from hive.operation_proxy import Target
from protocol import limits, tokens
from protocol.operation_values import Request
from protocol.operations import Operation
from protocol.stream_tokens import StreamToken, mint_stream_token


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """A token and when it expires."""

    token: str
    expires_at_ms: int


class DirectAccess:
    """Signs what nodes take from clients."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def to_read(self, principal: Principal, target: Target) -> Word:
        """Return the token that reads one attempt at its node, as often as it is shown."""
        now_s = int(time.time())
        token = StreamToken(
            jti=secrets.token_hex(16),
            actor=principal.name,
            role=principal.role.name.lower(),
            node_id=target.node_id,
            attempt_id=target.attempt_id,
            hive_id=self._signer.hive_id,
            generation=self._signer.generation(),
            issued_at_s=now_s,
            expires_at_s=now_s + limits.STREAM_TOKEN_TTL_S,
            project_id=target.project_id,
        )
        text = mint_stream_token(token, key=self._signer.key, key_id=self._signer.key_id)
        return Word(token=text, expires_at_ms=token.expires_at_s * 1000)

    def to_change(
        self, principal: Principal, operation: Operation, target: Target, request: Request
    ) -> Word:
        """Return the capability for one changing call with just this request."""
        now_s = int(time.time())
        capability = tokens.Capability(
            jti=secrets.token_hex(16),
            actor=principal.name,
            role=principal.role.name.lower(),
            node_id=target.node_id,
            operation=operation.name,
            attempt_id=target.attempt_id,
            body_hash=tokens.body_hash(msgspec.msgpack.encode(request)),
            hive_id=self._signer.hive_id,
            generation=self._signer.generation(),
            issued_at_s=now_s,
            expires_at_s=now_s + limits.CAPABILITY_TTL_S,
            project_id=target.project_id,
        )
        text = tokens.mint_capability(capability, key=self._signer.key, key_id=self._signer.key_id)
        return Word(token=text, expires_at_ms=capability.expires_at_s * 1000)
