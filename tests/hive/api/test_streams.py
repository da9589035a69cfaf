"""Live events: what comes, when, what is resumed, and who is let go."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from hive.api import streams
from tests.hive.api.running import RunningHive, running_hive

#: What the documents promise.
REVOKED_WITHIN_S = 5.0


class Events:
    """A viewer's side of a stream of Server-Sent Events."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.last_id = ""

    async def next(self, timeout_s: float = 30.0) -> tuple[str, str, Any]:
        """The next event: id, name, data."""
        name, said = "", b""
        async with asyncio.timeout(timeout_s):
            while True:
                line = (await self.response.content.readline()).rstrip(b"\n")
                if line.startswith(b"id: "):
                    self.last_id = line[4:].decode()
                elif line.startswith(b"event: "):
                    name = line[7:].decode()
                elif line.startswith(b"data: "):
                    said = line[6:]
                elif not line and name:
                    return self.last_id, name, msgspec.json.decode(said)
                elif not line and self.response.content.at_eof():
                    raise EOFError

    async def opened(self) -> str:
        """Wait for the first sign of life; returns the id it begins after."""
        async with asyncio.timeout(30):
            while not self.last_id:
                line = await self.response.content.readline()
                if line.startswith(b"id: "):
                    self.last_id = line[4:].decode().strip()
        return self.last_id


@contextlib.asynccontextmanager
async def viewing(running: RunningHive, topics: str, **headers: str) -> AsyncIterator[Events]:
    """Open a stream."""
    sent = {"Authorization": f"Bearer {running.token}", **headers}
    url = f"{running.url}/api/v1/stream"
    async with running.session.get(url, params={"topics": topics}, headers=sent) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        yield Events(response)


@pytest.mark.asyncio
async def test_a_viewer_of_an_attempt_hears_of_it_and_of_nothing_else(running: RunningHive):
    """Its changes and its log, with the ids to read anew; another attempt's pass by."""
    node = await running.node("one")
    attempt, other = await node.has_attempt(1), await node.has_attempt(2)
    async with viewing(running, f"attempt:{attempt.id}") as events:
        await events.opened()
        await node.runs(other)
        execution = await node.runs(attempt)
        heard = [await events.next() for _ in range(2)]
        assert {name for _, name, _ in heard} == {"execution.changed", "attempt.changed"}
        assert all(fields["attempt_id"] == attempt.id for _, _, fields in heard)
        await node.prints(execution, "a\n")
        _, name, fields = await events.next()
        assert (name, fields["execution_id"]) == ("log.appended", execution)


@pytest.mark.asyncio
async def test_nodes_and_projects_are_topics(running: RunningHive):
    """One stream may follow several things; each event comes once."""
    node = await running.node("one")
    project = (await running.get("projects/shop")).json
    async with viewing(running, f"nodes,project:{project['id']}") as events:
        await events.opened()
        await node.leave()
        assert (await events.next())[1] == "node.changed"
        task = await running.task()
        _, name, fields = await events.next()
        assert (name, fields["task_id"]) == ("task.changed", task["id"])


@pytest.mark.asyncio
async def test_what_was_missed_comes_first(running: RunningHive):
    """With the last id a viewer gets all that happened meanwhile, once, then what is new."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    async with viewing(running, f"attempt:{attempt.id}") as events:
        last_id = await events.opened()
    execution = await node.runs(attempt)
    await node.has_attempt(2)
    async with viewing(running, f"attempt:{attempt.id}", **{"Last-Event-ID": last_id}) as events:
        names = [(await events.next())[1] for _ in range(2)]
        assert set(names) == {"execution.changed", "attempt.changed"}
        await node.prints(execution, "a\n")
        assert (await events.next())[1] == "log.appended"


@pytest.mark.asyncio
@pytest.mark.parametrize("last_id", ["1.1", "0.0", "99999999999.5", "nonsense", "1.-1"])
async def test_an_unknown_id_resets(running: RunningHive, last_id: str):
    """An id of another history, or of none, has the viewer read anew; then it goes on."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    async with viewing(running, f"attempt:{attempt.id}", **{"Last-Event-ID": last_id}) as events:
        assert (await events.next())[1:] == ("reset", {})
        await node.runs(attempt)
        assert (await events.next())[1] in {"execution.changed", "attempt.changed"}


