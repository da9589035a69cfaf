"""Transcripts over HTTP: pages both ways, what is missing, sending, and what is said live."""

import asyncio
from typing import Any

import msgspec
import pytest

from protocol.conversation import Session
from protocol.messages import Call, LiveText, NeedDone, NeedOutcome
from protocol.turn_requests import Turn, TurnStatus
from tests.hive.api.kept import settled
from tests.hive.api.running import FakeNode, Reply, RunningHive, running_hive, serving_again
from tests.hive.api.test_sessions import mapped, talks
from tests.hive.api.test_streams import viewing


def seqs(page: dict[str, Any]) -> list[int]:
    """The places of a page's messages."""
    return [item["seq"] for item in page["items"]]


async def send(running: RunningHive, session_id: str, *sent: dict[str, Any]) -> Reply:
    """Send messages into a session."""
    return await running.post(f"sessions/{session_id}/messages", {"messages": list(sent)})


@pytest.mark.asyncio
async def test_pages_of_a_nodes_session(running: RunningHive):
    """The newest page, back from there, and on after a number; one message by its id."""
    node = await running.node()
    session = await talks(node, message_count=7)
    await node.tells_of(*node.messages(session, 1, 7))
    path = f"sessions/{session.id}/messages"
    page = (await running.get(path, limit=3)).json
    assert (seqs(page), page["previous"], page["next"]) == ([5, 6, 7], 5, None)
    assert page["message_count"] == 7
    page = (await running.get(path, limit=3, before=page["previous"])).json
    assert (seqs(page), page["previous"], page["next"]) == ([2, 3, 4], 2, 4)
    page = (await running.get(path, limit=3, after=0)).json
    assert (seqs(page), page["previous"], page["next"]) == ([1, 2, 3], None, 3)
    for query, previous, following in (({"before": 1}, None, 0), ({"before": 0}, None, 0)):
        page = (await running.get(path, limit=3, **query)).json
        assert (seqs(page), page["previous"], page["next"]) == ([], previous, following)
    page = (await running.get(path, limit=3, after=7)).json
    assert (seqs(page), page["previous"], page["next"]) == ([], 8, None)
    page = (await running.get(path, limit=3, after=0)).json
    one = (await running.get(f"messages/{page['items'][0]['id']}")).json
    assert one == page["items"][0]
    for query in ({"before": "x"}, {"limit": 201}, {"after": -1}, {"since": 1}):
        assert (await running.get(path, **query)).status == 422, query


@pytest.mark.asyncio
async def test_messages_of_a_task(running: RunningHive):
    """All sessions of a task, an attempt or a project in turn, by pages; of others nothing."""
    node = await running.node()
    first, second = await talks(node, 1), await talks(node, 2)
    await node.tells_of(*node.messages(first, 1, 3), *node.messages(second, 1, 2))
    task = (await running.get(f"sessions/{first.id}")).json["task_id"]
    page = (await running.get("messages", task=task)).json
    assert [item["session_id"] for item in page["items"]] == [first.id] * 3
    page = (await running.get("messages", project="shop", limit=4)).json
    rest = (await running.get("messages", project="shop", limit=4, cursor=page["next"])).json
    told = [(item["session_id"], item["seq"]) for item in page["items"] + rest["items"]]
    assert told == [(first.id, 1), (first.id, 2), (first.id, 3), (second.id, 1), (second.id, 2)]
    assert rest["next"] is None
    assert (await running.get("messages")).error["details"]["field"] == "task"
    assert (await running.get("messages", task=task, role="user")).json["items"] == []


@pytest.mark.asyncio
async def test_a_hole_is_asked_of_its_node(running: RunningHive):
    """Looking at a page with a hole shows it, and has the node asked from there on."""
    node = await running.node()
    session = await talks(node, message_count=6)
    await node.tells_of(*node.messages(session, 1, 2), *node.messages(session, 5, 1))
    page = (await running.get(f"sessions/{session.id}/messages")).json
    assert seqs(page) == [1, 2, 5]
    assert [gap["gap"] for gap in page["gaps"]] == [[3, 4], [6, 6]]
    async with asyncio.timeout(30):
        while not any(need.kind == "messages" for need in node.needs):
            await asyncio.sleep(0.01)
    [need] = [need for need in node.needs if need.kind == "messages"]
    assert (need.ids, need.after) == ([session.id], [2])
    told = NeedDone(request_id=need.request_id, outcomes=[NeedOutcome(session.id, "unknown")])
    await running.hive.ingest.need_done(node.id, node.link_no, told)
    page = (await running.get(f"sessions/{session.id}/messages")).json
    assert {gap["reason"] for gap in page["gaps"]} == {"its node no longer has it"}
    assert [gap["lost"] for gap in page["gaps"]] == [True, True]


