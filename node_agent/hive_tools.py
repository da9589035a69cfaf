"""Tools of agents that the hive answers, asked on behalf of one attempt with a token of its own.

Owns the token and the call. Must not decide what an attempt may: the hive does, by what it knows
of the attempt.
"""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from node_agent.identity import Enrolment, NodeIdentity
from node_agent.join import tls_context
from protocol import limits
from protocol.attempt_tokens import AttemptToken, mint_attempt_token
from protocol.errors import ErrorBody, ErrorCode, OperationError, operation_error

#: An attempt that is started waits for a node that answers.
_ANSWER_S_MAX: Final = 90.0
_REPLY_BYTES_MAX: Final = 4 * 1024 * 1024


class _ErrorReply(msgspec.Struct, frozen=True):
    error: ErrorBody


class HiveTools:
    """Asks the joined hive."""

    def __init__(
        self,
        data_dir: Path,
        identity: NodeIdentity,
        enrolment: Callable[[], Enrolment | None],
        hive_now_s: Callable[[], float],
    ) -> None:
        self._data_dir = data_dir
        self._identity = identity
        self._enrolment = enrolment
        self._hive_now_s = hive_now_s

    async def call(self, attempt_id: str, tool: str, arguments: dict[str, Any]) -> Any:
        """Return what the hive answers, as JSON values. Raises OperationError."""
        enrolment = self._enrolment()
        if enrolment is None:
            raise OperationError(
                ErrorCode.NOT_AVAILABLE,
                f"{tool} is answered by a hive, and this node has joined none",
                hint="Join one: node-agent join URL TOKEN",
            )
        headers = {"Authorization": f"Bearer {self._token(enrolment.hive_id, attempt_id)}"}
        tls = tls_context(enrolment, self._data_dir)
        try:
            async with (
                aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=_ANSWER_S_MAX), headers=headers
                ) as session,
                session.post(
                    f"{enrolment.url.rstrip('/')}/api/v1/agent-tools/{tool}",
                    json=arguments,
                    ssl=True if tls is None else tls,
                ) as reply,
            ):
                content = await _whole(reply)
                status = reply.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise OperationError(
                ErrorCode.UNKNOWN_OUTCOME,
                f"the hive did not answer: {error or type(error).__name__}",
                hint="It may have done it. Look, then ask again.",
            ) from error
        return _answer(status, content)

    def _token(self, hive_id: str, attempt_id: str) -> str:
        now_s = int(self._hive_now_s())
        token = AttemptToken(
            jti=secrets.token_hex(16),
            node_id=self._identity.node_id,
            attempt_id=attempt_id,
            hive_id=hive_id,
            issued_at_s=now_s,
            expires_at_s=now_s + limits.ATTEMPT_TOKEN_TTL_S,
        )
        return mint_attempt_token(token, key=self._identity.key)


async def _whole(reply: aiohttp.ClientResponse) -> bytes:
    """Return a body to its end: one read gives only what has come by then."""
    content = bytearray()
    async for piece in reply.content.iter_any():
        content += piece
        if len(content) > _REPLY_BYTES_MAX:
            raise OperationError(ErrorCode.TOO_LARGE, "the hive's answer is too large")
    return bytes(content)


def _answer(status: int, content: bytes) -> Any:
    try:
        if status >= 400:
            raise operation_error(msgspec.json.decode(content, type=_ErrorReply).error)
        return msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise OperationError(
            ErrorCode.INTERNAL,
            f"the hive answered HTTP {status} with something unknown",
            hint="Is what answers there the hive?",
        ) from error
