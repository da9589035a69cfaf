"""Sessions over HTTP: the nodes' and those of agents that are no node's."""

from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hive.external_sessions import SILENT, ExternalSessions
from protocol.conversation import Session, SessionStatus, TurnState, Usage
from protocol.messages import Call
from protocol.ops import OpKind
from protocol.session_requests import RenameSessionRequest
from protocol.turn_requests import TurnStatus
from tests.hive.api.kept import settled
from tests.hive.api.running import FakeNode, RunningHive, running_hive, serving_again

HOUR_MS = 3_600_000


async def talks(node: FakeNode, number: int = 1, **given: Any) -> Session:
    """An attempt of a node with a session."""
    attempt = await node.has_attempt(number)
    session = Session(
        **{
            "id": f"{node.id[:24]}{number + 16384:012x}",
            "attempt_id": attempt.id,
            "executor": "acp",
            "agent": "scripted",
            "topic": "Sort the shelves",
            "created_at_ms": 1_000 + number,
            **given,
        }
    )
    await node.tells_of(session)
    return session


@pytest.mark.asyncio
async def test_a_nodes_session(running: RunningHive):
    """It is listed by attempt, task, project, node and status, and its attempt names it."""
    one, two = await running.node(), await running.node("two")
    session = await talks(one)
    other = await talks(two, 2, status=SessionStatus.OPEN)
    shown = (await running.get(f"sessions/{session.id[-8:]}")).json
    assert shown["id"] == session.id
    assert (shown["external"], shown["node_id"], shown["reachable"]) == (False, one.id, True)
    assert shown["task_title"] == "Sort the shelves"
    attempt = (await running.get(f"attempts/{session.attempt_id}")).json
    assert attempt["sessions"] == [session.id]
    for query, found in (
        ({}, [other.id, session.id]),
        ({"attempt": session.attempt_id}, [session.id]),
        ({"task": attempt["task_id"]}, [session.id]),
        ({"project": "shop"}, [other.id, session.id]),
        ({"node": "two"}, [other.id]),
        ({"status": "idle"}, [session.id]),
    ):
        page = (await running.get("sessions", **query)).json
        assert [item["id"] for item in page["items"]] == found, query
    first = (await running.get("sessions", limit=1)).json
    second = (await running.get("sessions", limit=1, cursor=first["next"])).json
    assert [first["items"][0]["id"], second["items"][0]["id"]] == [other.id, session.id]
    assert second["next"] is None
    await one.leave()
    assert not (await running.get(f"sessions/{session.id}")).json["reachable"]


@pytest.mark.asyncio
async def test_a_nodes_session_is_its_nodes(running: RunningHive):
    """Nobody but its node changes it; the refusal says what to do instead."""
    session = await talks(await running.node())
    path = f"sessions/{session.id}"
    for reply in (await running.ask("DELETE", path), await running.post(f"{path}/heartbeat")):
        assert reply.status == 409
        assert "hive attempt" in reply.error["hint"]
    other = await running.ask("PATCH", path, body={"topic": "x", "agent_session_id": "y"})
    assert other.status == 422


def renames(node: FakeNode, session: Session) -> list[Call]:
    """Have a node give a session the topics it is asked for; the calls it got."""
    calls: list[Call] = []

    async def rename(call: Call) -> Session:
        calls.append(call)
        asked = msgspec.msgpack.decode(call.body, type=RenameSessionRequest)
        assert asked.session_id == session.id
        return msgspec.structs.replace(session, topic=asked.topic)

    node.answers["rename_session"] = rename
    return calls


