"""Attempts of other nodes: asked for as whoever is signed in, whichever way is taken."""

import time
from pathlib import Path

import pytest
from aiohttp import web

from node_agent.api.exchange import ApiRequest
from node_agent.elsewhere import WAY_HEADER, Elsewhere
from node_agent.hive_login import HiveLogin, write_login
from node_agent.identity import Enrolment

ATTEMPT = "01a22100-0000-7000-8000-000000000001"


class HiveAndNode:
    """One server that answers as a hive, and as the node it sends clients to."""

    def __init__(self) -> None:
        self.url = ""
        self.shown: list[str] = []

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
        return web.json_response({"id": ATTEMPT, "executions": []})


@pytest.mark.asyncio
async def test_another_person_reads_with_their_own_right(tmp_path: Path) -> None:
    """A token that was given to whoever was signed in before is shown for nobody else."""
    server = HiveAndNode()
    app = web.Application()
    app.router.add_route("GET", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    elsewhere = Elsewhere(tmp_path, lambda: Enrolment(url=server.url, hive_id="h"))
    try:
        for person in ("ann", "ann", "bob"):
            write_login(tmp_path, HiveLogin(hive_id="h", token=person))
            reply = await elsewhere.ask("GET", f"attempts/{ATTEMPT}/branch-status", ApiRequest())
            assert reply.headers[WAY_HEADER] == "direct"
            assert reply.pieces is not None
            assert [piece async for piece in reply.pieces]
    finally:
        await elsewhere.close()
        await runner.cleanup()
    assert server.shown == ["to read, for ann", "to read, for ann", "to read, for bob"]
