"""The hive's own log: what others send to its port is told in a line."""

import asyncio
import gc
import logging
from collections.abc import Iterator

import pytest
from aiohttp import web

from hive import log_lines


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    """Put the loggers back as the tests found them."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    # What other tests left behind complains now, and not in the middle of one here.
    gc.collect()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("aiohttp.server").filters.clear()
    logging.getLogger("aiohttp.access").setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9\r\nHost: x\r\n\r\n",
    ],
)
@pytest.mark.asyncio
async def test_what_is_no_http_is_a_line(sent: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever can reach the port can send it: no traceback, and no error of ours."""
    log_lines.set_up("info", as_json=False)
    runner = web.AppRunner(web.Application())
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(sent)
        assert b"400" in await asyncio.wait_for(reader.readline(), 30)
        await asyncio.wait_for(reader.read(), 30)
        writer.close()
        await writer.wait_closed()
    finally:
        await runner.cleanup()
    (line,) = capsys.readouterr().err.splitlines()
    assert " info " in line
    assert "127.0.0.1" in line
