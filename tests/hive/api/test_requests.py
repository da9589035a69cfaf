"""What agents ask, at the hive: listed, shown, and answered by the node that owns it."""

import asyncio
from typing import Any

import msgspec
import pytest

from hive.store import deferred
from protocol.answer_requests import AnswerRequest
from protocol.conversation import AgentRequest, Answer, RequestKind, RequestOption, RequestStatus
from protocol.entities import Attempt
from protocol.errors import ErrorCode, OperationError, RemoteProtocolError
from protocol.ops import OpKind
from tests.hive.api.kept import settled, until
from tests.hive.api.running import FakeNode, RunningHive
from tests.hive.reported import uid

OPTIONS = [RequestOption(id="yes", name="Allow", kind="allow_once")]


async def asked(node: FakeNode, attempt: Attempt, number: int = 1, **fields: Any) -> AgentRequest:
    """Have a node tell of a request of an attempt's agent."""
    wanted: dict[str, Any] = {
        "id": uid(900 + number),
        "attempt_id": attempt.id,
        "kind": RequestKind.APPROVAL,
        "title": "Run the tests",
        "options": OPTIONS,
        "opened_at_ms": number,
    }
    request = AgentRequest(**{**wanted, **fields})
    await node.tell((OpKind.REQUEST, request.id, request))
    return request


def answers(node: FakeNode, request: AgentRequest) -> list[AnswerRequest]:
    """Have a node settle a request once; returns what it was asked each time."""
    taken: list[AnswerRequest] = []

    async def answer(call: Any) -> AgentRequest:
        given = msgspec.msgpack.decode(call.body, type=AnswerRequest)
        taken.append(given)
        if len(taken) > 1:
            raise OperationError(ErrorCode.ALREADY_ANSWERED, "said: Allow", answer={"by": "ann"})
        said = Answer(option=given.option, text=given.text, form=given.form, by="ann", at_ms=9)
        settled = msgspec.structs.replace(
            request, status=RequestStatus.ANSWERED, answer=said, settled_at_ms=9
        )
        # Its op goes another way than its answer, and may come after.
        telling = asyncio.create_task(node.tell((OpKind.REQUEST, request.id, settled)))
        node.tasks.add(telling)
        telling.add_done_callback(node.tasks.discard)
        return settled

    node.answers["answer"] = answer
    return taken


@pytest.mark.asyncio
async def test_requests_are_listed_and_shown(running: RunningHive):
    """By status, attempt, task, project and node; one by its id or a part of it."""
    node, other = await running.node("one"), await running.node("two")
    attempt, elsewhere = await node.has_attempt(), await other.has_attempt(2)
    first = await asked(node, attempt)
    second = await asked(node, attempt, 2, status=RequestStatus.EXPIRED, settled_at_ms=9)
    third = await asked(other, elsewhere, 3)
    listed = (await running.get("requests")).json["items"]
    assert [one["id"] for one in listed] == [third.id, second.id, first.id]
    project = listed[0]["project_id"]
    for query, ids in (
        ("status=open", [third.id, first.id]),
        (f"attempt={attempt.id}", [second.id, first.id]),
        (f"task={attempt.task_id}&status=open", [first.id]),
        (f"project={project}&limit=1", [third.id]),
        ("node=two", [third.id]),
    ):
        page = (await running.get(f"requests?{query}")).json
        assert [one["id"] for one in page["items"]] == ids, query
    page = (await running.get("requests?limit=2")).json
    rest = (await running.get(f"requests?cursor={page['next']}")).json
    assert [one["id"] for one in rest["items"]] == [first.id]
    shown = (await running.get(f"requests/{first.id[-12:]}")).json
    assert (shown["title"], shown["node_name"], shown["reachable"]) == (first.title, "one", True)
    assert shown["options"] == [{"id": "yes", "name": "Allow", "kind": "allow_once"}]
    assert (await running.get(f"requests/{uid(77)}")).status == 404
    assert (await running.get("requests?status=never")).status == 422