@pytest.mark.asyncio
async def test_the_same_over_a_websocket(running: RunningHive):
    """Ids, names and data are the same by either transport."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    url = f"{running.url}/api/v1/stream?topics=attempt:{attempt.id}"
    headers = {"Authorization": f"Bearer {running.token}"}
    async with running.session.ws_connect(url, headers=headers) as socket:
        first = await socket.receive_json(timeout=30)
        assert first["event"] == "alive"
        await node.runs(attempt)
        events = [await socket.receive_json(timeout=30) for _ in range(2)]
        assert {event["event"] for event in events} == {"execution.changed", "attempt.changed"}
        assert events[0]["data"]["attempt_id"] == attempt.id
    resumed = f"{url}&last_event_id={first['id']}"
    async with running.session.ws_connect(resumed, headers=headers) as socket:
        again = [await socket.receive_json(timeout=30) for _ in range(2)]
        assert [event["id"] for event in again] == [event["id"] for event in events]


@pytest.mark.asyncio
async def test_viewers_that_leave_are_forgotten(running: RunningHive):
    """Nothing of a viewer stays once it has gone, by either transport."""
    await running.node("one")
    headers = {"Authorization": f"Bearer {running.token}"}
    url = f"{running.url}/api/v1/stream?topics=nodes"
    for _ in range(20):
        async with viewing(running, "nodes") as events:
            await events.opened()
        async with running.session.ws_connect(url, headers=headers) as socket:
            await socket.receive(timeout=30)
    for _ in range(3000):
        if not running.hive.feed.viewers:
            break
        await asyncio.sleep(0.01)
    assert running.hive.feed.viewers == 0


@pytest.mark.asyncio
async def test_one_who_takes_nothing_is_disconnected(tmp_path: Path):
    """A viewer that does not read is let go after its time; memory does not grow with it."""
    async with running_hive(tmp_path, viewer_drain_s=0.3) as running:
        await running.node("one")
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1024)
        writer.write(
            f"GET /api/v1/stream?topics=nodes HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {running.token}\r\n\r\n".encode()
        )
        await reader.readline()
        node_id = (await running.get("nodes/one")).json["id"]
        # More than the sockets' buffers hold, so that the hive has to wait for the viewer.
        for number in range(400_000):
            if number % 500 == 0:
                await asyncio.sleep(0)
                if not running.hive.feed.viewers and number:
                    break
            running.hive.feed.publish([_many(node_id, number)])
        for _ in range(3000):
            if not running.hive.feed.viewers:
                break
            await asyncio.sleep(0.01)
        assert running.hive.feed.viewers == 0
        writer.close()


def _many(node_id: str, number: int) -> Any:
    from hive.store.backend import Change

    ids = {"node": node_id, "pad": f"{number}-{'x' * 2000}"}
    return Change(kind="node.changed", ids=ids, generation=2**62, change_no=number + 1)


@pytest.mark.asyncio
async def test_a_stopping_hive_ends_its_streams(tmp_path: Path):
    """Viewers are told by the end of their stream, and the hive does not wait for them."""
    async with running_hive(tmp_path) as running, viewing(running, "nodes") as events:
        await events.opened()
        running.hive.feed.close()
        with pytest.raises(EOFError):
            await events.next()


@pytest.mark.asyncio
@pytest.mark.parametrize("topics", ["", "attempt:", "attempt:short", "planets", "node:x,nodes"])
async def test_topics_that_are_none_are_refused(running: RunningHive, topics: str):
    """What cannot be followed is named."""
    refused = await running.get("stream", topics=topics)
    assert (refused.status, refused.error["details"]["field"]) == (422, "topics")


@pytest.mark.asyncio
async def test_there_are_only_so_many_viewers(tmp_path: Path):
    """Beyond the bound a stream is refused, and told to come back."""
    async with (
        running_hive(tmp_path, viewers_max=1) as running,
        viewing(running, "nodes") as events,
    ):
        await events.opened()
        refused = await running.get("stream", topics="nodes")
        assert (refused.status, refused.error["code"]) == (429, "slow_down")


@pytest.mark.asyncio
async def test_opening_a_partial_attempt_asks_for_the_rest_once(running: RunningHive):
    """Two viewers look at a partial attempt: its node is asked once, and both hear what comes."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    execution = await node.runs(attempt)
    await node.prints(execution, "a\n")
    await node.ends_log(execution, chunks=2, entries=2)
    topic = f"attempt:{attempt.id}"
    async with viewing(running, topic) as first, viewing(running, topic) as second:
        for _ in range(3000):
            if node.needs:
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert len(node.needs) == 1
        await node.prints(execution, "b\n", chunk=2, entry=2)
        for events in (first, second):
            heard = set()
            while "log.appended" not in heard:
                heard.add((await events.next())[1])


@pytest.mark.asyncio
async def test_a_revoked_token_ends_its_streams(
    running: RunningHive, monkeypatch: pytest.MonkeyPatch
):
    """Whoever may not call any more does not go on listening, long before a sign of life is due."""
    assert streams.RIGHT_CHECKED_S < REVOKED_WITHIN_S
    monkeypatch.setattr("hive.api.streams.RIGHT_CHECKED_S", 0.1)
    made = (await running.post("tokens", {"name": "ci"})).json
    async with viewing(running, "nodes", Authorization=f"Bearer {made['token']}") as events:
        await events.opened()
        await running.ask("DELETE", f"tokens/{made['id']}")
        with pytest.raises(EOFError):
            await events.next()