@pytest.mark.asyncio
async def test_what_a_revoked_node_has_is_lost(running: RunningHive):
    """Nobody waits for a node that may not come back; where it joins again, it is asked."""
    node = await running.node()
    session = await talks(node, message_count=3)
    await node.tells_of(*node.messages(session, 1, 2))
    where = f"sessions/{session.id}/messages"
    assert [gap["lost"] for gap in (await running.get(where)).json["gaps"]] == [False]
    await running.post(f"nodes/{node.id}/revoke")
    [gap] = (await running.get(where)).json["gaps"]
    assert gap == {"gap": [3, 3], "reason": "not here, and its node was revoked", "lost": True}
    await node.join()
    assert [gap["lost"] for gap in (await running.get(where)).json["gaps"]] == [False]


@pytest.mark.asyncio
async def test_sending_into_an_external_session(running: RunningHive):
    """Yes twice is two messages, the same id twice is one, whichever request brings it."""
    await running.node()
    session = await mapped(running)
    yes = {"role": "user", "content": "yes"}
    first = await send(running, session["id"], {"id": "a", **yes}, {"id": "b", **yes})
    assert first.json["persisted"] == 2
    assert first.json["duplicates"] == 0
    tool = {"id": "t1", "name": "Edit", "kind": "edit", "status": "completed"}
    answer = {"id": "c", "role": "tool", "tool": tool}
    again = await send(running, session["id"], {"id": "b", **yes}, answer, answer)
    assert (again.json["persisted"], again.json["duplicates"]) == (1, 2)
    assert again.json["items"][0]["message_id"] == first.json["items"][1]["message_id"]
    page = (await running.get(f"sessions/{session['id']}/messages")).json
    assert [(item["seq"], item["content"]) for item in page["items"]] == [
        (1, "yes"),
        (2, "yes"),
        (3, ""),
    ]
    assert page["items"][2]["tool"]["name"] == "Edit"
    assert [item["author_kind"] for item in page["items"]] == ["person", "person", "agent"]
    shown = (await running.get(f"sessions/{session['id']}")).json
    assert (shown["message_count"], shown["topic"]) == (3, "yes")


@pytest.mark.asyncio
async def test_bounds_of_sending(running: RunningHive):
    """1 to 100 messages of 256 KiB in all, each with an id."""
    await running.node()
    session = await mapped(running)
    many = [{"id": str(n), "content": "x"} for n in range(101)]
    assert (await send(running, session["id"], *many)).status == 422
    assert (await send(running, session["id"], *many[:100])).json["persisted"] == 100
    assert (await send(running, session["id"])).status == 422
    assert (await send(running, session["id"], {"content": "x"})).status == 422
    misspelt = await send(running, session["id"], {"id": "m", "contents": "x"})
    assert (misspelt.status, misspelt.error["details"]["field"]) == (422, "messages[0].contents")
    large = await send(running, session["id"], {"id": "l", "content": "x" * 256 * 1024})
    assert (large.status, large.error["code"]) == (413, "too_large")
    fits = await send(running, session["id"], {"id": "l", "content": "x" * 255 * 1024})
    assert fits.json["persisted"] == 1
    for change in ({"content": "y"}, {"content": "x", "plan": [{"content": "look"}]}):
        other = await send(running, session["id"], {"id": "0", **change})
        assert (other.status, other.error["details"]["sender_id"]) == (409, "0")


async def queues(node: FakeNode) -> list[str]:
    """Have a node take follow-ups; the prompts it got, once each."""
    got: list[str] = []

    async def follow_up(call: Any) -> Turn:
        got.append(msgspec.msgpack.decode(call.body)["prompt"])
        return Turn(id=f"turn-{len(got)}", attempt_id=call.attempt_id, status=TurnStatus.QUEUED)

    node.answers["follow_up"] = follow_up
    return got