@pytest.mark.asyncio
async def test_an_answer_is_the_nodes_to_take(running: RunningHive):
    """It goes there with who says it; the loser of two is told what was said."""
    node = await running.node("one")
    request = await asked(node, await node.has_attempt())
    taken = answers(node, request)
    answer = await running.post(f"requests/{request.id[-12:]}/answer", {"option": "yes"})
    assert (answer.status, answer.json["status"]) == (200, "answered")
    assert (answer.json["answer"]["option"], answer.json["node_name"]) == ("yes", "one")
    assert taken == [AnswerRequest(request_id=request.id, option="yes")]
    # Whoever has answered is not shown after that it waits for an answer.
    shown = (await running.get(f"requests/{request.id}")).json
    assert (shown["status"], shown["answer"]["by"]) == ("answered", "ann")
    late = await running.post(f"requests/{request.id}/answer", {"text": "no"})
    assert (late.status, late.error["code"]) == (409, "already_answered")
    assert late.error["details"]["answer"] == {"by": "ann"}


@pytest.mark.asyncio
async def test_a_key_answers_once(running: RunningHive):
    """Asked again with the same key, the first reply is found; the node is not asked twice."""
    node = await running.node("one")
    request = await asked(node, await node.has_attempt())
    taken = answers(node, request)
    path = f"requests/{request.id}/answer"
    for _ in range(2):
        answer = await running.post(path, {"option": "yes"}, headers={"Idempotency-Key": "k"})
        assert answer.status == 200
    assert len(taken) == 1


@pytest.mark.asyncio
async def test_who_may_only_look_answers_nothing(running: RunningHive):
    """A viewer sees requests; an operator answers them."""
    node = await running.node("one")
    request = await asked(node, await node.has_attempt())
    taken = answers(node, request)
    viewer = await running.token_of("viewer")
    assert (await running.get("requests", token=viewer)).status == 200
    path = f"requests/{request.id}/answer"
    refused = await running.post(path, {"option": "yes"}, token=viewer)
    assert (refused.status, refused.error["code"]) == (403, "forbidden")
    assert taken == []
    operator = await running.token_of("operator")
    assert (await running.post(path, {"option": "yes"}, token=operator)).status == 200


@pytest.mark.asyncio
async def test_an_answer_for_a_node_that_is_away_is_shown_as_sent(running: RunningHive):
    """It waits, and counts once the node says so; without `when` it is refused as it is."""
    node = await running.node("one")
    request = await asked(node, await node.has_attempt())
    await node.leave()
    path = f"requests/{request.id}/answer"
    refused = await running.post(path, {"option": "yes"})
    assert (refused.status, refused.error["code"]) == (503, "node_offline")
    kept = await running.post(
        f"{path}?when=online", {"option": "yes"}, headers={"Idempotency-Key": "k"}
    )
    assert (kept.status, kept.json["status"]) == (202, "waiting")
    shown = (await running.get(f"requests/{request.id}")).json
    assert shown["status"] == "open"
    assert [(one["key"], one["option"]) for one in shown["sent"]] == [("k", "yes")]
    taken = answers(node, request)
    await node.connect()
    assert (await settled(running, "k", "done"))["status"] == "done"
    assert len(taken) == 1

    async def look() -> Any:
        found = (await running.get(f"requests/{request.id}")).json
        return found if found["status"] == "answered" else None

    found = await until(look)
    assert (found["answer"]["by"], found["sent"]) == ("ann", [])


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (RequestStatus.ANSWERED, "already_answered"),
        (RequestStatus.EXPIRED, "expired"),
        (RequestStatus.CANCELLED, "cancelled"),
    ],
)
async def test_no_answer_is_kept_for_what_is_settled(
    running: RunningHive, status: RequestStatus, code: str
):
    """A node that is away need not be waited for to learn that its agent no longer asks."""
    node = await running.node("one")
    said = Answer(option="yes", by="ann") if status is RequestStatus.ANSWERED else None
    request = await asked(
        node, await node.has_attempt(), status=status, answer=said, settled_at_ms=9
    )
    await node.leave()
    path = f"requests/{request.id}/answer?when=online"
    refused = await running.post(path, {"option": "yes"})
    assert (refused.status, refused.error["code"]) == (409 if said else refused.status, code)
    assert refused.error["details"]["status"] == status.value
    if said:
        assert refused.error["details"]["answer"]["by"] == "ann"
    assert (await running.get("operations")).json["items"] == []


