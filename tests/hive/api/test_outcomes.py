"""What became of changing requests: listed with the node off, and what is unknown with a hint."""

import pytest

from hive.api.outcomes import span
from protocol.entities import OperationRecord
from protocol.errors import ErrorCode, OperationError
from protocol.ops import OpKind
from tests.hive.api.kept import away
from tests.hive.api.running import RunningHive

KEY = {"Idempotency-Key": "key-1"}


@pytest.mark.asyncio
async def test_the_history_is_read_with_the_node_off(running: RunningHive):
    """What was asked through the hive and what was done at the node itself, each once."""
    node, attempt, _ = await away(running)
    record = OperationRecord(
        key="local-1",
        operation="stop",
        attempt_id=attempt.id,
        actor="node-operator",
        status="failed",
        error_code="git_failed",
        head_before="abc",
        started_at_ms=5,
    )
    await node.tell((OpKind.OPERATION, "0" * 32, record))
    await running.post(f"attempts/{attempt.id}/stop", headers=KEY, when="online")
    listed = (await running.get("operations", attempt=attempt.id)).json["items"]
    assert [(row["key"], row["status"]) for row in listed] == [
        ("key-1", "waiting"),
        ("local-1", "failed"),
    ]
    local = (await running.get("operations/local-1")).json
    assert (local["actor"], local["error"]["code"]) == ("node-operator", "git_failed")
    assert (local["report"]["head_before"], local["kept"]) == ("abc", None)
    for query, keys in (
        ({"status": "waiting"}, ["key-1"]),
        ({"node": "one"}, ["key-1", "local-1"]),
        ({"status": "failed", "node": "one"}, ["local-1"]),
    ):
        found = (await running.get("operations", **query)).json["items"]
        assert [row["key"] for row in found] == keys
    wrong = await running.get("operations", status="ended")
    assert (wrong.status, wrong.error["details"]["field"]) == (422, "status")
    page = (await running.get("operations", limit="1")).json
    rest = (await running.get("operations", cursor=page["next"])).json
    assert [row["key"] for row in (*page["items"], *rest["items"])] == ["key-1", "local-1"]


@pytest.mark.asyncio
async def test_what_is_unknown_is_shown_with_what_is_known(running: RunningHive):
    """The head it was to begin from, the attempt, and what to do; settled when the node tells."""
    node = await running.node("one")
    attempt = await node.has_attempt()

    async def silent(_call):
        await node.leave()

    node.answers["stop"] = silent
    path = f"attempts/{attempt.id}/stop"
    lost = await running.post(path, headers={**KEY, "Expected-Head": "abc"})
    assert (lost.status, lost.error["code"]) == (504, "unknown")
    row = (await running.get("operations/key-1")).json
    assert (row["status"], row["head_before"], row["report"]) == ("unknown", "abc", None)
    assert f"hive attempts show {attempt.id}" in row["hint"]
    assert "one is away" in row["hint"]

    record = OperationRecord(
        key="key-1", operation="stop", attempt_id=attempt.id, status="done", head_after="def"
    )
    await node.tell((OpKind.OPERATION, "1" * 32, record))
    row = (await running.get("operations/key-1")).json
    assert (row["status"], row["head_before"], row["head_after"]) == ("done", "abc", "def")
    # Its answer is with the node; that it was done the hive knows, and does not unlearn.
    for query in ({}, {"when": "online"}):
        again = await running.post(path, headers={**KEY, "Expected-Head": "abc"}, **query)
        assert (again.status, again.error["details"]["status"]) == (503, "done")
    assert (await running.get("operations/key-1")).json["status"] == "done"


@pytest.mark.asyncio
async def test_a_node_that_cannot_say_either(running: RunningHive):
    """It stopped in the middle and could not find out: unknown, by its own report too."""
    node = await running.node("one")
    attempt = await node.has_attempt()

    async def halfway(_call):
        raise OperationError(ErrorCode.UNKNOWN_OUTCOME, "the node stopped in the middle")

    node.answers["stop"] = halfway
    assert (await running.post(f"attempts/{attempt.id}/stop", headers=KEY)).status == 504
    record = OperationRecord(
        key="key-1", operation="stop", attempt_id=attempt.id, status="failed", error_code="unknown"
    )
    await node.tell((OpKind.OPERATION, "1" * 32, record))
    assert (await running.get("operations/key-1")).json["status"] == "unknown"


@pytest.mark.asyncio
async def test_only_what_waits_can_be_decided_on(running: RunningHive):
    """A key nobody knows, and one that is settled."""
    assert (await running.post("operations/never/cancel")).status == 404
    _, attempt, _ = await away(running)
    await running.post(f"attempts/{attempt.id}/stop", headers=KEY)
    for action in ("cancel", "confirm"):
        refused = await running.post(f"operations/key-1/{action}")
        assert (refused.status, refused.error["code"]) == (409, "conflict")
        assert "--waiting" in refused.error["hint"]


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [
        (-5, "0 s"),
        (59_999, "59 s"),
        (3_600_000, "1 h 0 min"),
        (604_800_000, "7 d 0 h"),
        (90_061_000, "1 d 1 h"),
    ],
)
def test_spans_as_people_say_them(milliseconds: int, said: str):
    """The two largest units."""
    assert span(milliseconds) == said