@pytest.mark.asyncio
async def test_sending_into_a_nodes_session_is_a_follow_up(running: RunningHive):
    """Each message becomes a turn of its attempt, once by its sender's id."""
    node = await running.node()
    session = await talks(node)
    got = await queues(node)
    first = await send(running, session.id, {"id": "a", "content": "one"})
    assert (first.json["persisted"], first.json["items"][0]["turn_id"]) == (1, "turn-1")
    both = await send(
        running, session.id, {"id": "a", "content": "one"}, {"id": "b", "content": "one"}
    )
    assert (both.json["persisted"], both.json["duplicates"]) == (1, 1)
    assert [item["turn_id"] for item in both.json["items"]] == ["turn-1", "turn-2"]
    assert got == ["one", "one"]
    reused = await send(running, session.id, {"id": "a", "content": "two"})
    assert reused.error["code"] == "key_reused"
    wrong = await send(running, session.id, {"id": "c", "role": "assistant", "content": "I"})
    assert (wrong.status, wrong.error["details"]["field"]) == (422, "messages[0].role")
    nothing = await send(running, session.id, {"id": "c", "content": " "})
    assert (nothing.status, nothing.error["details"]["field"]) == (422, "messages[0].content")
    await node.leave()
    away = await send(running, session.id, {"id": "d", "content": "three"})
    assert (away.status, away.error["code"]) == (503, "node_offline")
    assert got == ["one", "one"]


async def says(running: RunningHive, node: FakeNode, session: Session, text: str, at: int) -> None:
    """Have an agent of a node be seen writing."""
    piece = LiveText(session_id=session.id, message_id="m-1", role="assistant", at=at, text=text)
    await running.hive.gateway.on_said(node.id, piece)


@pytest.mark.asyncio
async def test_what_an_agent_is_writing_is_seen_and_not_kept(running: RunningHive):
    """Viewers of the session and its attempt see pieces; who comes later gets the message."""
    node, rogue = await running.node(), await running.node("two")
    session = await talks(node)
    async with viewing(running, f"attempt:{session.attempt_id}") as events:
        begins = await events.opened()
        await says(running, rogue, session, "not mine", 0)
        await says(running, node, session, "Next I ", 0)
        await says(running, node, session, "look", 7)
        heard = [await events.next(30) for _ in range(2)]
        assert [(name, said["at"], said["text"]) for _, name, said in heard] == [
            ("message.delta", 0, "Next I "),
            ("message.delta", 7, "look"),
        ]
        assert heard[0][0] == begins, "a piece has no id of its own"
        assert heard[0][2]["session_id"] == session.id
        await node.tells_of(*node.messages(session, 1))
        number, name, said = await events.next(30)
        assert (name, said["session_id"]) == ("message.new", session.id)
    async with viewing(running, f"session:{session.id}", **{"Last-Event-ID": begins}) as events:
        assert (await events.next(30))[:2] == (number, "message.new")


@pytest.mark.asyncio
async def test_sessions_begin_and_end_on_the_stream(running: RunningHive):
    """A viewer of the project hears that sessions were created and stopped."""
    node = await running.node()
    project = (await running.get("projects")).json["items"][0]["id"]
    async with viewing(running, f"project:{project}") as events:
        await events.opened()
        session = await talks(node)
        while (told := await events.next(30))[1] != "session.created":
            pass
        assert told[2]["session_id"] == session.id
    mine = await mapped(running)
    async with viewing(running, f"session:{mine['id']}") as events:
        await events.opened()
        await send(running, mine["id"], {"id": "a", "content": "x"})
        await running.ask("DELETE", f"sessions/{mine['id']}")
        heard = [await events.next(30) for _ in range(3)]
        assert [name for _, name, _ in heard] == [
            "message.new",
            "session.changed",
            "session.stopped",
        ]


@pytest.mark.asyncio
async def test_messages_for_a_node_that_is_away(tmp_path):
    """Yes twice is two turns, a retry is none more, in their order, whatever restarts."""
    yes = {"content": "yes"}
    sent = [{"id": "a", **yes}, {"id": "b", **yes}, *({"id": f"m{n}", **yes} for n in range(8))]
    async with running_hive(tmp_path) as running:
        node = await running.node()
        session = await talks(node)
        await queues(node)
        await node.leave()
        assert (await send(running, session.id, *sent)).error["code"] == "node_offline"
        path = f"sessions/{session.id}/messages"
        kept = await running.post(path, {"messages": sent}, when="online")
        assert kept.status == 202
        assert (kept.json["persisted"], kept.json["kept"], kept.json["duplicates"]) == (10, 10, 0)
        keys = [item["key"] for item in kept.json["items"]]
        again = await running.post(path, {"messages": sent[1:2]}, when="online")
        assert (again.status, again.json["duplicates"], again.json["kept"]) == (202, 1, 1)
        other = {"messages": [{"id": "b", "content": "no"}]}
        assert (await running.post(path, other, when="online")).error["code"] == "key_reused"
    async with serving_again(tmp_path, running.token) as running:
        node.running = running
        got = await queues(node)
        again = await running.post(path, {"messages": sent[:1]}, when="online")
        assert (again.json["duplicates"], again.json["kept"]) == (1, 1)
        later = await running.post(path, {"messages": [{"id": "c", **yes}]}, when="online")
        keys.append(later.json["items"][0]["key"])
        await node.connect()
        for key in keys:
            await settled(running, key, "done")
        assert [call.idempotency_key for call in node.calls] == keys
        bodies = [msgspec.msgpack.decode(call.body) for call in node.calls]
        assert {(body["prompt"], body["session"]) for body in bodies} == {("yes", session.id)}
        assert got == ["yes"] * 11
        done = await running.post(path, {"messages": sent[:2]}, when="online")
        assert (done.status, done.json["duplicates"], done.json["kept"]) == (200, 2, 0)
        assert [item["turn_id"] for item in done.json["items"]] == ["turn-1", "turn-2"]
        assert len(got) == 11


