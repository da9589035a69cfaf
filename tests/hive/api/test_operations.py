"""Operations on attempts over HTTP: through the relay, byte for byte, on the attempt one saw."""

import asyncio
from urllib.parse import quote

import aiohttp
import msgspec
import pytest

from protocol.attempt_requests import AttemptReply, ExecutionReply
from protocol.entities import Execution
from protocol.errors import ErrorCode, OperationError
from protocol.ops import OpKind
from protocol.states import AttemptPhase, ExecutionKind, ExecutionStatus
from protocol.turn_requests import Turn, TurnsReply, TurnStatus
from protocol.work_requests import BranchStatusReply
from tests.hive.api.running import RunningHive

DIFF = (b'{"base":"a","head":"b",', b'"source":"worktree","files":[]}')


@pytest.mark.asyncio
async def test_a_reading_operation_is_answered_by_the_node(running: RunningHive):
    """The request's fields reach the node, its reply comes back, and the attempt is named."""
    node = await running.node("one")
    attempt = await node.has_attempt()

    async def status(_call):
        return BranchStatusReply(branch="skep/sort-1", ahead=2)

    node.answers["branch_status"] = status
    for path in (f"attempts/{attempt.id}", f"tasks/{attempt.task_id}/attempt"):
        answer = await running.get(f"{path}/branch-status")
        assert (answer.json["branch"], answer.json["ahead"]) == ("skep/sort-1", 2)
        assert answer.json["attempt_id"] == attempt.id
        assert answer.headers["Skep-Attempt-Id"] == attempt.id


@pytest.mark.asyncio
async def test_a_stream_is_passed_on_byte_for_byte(running: RunningHive):
    """The bytes of a reply are the node's own, and the query is the operation's request."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    node.streams("diff", *DIFF)
    answer = await running.get(f"attempts/{attempt.id}/diff?path=src&stat=1")
    assert answer.content == b"".join(DIFF)
    asked = msgspec.msgpack.decode(node.calls[0].body)
    assert (asked["stat"], asked["path"], asked["against"]) == (True, "src", "target")


@pytest.mark.asyncio
async def test_a_file_is_no_page_of_ours(running: RunningHive):
    """Bytes of a worktree come as what to save, in no browser's eyes as a page of the hive."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    node.streams("read_file", b"<script>", media_type="text/html")
    answer = await running.get(f"attempts/{attempt.id}/files/src/a%20b.html")
    assert answer.content == b"<script>"
    assert msgspec.msgpack.decode(node.calls[0].body)["path"] == "src/a b.html"
    assert answer.headers["Content-Disposition"] == "attachment"
    assert "sandbox" in answer.headers["Content-Security-Policy"]


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["new\nline.txt", "a/b\r\nc", "100%20?&#.txt", "-x 'ü' \"q\""])
async def test_a_file_of_any_name(running: RunningHive, name: str):
    """What a file is called reaches the node as it is: line ends, marks of addresses and all."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    node.streams("read_file", b"text", media_type="text/plain")
    answer = await running.get(f"attempts/{attempt.id}/files/{quote(name)}")
    assert answer.content == b"text"
    assert msgspec.msgpack.decode(node.calls[0].body)["path"] == name


@pytest.mark.asyncio
async def test_an_error_before_the_first_byte_has_its_status(running: RunningHive):
    """What the node refuses is told as what it is."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    node.streams("diff", OperationError(ErrorCode.GIT_FAILED, "git failed", exit_code=128))
    answer = await running.get(f"attempts/{attempt.id}/diff")
    assert (answer.status, answer.error["code"]) == (502, "git_failed")
    assert answer.error["details"] == {"exit_code": 128}


@pytest.mark.asyncio
async def test_half_a_stream_does_not_pass_for_a_whole_one(running: RunningHive):
    """Where the node's stream breaks, so does the connection."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    node.streams("diff", DIFF[0], OperationError(ErrorCode.NODE_FAILED, "broke"))
    with pytest.raises(aiohttp.ClientError):
        await running.get(f"attempts/{attempt.id}/diff")


@pytest.mark.asyncio
async def test_a_viewer_that_leaves_ends_the_stream_at_the_node(running: RunningHive):
    """The node is told that nobody reads any more."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    url = f"{running.url}/api/v1/attempts/{attempt.id}/diff"
    headers = {"Authorization": f"Bearer {running.token}"}

    async def silent(_call):
        await asyncio.sleep(60)

    node.answers["diff"] = silent
    with pytest.raises(asyncio.TimeoutError):
        async with asyncio.timeout(0.3), running.session.get(url, headers=headers):
            pass
    for _ in range(1500):
        if not running.hive.registry._nodes[node.id].calls:
            break
        await asyncio.sleep(0.02)
    assert running.hive.registry._nodes[node.id].calls == {}
    assert node.cancelled == [node.calls[0].call_id]
    for task in node.tasks:
        task.cancel()


@pytest.mark.asyncio
async def test_stop_answers_the_attempt(running: RunningHive):
    """A changing operation is recorded with its key, and answers the attempt in its one shape."""
    node = await running.node("one")
    attempt = await node.has_attempt()

    async def stop(call):
        asked = msgspec.msgpack.decode(call.body)
        assert asked["grace_s"] == 2
        return AttemptReply(attempt=node.attempt(phase=AttemptPhase.FINISHING))

    node.answers["stop"] = stop
    key = {"Idempotency-Key": "stop-1"}
    answer = await running.post(f"attempts/{attempt.id}/stop", {"grace_s": 2}, headers=key)
    assert (answer.status, answer.json["phase"]) == (200, "finishing")
    assert answer.json["node_name"] == "one"
    assert answer.headers["Idempotency-Key"] == "stop-1"
    row = (await running.get("operations/stop-1")).json
    assert (row["operation"], row["status"], row["actor"]) == ("stop", "done", "admin")
    listed = (await running.get("operations", attempt=attempt.id)).json["items"]
    assert [item["key"] for item in listed] == ["stop-1"]


