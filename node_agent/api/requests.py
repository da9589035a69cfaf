"""What agents ask of people, over the local API: lists, and one with its answer."""

from typing import Any, Final

import msgspec

from node_agent.api.exchange import ApiReply, ApiRequest, reply_json
from node_agent.local_node import LocalNode
from node_agent.store import attempts as stored_attempts
from node_agent.store import requests as stored
from protocol.conversation import AgentRequest, RequestStatus
from protocol.errors import ErrorCode, OperationError
from protocol.ids import is_id

PAGE_MAX: Final = 200
_PAGE_DEFAULT: Final = 50


async def list_requests(node: LocalNode, asked: ApiRequest) -> ApiReply:
    """Answer a page of requests, newest first; by `status` and `attempt`."""
    limit = max(1, asked.number("limit", _PAGE_DEFAULT, at_most=PAGE_MAX))
    attempt_id = asked.query.get("attempt")
    if attempt_id is not None:
        attempt_id = await node.database.read(stored_attempts.resolve, attempt_id)
    found = await node.database.read(
        stored.page,
        limit=limit + 1,
        before=_cursor(asked.query.get("cursor")),
        status=_status(asked.query.get("status")),
        attempt_id=attempt_id,
    )
    page = found[:limit]
    following = page[-1].id if len(found) > limit else None
    return reply_json({"items": [_shown(node, one) for one in page], "next": following})


async def show_request(node: LocalNode, asked: ApiRequest) -> ApiReply:
    """Answer one request as it stands."""
    request_id = await node.database.read(stored.resolve, asked.path["request_id"])
    return reply_json(_shown(node, await node.database.read(stored.get, request_id)))


def _shown(node: LocalNode, request: AgentRequest) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(request)
    return {**shown, "node_id": node.record().node_id}


def _status(text: str | None) -> RequestStatus | None:
    if text is None:
        return None
    try:
        return RequestStatus(text)
    except ValueError as error:
        words = ", ".join(one.value for one in RequestStatus)
        raise OperationError(
            ErrorCode.INVALID,
            f"no request is ever {text!r}",
            hint=f"Ask for one of: {words}.",
            field="status",
        ) from error


def _cursor(text: str | None) -> str | None:
    if text is not None and not is_id(text):
        raise OperationError(
            ErrorCode.INVALID,
            "this is no cursor of a list",
            hint="Take a list's `next`.",
            field="cursor",
        )
    return text