@pytest.mark.asyncio
async def test_the_answer_that_settled_it_is_found_by_its_key(running: RunningHive):
    """Asked again while the node is away, its sender is told that it counts; others are late."""
    node = await running.node("one")
    request = await asked(node, await node.has_attempt())
    answers(node, request)
    path = f"requests/{request.id}/answer?when=online"
    first = await running.post(path, {"option": "yes"}, headers={"Idempotency-Key": "k"})
    assert first.status == 200
    await node.leave()
    again = await running.post(path, {"option": "yes"}, headers={"Idempotency-Key": "k"})
    assert (again.status, again.json["answer"]["by"]) == (200, "ann")
    other = await running.post(path, {"option": "yes"}, headers={"Idempotency-Key": "l"})
    assert other.error["code"] == "already_answered"


@pytest.mark.asyncio
async def test_an_answer_that_is_held_says_so(running: RunningHive):
    """After a restore it does not leave by itself: nobody is shown that it is on its way."""
    node = await running.node("one")
    request = await asked(node, await node.has_attempt())
    await node.leave()
    key = {"Idempotency-Key": "k"}
    path = f"requests/{request.id}/answer?when=online"
    assert (await running.post(path, {"option": "yes"}, headers=key)).status == 202

    async def held() -> list[bool]:
        shown = (await running.get(f"requests/{request.id}")).json
        return [one["held"] for one in shown["sent"]]

    assert await held() == [False]
    await running.hive.database.write(deferred.hold_all, 1)
    assert await held() == [True]
    await running.post("operations/k/confirm")
    assert await held() == [False]


@pytest.mark.asyncio
async def test_viewers_and_the_feed_hear_of_a_request(running: RunningHive):
    """Opened, reminded, settled: each is an event of the live stream and of the activity feed."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    with running.hive.feed.subscribe([f"attempt:{attempt.id}"]) as viewer:
        heard: list[str] = []
        for number, fields in enumerate(
            (
                {},
                {"reminded_at_ms": 5},
                {"status": RequestStatus.CANCELLED, "reason": "the turn was cancelled"},
            )
        ):
            request = await asked(node, attempt, **fields)
            async with asyncio.timeout(30):
                while len(heard) <= 2 * number:
                    changes, _ = await viewer.take() or ([], False)
                    heard += [one.kind for one in changes if one.ids.get("request") == request.id]
            # The same again, as a backfill or a snapshot tells it, is no other reminder.
            await asked(node, attempt, **fields)
            async with asyncio.timeout(30):
                while len(heard) <= 2 * number + 1:
                    changes, _ = await viewer.take() or ([], False)
                    heard += [one.kind for one in changes if one.ids.get("request") == request.id]
    assert heard == [
        "request.opened",
        "request.changed",
        "request.reminded",
        "request.changed",
        "request.settled",
        "request.changed",
    ]
    events = (await running.get(f"events?attempt={attempt.id}")).json["items"]
    told = [one["kind"] for one in reversed(events) if one["what"] == "request"]
    assert told == ["request_opened", "request_reminded", "request_settled"]


@pytest.mark.asyncio
async def test_no_node_speaks_of_anothers_attempt(running: RunningHive):
    """A request under another node's attempt is refused, and nothing of it is shown."""
    node, other = await running.node("one"), await running.node("two")
    attempt = await node.has_attempt()
    with pytest.raises(RemoteProtocolError):
        await asked(other, attempt)
    assert (await running.get("requests")).json["items"] == []
