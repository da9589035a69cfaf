"""Tools of agents over the local API: answered here, or passed on to the hive.

What stands here is for the tool server that runs beside an agent (`node-agent mcp`): it may be cut
off and ask again, under the same key.
"""

import asyncio
import contextlib
from typing import Any, Final

import msgspec

from node_agent.api.exchange import ApiReply, ApiRequest, reply_json
from node_agent.attempt_secrets import secrets_of_attempt, without_secrets
from node_agent.callers import check_person
from node_agent.local_node import JOURNAL, LocalNode
from node_agent.redaction import Redactor
from node_agent.sessions import tool_requests
from node_agent.sessions.shown_text import ShownText
from node_agent.stamps import now_ms
from node_agent.store import attempts
from protocol.agent_tools import AGENT_TOOLS, AnsweredBy, AskHuman, ReportProgress
from protocol.errors import ErrorCode, OperationError
from protocol.wrong_fields import wrong_field

WAIT_MS_MAX: Final = 30_000


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a tool. `key` is the call's own: sent again, it is the same call."""

    tool: str
    attempt_id: str
    key: str
    execution_id: str | None = None
    arguments: dict[str, Any] = {}


async def call(node: LocalNode, asked: ApiRequest) -> ApiReply:
    """Answer a tool; a question with its request, which is then waited for."""
    made = asked.decode(ToolCall, **asked.path)
    tool = AGENT_TOOLS.get(made.tool)
    if tool is None:
        raise OperationError(
            ErrorCode.NOT_FOUND,
            f"there is no tool {made.tool[:100]!r}",
            hint=f"There are: {', '.join(AGENT_TOOLS)}.",
        )
    try:
        arguments = msgspec.convert(made.arguments, tool.arguments)
    except msgspec.ValidationError as error:
        wrong = wrong_field(error)
        raise OperationError(
            ErrorCode.INVALID, wrong.message, field=wrong.field or "arguments"
        ) from error
    attempt_id = await _own_attempt(node, asked)
    execution = await node.database.read(
        tool_requests.running_execution, attempt_id, made.execution_id
    )
    secrets = [*node.secrets(), *await node.database.read(secrets_of_attempt, attempt_id)]
    if tool.answered_by is AnsweredBy.HIVE:
        if node.hive_tools is None:
            raise OperationError(ErrorCode.NODE_OFFLINE, "the node agent is not running")
        said = without_secrets(made.arguments, Redactor(secrets))
        return reply_json(await node.hive_tools.call(attempt_id, tool.name, said))
    shown = ShownText(secrets)
    if isinstance(arguments, AskHuman):
        request = await node.database.write(
            tool_requests.ask,
            execution,
            made.key,
            arguments,
            shown,
            node.open_request,
            now_ms(),
        )
        return reply_json({"request_id": request.id})
    assert isinstance(arguments, ReportProgress)  # noqa: S101  the other tool of a node
    kept = await node.database.write(tool_requests.report, execution, arguments, shown, now_ms())
    return reply_json({"told": kept})


async def answer_of(node: LocalNode, asked: ApiRequest) -> ApiReply:
    """Answer a question of a tool once it is settled; `open` after `wait_ms` without that."""
    request_id = asked.path["request_id"]
    wait_s = asked.number("wait_ms", 0, at_most=WAIT_MS_MAX) / 1000
    attempt_id = await _own_attempt(node, asked)
    settled = False
    with node.changes.watch(JOURNAL) as changed, contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s or None):
            while True:
                changed.clear()
                # Only looked at: anything the journal tells of wakes whoever waits here.
                settled = await node.database.read(tool_requests.is_settled, attempt_id, request_id)
                if settled or not wait_s:
                    break
                await changed.wait()
    if not settled:
        return reply_json({"status": "open"})
    return reply_json(await node.database.write(tool_requests.hand_over, request_id, now_ms()))


async def _own_attempt(node: LocalNode, asked: ApiRequest) -> str:
    """Return whose tools are used: an agent uses its own attempt's alone."""
    attempt_id = await node.database.read(attempts.resolve, asked.path["attempt_id"])
    if asked.from_attempt not in {None, attempt_id}:
        check_person(asked.from_attempt)
    return attempt_id