@pytest.mark.asyncio
async def test_its_node_gives_it_another_topic(running: RunningHive):
    """The node is asked once by the key, and the answer is the session as it has it by then."""
    node = await running.node()
    session = await talks(node)
    calls = renames(node, session)
    ask = partial(
        running.ask, "PATCH", f"sessions/{session.id[-8:]}", headers={"Idempotency-Key": "k"}
    )
    renamed = await ask(body={"topic": "Shelves"})
    assert (renamed.status, renamed.json["topic"]) == (200, "Shelves")
    assert (renamed.json["id"], renamed.json["node_name"]) == (session.id, "one")
    assert renamed.headers["Idempotency-Key"] == "k"
    assert (await ask(body={"topic": "Shelves"})).json["topic"] == "Shelves"
    assert (await ask(body={"topic": "Other"})).error["code"] == "key_reused"
    assert [(call.attempt_id, call.idempotency_key) for call in calls] == [
        (session.attempt_id, "k")
    ]
    for topic in ("", "x" * 121):
        assert (await ask(body={"topic": topic})).status == 422
    viewer = await running.token_of("viewer")
    assert (await ask(body={"topic": "x"}, token=viewer)).status == 403
    # What others see is what its node reports.
    await node.tells_of(msgspec.structs.replace(session, topic="Shelves"))
    assert (await running.get(f"sessions/{session.id}")).json["topic"] == "Shelves"
    told = (await running.get("events", attempt=session.attempt_id)).json["items"]
    assert [one["details"] for one in told if one["kind"] == "session_renamed"] == [
        {"topic": "Shelves"}
    ]


@pytest.mark.asyncio
async def test_a_topic_for_a_node_that_is_away(running: RunningHive):
    """With `when=online` it is kept, and given once the node is back."""
    node = await running.node()
    session = await talks(node)
    calls = renames(node, session)
    await node.leave()
    path, body = f"sessions/{session.id}", {"topic": "Shelves"}
    assert (await running.ask("PATCH", path, body=body)).status == 503
    key = {"Idempotency-Key": "k"}
    kept = await running.ask("PATCH", path, body=body, headers=key, when="online")
    assert (kept.status, kept.json["status"]) == (202, "waiting")
    await node.connect()
    assert (await settled(running, "k", "done"))["operation"] == "rename_session"
    assert len(calls) == 1


@pytest.mark.asyncio
async def test_turns_of_a_session(running: RunningHive):
    """Those that have begun, then the queue in its order; of the attempt's newest session alone."""
    node = await running.node()
    older = await talks(node)
    session = msgspec.structs.replace(older, id=f"{older.id[:-4]}ffff", created_at_ms=5_000)
    await node.tells_of(session)

    async def tells(number: int, status: TurnStatus, place: int, **given: Any) -> None:
        turn = TurnState(
            id=f"{node.id[:24]}{number + 20480:012x}",
            attempt_id=session.attempt_id,
            status=status,
            place=place,
            prompt=f"do {number}",
            author="ann",
            **given,
        )
        await node.tell((OpKind.TURN, turn.id, turn))

    await tells(1, TurnStatus.ENDED, 1, no=1, session_id=older.id)
    ended = {"stop_reason": "end_turn", "head_before": "a", "usage": Usage(output_tokens=5)}
    await tells(3, TurnStatus.ENDED, 5, no=2, session_id=session.id, **ended)
    await tells(2, TurnStatus.RUNNING, 2, no=3, session_id=session.id)
    await tells(4, TurnStatus.QUEUED, 7)
    await tells(5, TurnStatus.QUEUED, 6)
    path = f"sessions/{session.id}/turns"
    page = (await running.get(path, limit=2)).json
    rest = (await running.get(path, limit=2, cursor=page["next"])).json
    listed = page["items"] + rest["items"]
    assert [(one["no"], one["status"], one["prompt"]) for one in listed] == [
        (2, "ended", "do 3"),
        (3, "running", "do 2"),
        (None, "queued", "do 5"),
        (None, "queued", "do 4"),
    ]
    assert rest["next"] is None
    assert (listed[0]["stop_reason"], listed[0]["head_before"]) == ("end_turn", "a")
    assert (listed[0]["author"], listed[0]["usage"]["output_tokens"]) == ("ann", 5)
    others = (await running.get(f"sessions/{older.id}/turns")).json["items"]
    assert [one["no"] for one in others] == [1]
    assert (await running.get(path, cursor="x")).status == 422


