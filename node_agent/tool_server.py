"""An MCP server on standard input and output: the tools of one attempt, for its agent.

Owns waiting: an answer may take days, and the node agent may be restarted meanwhile. Everything
else is the running node agent's, which is asked over its socket.
"""

import asyncio
import contextlib
import functools
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

import mcp_types as types
import msgspec
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from node_agent.data_folder import DataFolderBusyError
from node_agent.local_client import LocalClient
from protocol.agent_tools import AGENT_TOOLS, WAIT_S_DEFAULT, AgentTool
from protocol.errors import ErrorCode, SkepError

_WAIT_MS: Final = 20_000
_AGAIN_S: Final = 1.0
#: With the node agent away a call that may be repeated is, for so long.
_AWAY_S_MAX: Final = 600.0
_INSTRUCTIONS: Final = (
    "You work on a task in a worktree of your own. Ask people with ask_human when you cannot"
    " decide, and tell them with report_progress how far you are. Tasks, attempts and variables are"
    " those of your project."
)
#: What says that the node agent was not reached, or went away before it answered.
_AWAY: Final = frozenset({ErrorCode.NODE_OFFLINE, ErrorCode.UNKNOWN_OUTCOME, ErrorCode.NODE_FAILED})


class ToolServer:
    """The tools of one attempt."""

    def __init__(
        self, client: Callable[[], LocalClient], attempt_id: str, execution_id: str | None
    ) -> None:
        self._client = client
        self._path = f"attempts/{quote(attempt_id, safe='')}/agent-tools"
        self._execution_id = execution_id

    async def run(self, version: str) -> None:
        """Serve until standard input ends."""
        server: Any = Server(
            "skep",
            version=version,
            instructions=_INSTRUCTIONS,
            on_list_tools=_list_tools,
            on_call_tool=self._call,
        )
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())

    async def _call(self, ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            answer = await self._answer(ctx, params.name, params.arguments or {})
        except SkepError as error:
            return _result({"error": msgspec.to_builtins(error.body())}, wrong=True)
        return _result(answer)

    async def _answer(self, ctx: Any, name: str, arguments: dict[str, Any]) -> Any:
        # One key for the call, however often it has to be sent.
        body = {"key": uuid.uuid4().hex, "arguments": arguments}
        if self._execution_id is not None:
            body["execution_id"] = self._execution_id
        send = functools.partial(self._send, "POST", f"{self._path}/{quote(name, safe='')}", body)
        if name != "ask_human":
            return await send()
        request_id = (await _patiently(send))["request_id"]
        wait_s = float(arguments.get("wait_s", WAIT_S_DEFAULT))
        return await self._settled(ctx, request_id, wait_s)

    async def _settled(self, ctx: Any, request_id: str, wait_s: float) -> Any:
        """Wait until people have answered, telling the agent now and then that it goes on."""
        until = time.monotonic() + wait_s
        path = f"{self._path}/ask_human/{request_id}"
        while True:
            left_ms = max(0, min(_WAIT_MS, int(1000 * (until - time.monotonic()))))
            found = await _patiently(
                functools.partial(self._send, "GET", f"{path}?wait_ms={left_ms}", None)
            )
            if found["status"] != "open" or time.monotonic() >= until:
                return {**found, "request_id": request_id}
            # Keeps clients from giving up that measure silence; a no-op where none was asked for.
            with contextlib.suppress(Exception):
                await ctx.session.report_progress(
                    wait_s - (until - time.monotonic()), wait_s, "waiting for a person"
                )

    async def _send(self, method: str, path: str, body: Any) -> Any:
        return await _in_thread(lambda: self._client().send(method, path, body))


async def _list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
    del ctx, params
    return types.ListToolsResult(tools=[_described(tool) for tool in AGENT_TOOLS.values()])


def _described(tool: AgentTool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        description=tool.summary,
        input_schema=tool.schema,
        annotations=types.ToolAnnotations(read_only_hint=tool.reading),
    )


def _result(answer: Any, *, wrong: bool = False) -> types.CallToolResult:
    text = msgspec.json.encode(answer).decode()
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)],
        structured_content=answer,
        is_error=wrong,
    )


async def _patiently(send: Callable[[], Any]) -> Any:
    """Ask again while the node agent is away: the same key is the same call."""
    until = time.monotonic() + _AWAY_S_MAX
    while True:
        try:
            return await send()
        except SkepError as error:
            # Of conflicts only this one passes: an agent that is just starting.
            away = error.code in _AWAY or isinstance(error, DataFolderBusyError)
            if not away or time.monotonic() > until:
                raise
        await asyncio.sleep(_AGAIN_S)


async def _in_thread(call: Callable[[], Any]) -> Any:
    """Run a call that blocks in a thread that nobody waits for when the agent hangs up."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def run() -> None:
        try:
            answer, wrong = call(), None
        except Exception as error:  # noqa: BLE001  handed on to who waits
            answer, wrong = None, error
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_finish, done, answer, wrong)

    threading.Thread(target=run, daemon=True).start()
    return await done


def _finish(done: "asyncio.Future[Any]", answer: Any, wrong: Exception | None) -> None:
    if done.done():
        return
    if wrong is None:
        done.set_result(answer)
    else:
        done.set_exception(wrong)
