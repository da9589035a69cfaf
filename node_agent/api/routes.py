"""The node's API on one screen. Paths below `/api/v1/`; see `docs` for their bodies."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from node_agent.api import agent_tools, attempts, checkouts, requests, sessions, status
from node_agent.api.exchange import ApiReply, ApiRequest
from node_agent.api.operations import handler_of
from node_agent.api.router import PREFIX, Route, find_route
from node_agent.callers import check_person
from node_agent.local_node import LocalNode
from node_agent.store import attempts as stored
from node_agent.store import requests as stored_requests
from node_agent.store import transcripts
from node_agent.store.errors import NotStored
from protocol.errors import ErrorCode, OperationError
from protocol.operation_values import ROOTS
from protocol.operations import OPERATIONS, Operation


def _operation_route(operation: Operation) -> Route[LocalNode]:
    path = operation.path.replace("{path}", "{path:rest}")
    if not path.startswith(ROOTS):
        path = f"attempts/{{attempt_id}}/{path}"
    # What changes something needs the agent, which is to carry it on; so does what never ends.
    alone = not (operation.changing or operation.live)
    return Route(operation.method, path, handler_of(operation), alone=alone)


ROUTES: Final[tuple[Route[LocalNode], ...]] = (
    Route("GET", "status", status.show_status),
    Route("GET", "outbox", status.show_outbox),
    Route("POST", "enrolment/changed", status.enrolment_changed, alone=False),
    Route("GET", "checkouts", checkouts.list_all),
    Route("POST", "checkouts", checkouts.add, writes=True),
    Route("DELETE", "checkouts/{checkout:rest}", checkouts.remove, writes=True),
    Route("GET", "attempts", attempts.list_attempts),
    # A task of this node's own; `tasks/{task_id}/attempts` is for one that there is already.
    Route("POST", "attempts", handler_of(OPERATIONS["start"]), alone=False),
    Route("GET", "attempts/{attempt_id}", attempts.show_attempt),
    Route("GET", "sessions", sessions.list_sessions),
    Route("GET", "sessions/{session_id}", sessions.show_session),
    Route("GET", "sessions/{session_id}/messages", sessions.show_messages),
    Route("GET", "sessions/{session_id}/turns", sessions.list_turns),
    Route("GET", "requests", requests.list_requests),
    Route("GET", "requests/{request_id}", requests.show_request),
    Route(
        "POST",
        "attempts/{attempt_id}/agent-tools/{tool}",
        agent_tools.call,
        alone=False,
        of_agents=True,
    ),
    Route(
        "GET",
        "attempts/{attempt_id}/agent-tools/ask_human/{request_id}",
        agent_tools.answer_of,
        alone=False,
    ),
    *(_operation_route(operation) for operation in OPERATIONS.values()),
)


#: What lists all there is of this node; with `all`, of all nodes.
_LISTS: Final = {attempts.list_attempts, requests.list_requests, sessions.list_sessions}


async def answer(node: LocalNode, method: str, path: str, asked: ApiRequest) -> ApiReply:
    """Answer a request of the node's operator. Raises SkepError."""
    route, names = find_route(ROUTES, method, path)
    if method != "GET" and not route.of_agents:
        check_person(asked.from_attempt)
    if not route.alone and not node.running:
        raise _not_running(node)
    query = dict(asked.query)
    if not node.running:
        # With no agent nothing changes, and whoever waits would keep one from starting.
        query.pop("wait_ms", None)
    if await _is_elsewhere(node, route, names, query):
        # It would read with the token of the person who signed in here, all that they may see.
        check_person(asked.from_attempt)
        if node.elsewhere is None:
            raise _not_running(node)
        return await node.elsewhere.ask(method, path.removeprefix(PREFIX), asked)
    return await route.handler(node, replace(asked, path=names, query=query))


def _not_running(node: LocalNode) -> OperationError:
    return OperationError(
        ErrorCode.NODE_OFFLINE,
        "the node agent is not running",
        hint=f"Start it with: node-agent run --data {node.config.data_dir}",
    )


async def _is_elsewhere(
    node: LocalNode, route: Route[LocalNode], names: Mapping[str, str], query: dict[str, str]
) -> bool:
    """Whether this is of another node, and someone is signed in who may ask about it."""
    if route.handler in _LISTS:
        return query.pop("all", "") not in {"", "0"}
    if node.elsewhere is None or not node.elsewhere.signed_in():
        return False
    if "execution_id" in names:
        return await node.database.read(stored.find_execution, names["execution_id"]) is None
    try:
        if "request_id" in names:
            await node.database.read(stored_requests.resolve, names["request_id"])
        elif "session_id" in names:
            await node.database.read(transcripts.resolve_session, names["session_id"])
        elif "attempt_id" in names:
            await node.database.read(stored.resolve, names["attempt_id"])
    except NotStored:
        return True
    return False


def writes(method: str, path: str) -> bool:
    """Whether answering this appends to the journal. Raises OperationError for no route."""
    return find_route(ROUTES, method, path)[0].writes