@pytest.mark.asyncio
async def test_what_is_here_counts_at_once(running: RunningHive):
    """A node's session shows the messages that are here, though it has not counted them yet."""
    node = await running.node()
    session = await talks(node, message_count=2)
    await node.tells_of(*node.messages(session, 1, 5))
    assert (await running.get(f"sessions/{session.id}")).json["message_count"] == 5
    assert (await running.get("sessions")).json["items"][0]["message_count"] == 5


async def mapped(running: RunningHive, **given: Any) -> dict[str, Any]:
    """Map an external agent's session to a task of its own."""
    task = await running.task()
    body = {"agent_session_id": "theirs-1", "task_id": task["id"], "agent": "theirs", **given}
    made = await running.post("sessions", body)
    assert made.status == 201, made.content
    return made.json


@pytest.mark.asyncio
async def test_an_external_session(running: RunningHive):
    """It is mapped once, to what was said; the same mapping again is the same session."""
    await running.node()
    session = await mapped(running)
    assert (session["external"], session["node_id"], session["status"]) == (True, None, "idle")
    same = {"agent_session_id": "theirs-1", "task_id": session["task_id"]}
    again = await running.post("sessions", same)
    assert (again.status, again.json["id"]) == (200, session["id"])
    other = await running.task("Another")
    refused = await running.post("sessions", {**same, "task_id": other["id"]})
    assert (refused.status, refused.error["details"]["session_id"]) == (409, session["id"])
    page = (await running.get("sessions", task=session["task_id"])).json
    assert [item["id"] for item in page["items"]] == [session["id"]]
    edited = await running.ask("PATCH", f"sessions/{session['id']}", body={"topic": "Shelves"})
    assert edited.json["topic"] == "Shelves"
    again = await running.ask("PATCH", f"sessions/{session['id']}", body={"topic": "Boards"})
    assert again.json["topic"] == "Boards"
    told = (await running.get("events", task=session["task_id"])).json["items"]
    assert [
        (one["actor_kind"], one["actor"], one["details"])
        for one in told
        if one["kind"] == "session_renamed"
    ] == [("user", "admin", {"topic": "Boards"})]
    audited = (await running.get("events", audit="true")).json["items"]
    assert "session_renamed" in {one["kind"] for one in audited}


@pytest.mark.asyncio
async def test_an_external_session_of_an_attempt(running: RunningHive):
    """The attempt brings its task, which may not be another; one of the two is needed."""
    node = await running.node()
    attempt = await node.has_attempt()
    made = await running.post("sessions", {"agent_session_id": "x", "attempt_id": attempt.id})
    assert (made.json["attempt_id"], made.json["task_id"]) == (attempt.id, attempt.task_id)
    assert (await running.get(f"attempts/{attempt.id}")).json["sessions"] == [made.json["id"]]
    other = await running.task("Another")
    wrong = {"agent_session_id": "y", "attempt_id": attempt.id, "task_id": other["id"]}
    assert (await running.post("sessions", wrong)).error["details"]["field"] == "task_id"
    none = await running.post("sessions", {"agent_session_id": "y"})
    assert (none.status, none.error["details"]["field"]) == (422, "attempt_id")


@pytest.mark.asyncio
async def test_closing_and_resuming(running: RunningHive):
    """Closing keeps the history; the same mapping takes it up again; a heartbeat does not."""
    await running.node()
    session = await mapped(running)
    path = f"sessions/{session['id']}"
    closed = (await running.ask("DELETE", path)).json
    assert (closed["status"], closed["closes_at_ms"]) == ("closed", None)
    assert (await running.ask("DELETE", path)).json["closed_at_ms"] == closed["closed_at_ms"]
    assert (await running.post(f"{path}/heartbeat")).status == 409
    same = {"agent_session_id": "theirs-1", "task_id": session["task_id"]}
    assert (await running.post("sessions", same)).json["status"] == "idle"
    wrong = await running.post(f"{path}/heartbeat", {"status": "closed"})
    assert (wrong.status, wrong.error["details"]["field"]) == (422, "status")


