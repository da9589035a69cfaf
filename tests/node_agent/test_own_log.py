"""The agent's own log: lines for people, objects for collectors."""

import asyncio
import gc
import json
import logging
from collections.abc import Iterator

import pytest
from aiohttp import web

from node_agent import own_log


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    """Put the root logger back as the tests found it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    # What other tests left behind complains now, and not in the middle of one here.
    gc.collect()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("aiohttp.server").filters.clear()


def test_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """A line has time, level and message; a warning says where it comes from."""
    own_log.set_up("info", as_json=False)
    logging.getLogger("x.y").info("ready: %s", "bee")
    logging.getLogger("x.y").warning("careful")
    logging.getLogger("x.y").debug("not shown")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("info    ready: bee")
    assert second.endswith("careful [x.y]")


def test_objects_for_collectors(capsys: pytest.CaptureFixture[str]) -> None:
    """A JSON line holds what was given beside the message, and the traceback of an error."""
    own_log.set_up("debug", as_json=True)
    log = logging.getLogger("x.y")
    log.info("took %d", 2, extra={"attempt_id": "a1"})
    try:
        int("two\nlines")
    except ValueError:
        log.exception("failed")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["message"], first["level"], first["attempt_id"]) == ("took 2", "info", "a1")
    assert first["at_ms"] > 0
    assert "ValueError" in second["traceback"]
    assert len(second["traceback"].splitlines()) > 1


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
    own_log.set_up("info", as_json=False)
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
