"""The tools over MCP, by a real client and by requests no client would send."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client

from tests.hive.api.running import Reply, RunningHive, running_hive

HEADERS = {
    "Accept": "application/json, text/event-stream",
    "Content-Type": "application/json",
}


@contextlib.asynccontextmanager
async def client(running: RunningHive, token: str = "") -> AsyncIterator[ClientSession]:
    """A client as agents have one, past its handshake."""
    headers = {"Authorization": f"Bearer {token or running.token}"}
    async with (
        httpx2.AsyncClient(headers=headers) as http,
        streamable_http_client(f"{running.url}/mcp", http_client=http) as (read, write, *_),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        yield session


async def said(running: RunningHive, message: Any, **headers: str) -> Reply:
    """The answer to what is posted: JSON-RPC, or bytes."""
    sent = message if isinstance(message, bytes) else json.dumps(message).encode()
    async with asyncio.timeout(60):
        return await running.ask("POST", "/mcp", data=sent, headers={**HEADERS, **headers})


def calling(tool: str, arguments: Any) -> dict[str, Any]:
    """A call of a tool."""
    params = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}


@pytest.mark.asyncio
async def test_a_client_lists_and_calls_what_its_person_may(running: RunningHive):
    """An error of a tool is an answer that says what is wrong, and names the field."""
    await running.node()
    async with client(running) as session:
        made = await session.call_tool("create_task", {"project": "shop", "title": "Sort"})
        assert not made.is_error
        wrong = await session.call_tool("create_task", {"project": "shop", "title": "x\ny"})
        assert wrong.is_error
        assert wrong.structured_content["error"]["details"]["field"] == "title"
        assert json.loads(wrong.content[0].text) == wrong.structured_content
    async with client(running, await running.token_of("viewer")) as session:
        listed = {tool.name for tool in (await session.list_tools()).tools}
        assert listed == {"get_task", "list_tasks", "get_variables", "list_nodes"}
        refused = await session.call_tool("create_task", {"project": "shop", "title": "Sort"})
        assert refused.structured_content["error"]["code"] == "forbidden"


@pytest.mark.asyncio
async def test_versions_are_agreed_on(running: RunningHive):
    """A version that is known is spoken; for one that is not, the newest that has a handshake."""
    hello = {"capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    for asked, spoken in (("2025-06-18", "2025-06-18"), ("1999-01-01", "2025-11-25")):
        params = {**hello, "protocolVersion": asked}
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        told = await said(running, message)
        assert told.json["result"]["protocolVersion"] == spoken
    unknown = await said(running, calling("list_tasks", {}), **{"MCP-Protocol-Version": "1.0"})
    assert (unknown.status, unknown.json["error"]["code"]) == (400, -32602)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("message", "status", "code"),
    [
        (b"{", 400, -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', 400, -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}', 400, -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","params":' + b"[" * 50_000, 400, -32700),
        ([], 400, -32602),
        ([calling("list_tasks", {})], 400, -32602),
        ({"id": 1}, 400, -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": "no/such"}, 200, -32601),
        (calling("list_tasks", [1]), 200, -32602),
        ({"jsonrpc": "2.0", "method": "notifications/initialized"}, 202, None),
        ({"jsonrpc": "2.0", "method": "no/such"}, 202, None),
        ({"jsonrpc": "2.0", "id": 7, "result": {}}, 202, None),
    ],
    ids=str,
)
async def test_what_is_no_request_is_answered_as_json_rpc_says(
    running: RunningHive, message: Any, status: int, code: int | None
):
    """Broken, batched, unknown, or nothing to answer at all."""
    told = await said(running, message)
    assert told.status == status, told.content
    assert (told.json["error"]["code"] if told.content else None) == code


@pytest.mark.asyncio
async def test_no_page_and_no_stranger_is_answered(running: RunningHive):
    """Another site's page, another host's name, no token: the tools hear none of it."""
    asked = calling("list_tasks", {"project": "shop"})
    assert (await said(running, asked, Origin="http://elsewhere.example")).status == 403
    assert (await said(running, asked, Host="elsewhere.example")).status == 403
    nobody = await running.ask(
        "POST", "/mcp", data=json.dumps(asked).encode(), headers=HEADERS, token=None
    )
    assert (nobody.status, nobody.error["code"]) == (401, "unauthenticated")
    for method in ("GET", "DELETE"):
        assert (await running.ask(method, "/mcp")).status == 405


@pytest.mark.asyncio
async def test_what_is_too_large_is_not_read(tmp_path: Path):
    """The bound of all bodies holds here too."""
    async with running_hive(tmp_path, body_bytes_max=4096) as running:
        large = calling("list_tasks", {"project": "x" * 4096})
        assert (await said(running, large)).status == 413
