"""Attempts of other nodes: asked for as whoever is signed in, whichever way is taken."""

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from node_agent.api.exchange import ApiRequest
from node_agent.elsewhere import WAY_HEADER, Elsewhere
from node_agent.hive_login import HiveLogin, write_login
from node_agent.identity import Enrolment
from protocol.errors import ErrorCode, OperationError

ATTEMPT = "01a22100-0000-7000-8000-000000000001"


class HiveAndNode:
    """One server that answers as a hive, and as the node it sends clients to."""

    def __init__(self) -> None:
        self.url = ""
        self.shown: list[str] = []
        #: What the node says to whoever asks for its work.
        self.refusal: OperationError | None = None
        self.breaks = False

    async def handle(self, request: web.Request) -> web.Response:
        """Give a token of a stream that says for whom it is, and note what is shown for work."""
        bearer = request.headers["Authorization"].removeprefix("Bearer ")
        if request.path.endswith("/stream-connection-info"):
            return web.json_response(
                {
                    "direct_urls": [self.url],
                    "token": f"to read, for {bearer}",
                    "expires_at_ms": int(time.time() * 1000) + 900_000,
                }
            )
        if request.path.endswith("/branch-status"):
            self.shown.append(bearer)
            if bearer.startswith("to read") and self.breaks:
                assert request.transport is not None
                request.transport.abort()
            if bearer.startswith("to read") and self.refusal is not None:
                status = self.refusal.meaning.http_status
                body = {"error": msgspec.to_builtins(self.refusal.body())}
                return web.json_response(body, status=status)
        return web.json_response({"id": ATTEMPT, "executions": []})


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[HiveAndNode, Elsewhere]]:
    """Both, and a node that asks there."""
    server = HiveAndNode()
    app = web.Application()
    app.router.add_route("GET", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    elsewhere = Elsewhere(folder, lambda: Enrolment(url=server.url, hive_id="h"))
    write_login(folder, HiveLogin(hive_id="h", token="ann"))
    try:
        yield server, elsewhere
    finally:
        await elsewhere.close()
        await runner.cleanup()


async def way_of_status(elsewhere: Elsewhere) -> str:
    """Read the branch's status, and say which way it came."""
    reply = await elsewhere.ask("GET", f"attempts/{ATTEMPT}/branch-status", ApiRequest())
    assert reply.pieces is not None
    assert [piece async for piece in reply.pieces]
    return reply.headers[WAY_HEADER]


@pytest.mark.asyncio
async def test_another_person_reads_with_their_own_right(tmp_path: Path) -> None:
    """A token that was given to whoever was signed in before is shown for nobody else."""
    async with served(tmp_path) as (server, elsewhere):
        for person in ("ann", "ann", "bob"):
            write_login(tmp_path, HiveLogin(hive_id="h", token=person))
            assert await way_of_status(elsewhere) == "direct"
    assert server.shown == ["to read, for ann", "to read, for ann", "to read, for bob"]


@pytest.mark.asyncio
@pytest.mark.parametrize("code", [ErrorCode.GIT_FAILED, ErrorCode.FORBIDDEN])
async def test_what_the_node_says_is_no_reason_to_leave_the_way(
    tmp_path: Path, code: ErrorCode
) -> None:
    """The hive is asked this once, as it may know better; the next request goes straight again."""
    async with served(tmp_path) as (server, elsewhere):
        server.refusal = OperationError(code, "no")
        assert await way_of_status(elsewhere) == "relay"
        server.refusal = None
        assert await way_of_status(elsewhere) == "direct"


@pytest.mark.asyncio
async def test_a_node_that_is_not_reached_is_left_alone_for_a_while(tmp_path: Path) -> None:
    """What broke the connection would break the next: the relay is taken meanwhile."""
    async with served(tmp_path) as (server, elsewhere):
        server.breaks = True
        assert await way_of_status(elsewhere) == "relay"
        server.breaks = False
        assert await way_of_status(elsewhere) == "relay"