@pytest.mark.asyncio
async def test_what_waits_is_said_before_what_comes_after(running: RunningHive):
    """While an earlier message is not taken, a later one waits behind it, the node being there."""
    node = await running.node()
    session = await talks(node)
    gate, got = asyncio.Event(), []

    async def follow_up(call: Call) -> Turn:
        await gate.wait()
        got.append(msgspec.msgpack.decode(call.body)["prompt"])
        return Turn(id=f"turn-{len(got)}", attempt_id=call.attempt_id, status=TurnStatus.QUEUED)

    node.answers["follow_up"] = follow_up
    await node.leave()
    path = f"sessions/{session.id}/messages"
    first = {"messages": [{"id": "a", "content": "one"}]}
    assert (await running.post(path, first, when="online")).status == 202
    await node.connect()
    second = {"messages": [{"id": "b", "content": "two"}]}
    kept = await running.post(path, second, when="online")
    assert kept.status == 202
    gate.set()
    await settled(running, kept.json["items"][0]["key"], "done")
    assert got == ["one", "two"]


@pytest.mark.asyncio
async def test_pages_while_messages_arrive(running: RunningHive):
    """Paged back and forth while the session grows and changes: no gap, no double, at any size."""
    node = await running.node()
    session = await talks(node)
    for size in (1, 3, 7):
        first = (await running.get(f"sessions/{session.id}")).json["message_count"] + 1
        await node.tells_of(*node.messages(session, first, 20))
        path = f"sessions/{session.id}/messages"
        total, seen, before = first + 19, [], None
        while True:
            query = {} if before is None else {"before": before}
            page = (await running.get(path, limit=size, **query)).json
            assert page["gaps"] == []
            seen = seqs(page) + seen
            newest = (await running.get(f"sessions/{session.id}")).json["message_count"]
            changed = node.messages(session, 1, 2)
            await node.tells_of(*node.messages(session, newest + 1, 2), *changed)
            before = page["previous"]
            if before is None:
                break
        assert seen == list(range(1, total + 1))
        forth, after = [], 0
        while after is not None:
            page = (await running.get(path, limit=size * 10, after=after)).json
            forth += seqs(page)
            if len(forth) < 150:
                await node.tells_of(*node.messages(session, page["message_count"] + 1))
            after = page["next"]
        assert forth == list(range(1, len(forth) + 1))
        assert len(forth) >= newest


@pytest.mark.asyncio
async def test_a_session_is_all_its_viewer_hears(running: RunningHive):
    """Nothing of another session, attempt or project comes; from its place on all of it does."""
    node, other = await running.node(), await running.node("two")
    session, neighbour = await talks(node), await talks(node, 2)
    elsewhere = await talks(other, 3)
    mine = await mapped(running)

    async def stir(number: int) -> None:
        for owner, one in ((node, neighbour), (other, elsewhere), (node, session)):
            await owner.tells_of(*owner.messages(one, number))
        await send(running, mine["id"], {"id": str(number), "content": "x"})
        await node.has_attempt(2)
        await says(running, node, neighbour, "not yours", 0)
        await says(running, other, elsewhere, "not yours", 0)

    async with viewing(running, f"session:{session.id}") as events:
        begins = await events.opened()
        await stir(1)
        await stir(2)
        heard = [await events.next(30) for _ in range(2)]
        assert [(name, said["session_id"]) for _, name, said in heard] == [
            ("message.new", session.id)
        ] * 2
    await stir(3)
    async with viewing(running, f"session:{session.id}", **{"Last-Event-ID": begins}) as events:
        told = [await events.next(30) for _ in range(3)]
        assert [number for number, _, _ in told[:2]] == [number for number, _, _ in heard]
        assert [said["session_id"] for _, _, said in told] == [session.id] * 3
        await node.tells_of(*node.messages(session, 4))
        assert (await events.next(30))[1] == "message.new"