@pytest.mark.asyncio
async def test_silence_closes_and_a_heartbeat_keeps_alive(running: RunningHive):
    """Half an hour without a sign of life closes it; a heartbeat begins that anew."""
    await running.node()
    clock = running.hive.context.clock()
    running.hive.context.clock = lambda: clock
    running.hive.sessions._clock = lambda: clock
    session = await mapped(running)
    path = f"sessions/{session['id']}"
    clock += HOUR_MS // 2 - 1
    assert await running.hive.sessions.close_silent() == 0
    beat = (await running.post(f"{path}/heartbeat", {"status": "open"})).json
    assert (beat["status"], beat["closes_at_ms"]) == ("open", clock + HOUR_MS // 2)
    clock += HOUR_MS // 2 - 1
    assert await running.hive.sessions.close_silent() == 0
    clock += 1
    assert await running.hive.sessions.close_silent() == 1
    closed = (await running.get(path)).json
    assert (closed["status"], closed["reason"]) == ("closed", SILENT)


@pytest.mark.asyncio
async def test_a_hive_that_was_away_closes_nothing_for_its_own_silence(tmp_path: Path):
    """Agents could not be heard meanwhile: each has the whole time from its start on."""
    async with running_hive(tmp_path) as running:
        await running.node()
        session = await mapped(running)
        token = running.token
        clock = running.hive.context.clock() + 10 * HOUR_MS
    async with serving_again(tmp_path, token) as running:
        rules = ExternalSessions(
            running.hive.database, lambda: clock, idle_s=HOUR_MS / 2000, age_s=3600
        )
        running.hive.context.sessions = rules
        assert await rules.close_silent() == 0
        shown = (await running.get(f"sessions/{session['id']}")).json
        assert (shown["status"], shown["closes_at_ms"]) == ("idle", clock + HOUR_MS // 2)
        clock += HOUR_MS // 2 - 1
        assert await rules.close_silent() == 0
        clock += 1
        assert await rules.close_silent() == 1


@pytest.mark.asyncio
async def test_a_held_attempt_keeps_its_session_open(running: RunningHive):
    """Where someone holds the attempt, its session stays open however long it is silent."""
    node = await running.node()
    clock = running.hive.context.clock()
    running.hive.context.clock = lambda: clock
    running.hive.sessions._clock = lambda: clock
    attempt = await node.has_attempt(hold_until_ms=clock + 2 * HOUR_MS)
    made = await running.post("sessions", {"agent_session_id": "x", "attempt_id": attempt.id})
    clock += HOUR_MS
    assert await running.hive.sessions.close_silent() == 0
    assert (await running.get(f"sessions/{made.json['id']}")).json["rotation_due"]
    clock += HOUR_MS
    assert await running.hive.sessions.close_silent() == 1


@pytest.mark.asyncio
async def test_an_old_session_of_the_agents_is_to_be_rotated(running: RunningHive):
    """After an hour the agent is told to begin a fresh one; the history stays one."""
    await running.node()
    clock = running.hive.context.clock()
    running.hive.context.clock = lambda: clock
    running.hive.sessions._clock = lambda: clock
    session = await mapped(running)
    assert not session["rotation_due"]
    clock += HOUR_MS
    path = f"sessions/{session['id']}"
    assert (await running.post(f"{path}/heartbeat")).json["rotation_due"]
    fresh = (await running.ask("PATCH", path, body={"agent_session_id": "theirs-2"})).json
    assert (fresh["rotation_due"], fresh["agent_session_id"]) == (False, "theirs-2")
    assert fresh["id"] == session["id"]


@pytest.mark.asyncio
async def test_a_viewer_only_looks(running: RunningHive):
    """Who may read may not map, keep alive or close."""
    await running.node()
    session = await mapped(running)
    viewer = await running.token_of("viewer")
    path = f"sessions/{session['id']}"
    assert (await running.get(path, token=viewer)).status == 200
    for method, where in (
        ("POST", "sessions"),
        ("POST", f"{path}/heartbeat"),
        ("POST", f"{path}/messages"),
        ("DELETE", path),
        ("PATCH", path),
    ):
        assert (await running.ask(method, where, body={}, token=viewer)).status == 403