@pytest.mark.asyncio
async def test_a_task_alone_does_not_say_which_run_to_change(running: RunningHive):
    """Nothing acts on a run the caller did not see; the error names the newest."""
    node = await running.node("one")
    old = await node.has_attempt(1)
    new = await node.has_attempt(2, task_id=old.task_id)
    refused = await running.post(f"tasks/{old.task_id}/attempt/stop")
    assert (refused.status, refused.error["code"]) == (409, "attempt_required")
    assert refused.error["details"]["attempt_id"] == new.id
    assert refused.error["details"]["phase"] == "running"
    assert node.calls == []

    async def stop(_call):
        return AttemptReply(attempt=old)

    node.answers["stop"] = stop
    done = await running.post(f"tasks/{old.task_id}/attempt/stop", attempt=old.id)
    assert done.json["id"] == old.id
    assert node.calls[0].attempt_id == old.id
    other = await node.has_attempt(3)
    refused = await running.post(f"tasks/{old.task_id}/attempt/stop", attempt=other.id)
    assert (refused.status, refused.error["details"]["field"]) == (422, "attempt")


@pytest.mark.asyncio
async def test_a_node_that_is_away_says_since_when(running: RunningHive):
    """Reading and changing alike answer `node_offline`, where the caller does not wait for it."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    await node.leave()
    for method, path in (("GET", "diff"), ("GET", "branch-status"), ("POST", "stop")):
        answer = await running.ask(method, f"attempts/{attempt.id}/{path}")
        assert (answer.status, answer.error["code"]) == (503, "node_offline")
        assert answer.error["details"]["last_seen_at_ms"] > 1_700_000_000_000
        assert answer.error["retryable"]
        assert ("when=online" in answer.error["hint"]) is (method == "POST")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("method", "path", "query", "field"),
    [
        ("GET", "diff", {"context": "three"}, "context"),
        ("GET", "diff", {"colour": "red"}, "colour"),
        ("GET", "diff", {"context": "9" * 30}, "context"),
        ("POST", "pr/attach", {"body": {"number": 10**30}}, "number"),
        ("POST", "stop", {"deadline_s": "0"}, "deadline_s"),
        ("POST", "stop", {"deadline_s": "99999"}, "deadline_s"),
    ],
)
async def test_a_request_that_makes_no_sense_stays_here(
    running: RunningHive, method: str, path: str, query, field: str
):
    """The field at fault is named and nothing is sent to the node."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    refused = await running.ask(method, f"attempts/{attempt.id}/{path}", **query)
    assert (refused.status, refused.error["details"]["field"]) == (422, field)
    assert node.calls == []


@pytest.mark.asyncio
async def test_an_unknown_key_is_told(running: RunningHive):
    """A key that was never sent is a 404 that says so."""
    answer = await running.get("operations/never")
    assert (answer.status, answer.error["code"]) == (404, "not_found")
    bad = await running.post("attempts/ffffffff/stop", headers={"Idempotency-Key": "k" * 300})
    assert bad.status in {404, 422}


@pytest.mark.asyncio
async def test_what_the_path_and_the_query_name(running: RunningHive):
    """A name in the path, and the query of a DELETE, are fields of the request as well."""
    node = await running.node("one")
    attempt = await node.has_attempt()

    async def begun(call):
        name = msgspec.msgpack.decode(call.body)["name"]
        execution = Execution(
            id="e1",
            attempt_id=attempt.id,
            kind=ExecutionKind.SCRIPT,
            script=name,
            status=ExecutionStatus.RUNNING,
        )
        return ExecutionReply(execution=execution)

    async def dropped(call):
        assert msgspec.msgpack.decode(call.body) == {"turn": "t1", "all": False}
        return TurnsReply(items=[])

    node.answers |= {"run_script": begun, "drop_turns": dropped}
    answer = await running.post(f"attempts/{attempt.id}/scripts/dev")
    assert (answer.json["id"], answer.json["script"]) == ("e1", "dev")
    assert answer.json["log"]["entries"] == 0
    answer = await running.post(f"attempts/{attempt.id}/scripts/dev", {"other": 1})
    assert answer.error["details"]["field"] == "other"
    answer = await running.ask("DELETE", f"attempts/{attempt.id}/turns?turn=t1")
    assert (answer.status, answer.json["items"]) == (200, [])


@pytest.mark.asyncio
async def test_a_followed_up_attempt_is_not_shown_as_ended(running: RunningHive):
    """The answer waits a moment for the node's op, so that who reads next sees it go on."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    await node.ends(attempt, [])

    async def follow_up(_call):
        asyncio.get_running_loop().call_later(0.2, lambda: told.append(tell()))
        return Turn(
            id="t2",
            attempt_id=attempt.id,
            status=TurnStatus.RUNNING,
            no=2,
            created_at_ms=3_000_000,
        )

    def tell():
        return asyncio.ensure_future(node.tell((OpKind.ATTEMPT, attempt.id, attempt)))

    told: list[asyncio.Future] = []
    node.answers["follow_up"] = follow_up
    answer = await running.post(f"attempts/{attempt.id}/follow-up", {"prompt": "go on"})
    assert (answer.json["no"], answer.json["status"]) == (2, "running")
    shown = await running.get(f"attempts/{attempt.id}")
    assert (shown.json["phase"], shown.json["outcome"]) == ("running", None)
    await told[0]
