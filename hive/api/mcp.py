"""`POST /mcp`: the tools of agents for MCP clients anywhere, with a person's token.

Owns the bridge from this server to the `mcp` package's own HTTP transport. The package is loaded
with the first call: most hives never hear one.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from hive.access import Principal
from hive.api.agent_tools import call_tool, tools_for
from hive.api.context import CONTEXT, HiveContext
from hive.api.middleware import principal_of
from protocol.errors import SkepError

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

_CALLER: Final = "skep.caller"
_INSTRUCTIONS: Final = (
    "Skep runs coding agents on the machines of a team. Tasks are wanted work of a project; an"
    " attempt is one run of a task on one node, in a worktree and branch of its own."
)


class McpEndpoint:
    """The MCP server of one hive, from its first call to `close`."""

    def __init__(self) -> None:
        self._manager: StreamableHTTPSessionManager | None = None
        self._loading = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one message of an MCP client."""
        manager = await self._loaded(request.app[CONTEXT].version)
        body = await request.read()
        exchange = _Exchange(request, body)
        await manager.handle_request(exchange.scope, exchange.receive, exchange.send)
        return exchange.response()

    async def close(self) -> None:
        """End what is being answered."""
        self._ending.set()
        if self._task is not None:
            await self._task

    async def _loaded(self, version: str) -> "StreamableHTTPSessionManager":
        async with self._loading:
            if self._manager is None:
                manager = await asyncio.to_thread(_manager, version)
                started = asyncio.Event()
                # The package's task group is to be left by the task that entered it.
                self._task = asyncio.create_task(self._run(manager, started), name="mcp")
                await started.wait()
                self._manager = manager
        return self._manager

    async def _run(self, manager: "StreamableHTTPSessionManager", started: asyncio.Event) -> None:
        async with manager.run():
            started.set()
            await self._ending.wait()


def _manager(version: str) -> "StreamableHTTPSessionManager":
    import mcp_types as types
    from mcp.server.lowlevel import Server
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.server.transport_security import TransportSecuritySettings

    async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
        del params
        _, principal = _caller(ctx)
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=tool.name,
                    description=tool.summary,
                    input_schema=tool.schema,
                    annotations=types.ToolAnnotations(read_only_hint=tool.reading),
                )
                for tool in tools_for(principal)
            ]
        )

    async def call(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        context, principal = _caller(ctx)
        try:
            answer = await call_tool(context, principal, params.name, params.arguments or {})
        except SkepError as error:
            said: Any = {"error": msgspec.to_builtins(error.body())}
            wrong = True
        else:
            said, wrong = answer, False
        text = msgspec.json.encode(said).decode()
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=text)],
            structured_content=said,
            is_error=wrong,
        )

    server: Any = Server(
        "skep",
        version=version,
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call,
    )
    return StreamableHTTPSessionManager(
        server,
        json_response=True,
        stateless=True,
        # Host and Origin were checked already, by the names this hive goes by.
        security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )


def _caller(ctx: Any) -> tuple[HiveContext, Principal]:
    found: tuple[HiveContext, Principal] = ctx.request.scope[_CALLER]
    return found


class _Exchange:
    """One request and its reply, in the form the package speaks (ASGI)."""

    def __init__(self, request: web.Request, body: bytes) -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": request.scheme,
            "path": request.path,
            "raw_path": request.path.encode(),
            "root_path": "",
            "query_string": request.query_string.encode(),
            "headers": [
                (str(name).lower().encode("latin-1"), value.encode("latin-1", "replace"))
                for name, value in request.headers.items()
            ],
            "client": None,
            "server": None,
            _CALLER: (request.app[CONTEXT], principal_of(request)),
        }
        self._asked: list[dict[str, Any]] = [{"type": "http.request", "body": body}]
        self._status = 500
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._over = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if self._asked:
            return self._asked.pop()
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], list(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            self._pieces.append(message.get("body", b""))
            if not message.get("more_body"):
                self._over.set()

    def response(self) -> web.Response:
        self._over.set()
        response = web.Response(status=self._status, body=b"".join(self._pieces))
        for name, value in self._headers:
            if name.lower() != b"content-length":
                response.headers[name.decode("latin-1")] = value.decode("latin-1")
        return response


async def serving(app: web.Application) -> AsyncIterator[None]:
    """Have the endpoint end with the application."""
    yield
    await app[ENDPOINT].close()


ENDPOINT: Final = web.AppKey("ENDPOINT", McpEndpoint)


async def handle(request: web.Request) -> web.StreamResponse:
    """Answer an MCP client."""
    return await request.app[ENDPOINT].handle(request)
