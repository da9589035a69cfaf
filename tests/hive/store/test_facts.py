"""What nodes report becomes the rows, events and changes that viewers see."""

import json

import msgspec
import pytest

from hive.projections import Source
from hive.store import link_checks, sync
from protocol.entities import Notice, Withheld
from protocol.errors import ErrorCode, RemoteProtocolError
from protocol.ops import Op, OpKind
from protocol.states import AttemptOutcome, AttemptPhase, ExecutionStatus, TaskStatus
from tests.hive import reported
from tests.hive.reported import NODE, NOW_MS, OTHER, uid
from tests.hive.store.open_hive import OpenHive


@pytest.mark.asyncio
async def test_a_checkout_makes_its_project(hive: OpenHive):
    """The first checkout of a repository makes its project, a second one of it joins that."""
    alpha = await hive.reporting()
    beta = await hive.reporting(OTHER)
    await alpha.tells(reported.checkout(1))
    await beta.tells(reported.checkout(2, name="other-name"))
    [project] = await hive.rows("SELECT * FROM project")
    assert (project["name"], project["identity"]) == ("shop", "example.org/team/shop")
    assert project["default_branch"] == "main"
    assert project["recovered"] == 0
    for number in (1, 2):
        row = await hive.row("checkout", uid(number))
        assert (row["project_id"], row["problem"]) == (project["id"], "")
    assert "project_created" in await hive.happened()


@pytest.mark.asyncio
async def test_a_name_that_is_taken_by_another_repository_is_a_problem(hive: OpenHive):
    """The same name with another identity links to nothing, and says why."""
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.checkout(2, identity="example.org/evil/shop"))
    row = await hive.row("checkout", uid(2))
    assert (row["project_id"], row["problem"]) == (None, "project_mismatch")
    assert len(await hive.rows("SELECT id FROM project")) == 1
    assert "checkout_not_linked" in await hive.happened()


@pytest.mark.asyncio
async def test_nodes_may_be_kept_from_making_projects(hive: OpenHive):
    """Where the setting says so, a checkout waits for a project that a person makes."""
    hive.with_policy(nodes_may_create_projects=False)
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.attempt())
    row = await hive.row("checkout", uid(1))
    assert (row["project_id"], row["problem"]) == (None, "project_unknown")
    assert (await hive.row("attempt", uid(10)))["project_id"] is None
    assert await hive.rows("SELECT id FROM project") == []


@pytest.mark.asyncio
async def test_a_project_goes_along_when_its_only_checkout_gets_an_origin(hive: OpenHive):
    """A repository that is given an origin stays the project it was; with two it does not."""
    alpha = await hive.reporting()
    beta = await hive.reporting(OTHER)
    await alpha.tells(reported.checkout(1, identity="root:abc"))
    await alpha.tells(reported.checkout(1, identity="example.org/team/shop"))
    [project] = await hive.rows("SELECT * FROM project")
    assert project["identity"] == "example.org/team/shop"
    await beta.tells(reported.checkout(2))
    await alpha.tells(reported.checkout(1, identity="example.org/moved/shop"))
    row = await hive.row("checkout", uid(1))
    assert (row["project_id"], row["problem"]) == (None, "project_mismatch")
    assert (await hive.row("checkout", uid(2)))["project_id"] == project["id"]


@pytest.mark.asyncio
async def test_a_removed_checkout_stays_known_as_removed(hive: OpenHive):
    """A removed checkout keeps its row."""
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.checkout(1, removed=True))
    assert (await hive.row("checkout", uid(1)))["removed"] == 1


@pytest.mark.asyncio
async def test_an_attempt_is_shown_as_its_node_told_it(hive: OpenHive):
    """Every word of an attempt and its executions arrives, and the project is found by checkout."""
    alpha = await hive.reporting()
    await alpha.tells(
        reported.checkout(1),
        reported.local_task(checkout_id=uid(1)),
        reported.attempt(executions=[uid(20)], base_commit="abc", worktree="/w"),
        reported.execution(argv=["sh", "-c", "true"]),
    )
    [project] = await hive.rows("SELECT id FROM project")
    attempt = await hive.row("attempt", uid(10))
    assert attempt["project_id"] == project["id"]
    assert (attempt["phase"], attempt["base_commit"], attempt["worktree"]) == (
        "running",
        "abc",
        "/w",
    )
    assert json.loads(attempt["executions"]) == [uid(20)]
    execution = await hive.row("execution", uid(20))
    assert json.loads(execution["argv"]) == ["sh", "-c", "true"]
    task = await hive.row("task", uid(5))
    assert (task["node_id"], task["recovered"]) == (NODE, 0)
    assert (task["project_id"], task["status"]) == (project["id"], "in_progress")
    assert await hive.happened() == [
        "node_joined",
        "node_joined",
        "project_created",
        "checkout_linked",
        "task_changed",
        "attempt_created",
        "execution_started",
    ]


@pytest.mark.asyncio
async def test_what_a_hive_lost_is_rebuilt(hive: OpenHive):
    """An attempt alone brings its project, under the id it had, and its task, marked recovered."""
    alpha = await hive.reporting()
    await alpha.tells(reported.attempt(project_id=uid(77), task_description="It squeaks."))
    project = await hive.row("project", uid(77))
    assert (project["name"], project["recovered"]) == ("shop", 1)
    task = await hive.row("task", uid(5))
    assert (task["title"], task["description"]) == ("Mend the door", "It squeaks.")
    assert (task["recovered"], task["project_id"], task["node_id"]) == (1, uid(77), None)
    # Its owner's own word, when it comes, makes it that node's again.
    await alpha.tells(reported.local_task(title="Mend the back door"))
    task = await hive.row("task", uid(5))
    assert (task["title"], task["recovered"], task["node_id"]) == ("Mend the back door", 0, NODE)


@pytest.mark.asyncio
async def test_a_claimed_project_is_not_taken_on_a_nodes_word(hive: OpenHive):
    """An attempt that names another repository's project by id does not get into it."""
    alpha = await hive.reporting()
    beta = await hive.reporting(OTHER)
    await alpha.tells(reported.checkout(1))
    [project] = await hive.rows("SELECT id FROM project")
    await beta.tells(
        reported.attempt(
            checkout_id=uid(2),
            project_id=project["id"],
            project_identity="example.org/evil/other",
            project_name="other",
        )
    )
    assert (await hive.row("attempt", uid(10)))["project_id"] != project["id"]


@pytest.mark.asyncio
async def test_a_shared_task_cannot_be_claimed_by_a_node(hive: OpenHive):
    """A task that other nodes' attempts run is not one node's own."""
    alpha = await hive.reporting()
    beta = await hive.reporting(OTHER)
    await alpha.tells(reported.attempt(10))
    await beta.tells(reported.attempt(11, checkout_id=uid(2)))
    with pytest.raises(RemoteProtocolError) as caught:
        await alpha.tells(reported.local_task())
    assert caught.value.code is ErrorCode.FORBIDDEN


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (AttemptOutcome.SUCCEEDED, TaskStatus.IN_REVIEW),
        (AttemptOutcome.SUCCEEDED_WITH_WARNING, TaskStatus.IN_REVIEW),
        (AttemptOutcome.FAILED, TaskStatus.FAILED),
        (AttemptOutcome.STOPPED, TaskStatus.CANCELLED),
        (AttemptOutcome.LOST, TaskStatus.FAILED),
    ],
)
async def test_a_task_follows_its_attempt(
    hive: OpenHive, outcome: AttemptOutcome, status: TaskStatus
):
    """The outcome of the attempt decides the task's status, and stands in its result."""
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.attempt())
    assert (await hive.row("task", uid(5)))["status"] == "in_progress"
    await alpha.tells(reported.ended(outcome=outcome, reason="because"))
    task = await hive.row("task", uid(5))
    assert task["status"] == status
    result = json.loads(task["result"])
    assert (result["attempt_id"], result["branch"]) == (uid(10), "skep/10")
    warned = outcome is AttemptOutcome.SUCCEEDED_WITH_WARNING
    assert result["warning"] == ("because" if warned else None)
    assert (task["completed_at_ms"] is None) == (status is TaskStatus.IN_REVIEW)
    # A follow-up: the attempt has neither outcome nor end, and its task is in progress again.
    await alpha.tells(reported.attempt())
    attempt = await hive.row("attempt", uid(10))
    assert (attempt["outcome"], attempt["reason"], attempt["ended_at_ms"]) == (None, None, None)
    task = await hive.row("task", uid(5))
    assert (task["status"], task["completed_at_ms"]) == ("in_progress", None)
    await alpha.tells(reported.ended())
    assert (await hive.row("task", uid(5)))["status"] == "in_review"


@pytest.mark.asyncio
async def test_without_review_a_task_is_done(hive: OpenHive):
    """Where the project wants no review, success is the end."""
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.attempt())
    await hive.write(_set_review_off)
    await alpha.tells(reported.ended())
    assert (await hive.row("task", uid(5)))["status"] == "done"


async def _set_review_off(tx):
    await tx.execute("UPDATE project SET review = 'off'")


@pytest.mark.asyncio
async def test_only_the_newest_attempt_decides(hive: OpenHive):
    """An older attempt that ends late changes nothing of the task, and is superseded."""
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.attempt(10), reported.attempt(11))
    assert (await hive.row("attempt", uid(10)))["superseded"] == 1
    await alpha.tells(reported.ended(10, AttemptOutcome.FAILED))
    assert (await hive.row("task", uid(5)))["status"] == "in_progress"
    await alpha.tells(reported.ended(11))
    assert (await hive.row("task", uid(5)))["status"] == "in_review"
    assert (await hive.row("attempt", uid(11)))["superseded"] == 0
    # One that was older all along, heard of only now.
    await alpha.tells(reported.attempt(9))
    assert (await hive.row("attempt", uid(9)))["superseded"] == 1
    assert (await hive.row("task", uid(5)))["status"] == "in_review"


@pytest.mark.asyncio
async def test_what_a_person_decided_stands_while_the_attempt_lives_no_further(hive: OpenHive):
    """The same state told again, as after a worktree was removed, does not move the task back."""
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.attempt(), reported.ended())
    await hive.write(_set_task_done)
    await alpha.tells(reported.ended(worktree=None, saved_ref="refs/skep/10"))
    assert (await hive.row("task", uid(5)))["status"] == "done"
    # A follow-up is new life.
    await alpha.tells(reported.attempt())
    assert (await hive.row("task", uid(5)))["status"] == "in_progress"


async def _set_task_done(tx):
    await tx.execute("UPDATE task SET status = 'done'")


@pytest.mark.asyncio
async def test_another_nodes_attempt_does_not_move_a_local_task(hive: OpenHive):
    """A local task is moved by its own node's attempts alone."""
    alpha = await hive.reporting()
    beta = await hive.reporting(OTHER)
    await alpha.tells(reported.checkout(1), reported.local_task(checkout_id=uid(1)))
    await beta.tells(reported.checkout(2), reported.attempt(checkout_id=uid(2)))
    assert (await hive.row("task", uid(5)))["status"] == "ready"
    assert (await hive.row("attempt", uid(10)))["node_id"] == OTHER


@pytest.mark.asyncio
async def test_events_tell_what_happened_once(hive: OpenHive):
    """Each change of state is one event with from and to; the same state told again is none."""
    alpha = await hive.reporting()
    told = [
        reported.attempt(phase=AttemptPhase.PREPARING),
        reported.attempt(),
        reported.attempt(branch="renamed"),
        reported.execution(),
        reported.execution(status=ExecutionStatus.FAILED, exit_code=3),
        reported.ended(outcome=AttemptOutcome.FAILED, reason="exit_code 3"),
    ]
    await alpha.tells(reported.checkout(1), *told)
    rows = await hive.rows(
        "SELECT kind, from_state, to_state, why FROM event WHERE attempt_id = :id ORDER BY no",
        id=uid(10),
    )
    assert [tuple(row) for row in rows if not row["kind"].startswith("task")] == [
        ("attempt_created", None, "preparing", ""),
        ("attempt_changed", "preparing", "running", ""),
        ("execution_started", None, "running", ""),
        ("execution_ended", "running", "failed", ""),
        ("attempt_ended", "running", "failed", "exit_code 3"),
    ]


@pytest.mark.asyncio
async def test_a_parked_attempt_is_told_of(hive: OpenHive):
    """That it waits and until when, and that it went on; its phase is the same all the time."""
    alpha = await hive.reporting()
    why, until_ms = "usage_limit: come back later", NOW_MS + 60_000
    await alpha.tells(
        reported.checkout(1),
        reported.attempt(),
        reported.attempt(parked_until_ms=until_ms, reason=why),
        reported.session(parked_until_ms=until_ms, reason=why),
    )
    for kind, number in (("attempt", 10), ("session", 30)):
        row = await hive.row(kind, uid(number))
        assert (row["parked_until_ms"], row["reason"]) == (until_ms, why)
    await alpha.tells(
        reported.attempt(parked_until_ms=until_ms - 1, reason=why),
        reported.attempt(silent_since_ms=NOW_MS),
    )
    row = await hive.row("attempt", uid(10))
    assert (row["parked_until_ms"], row["silent_since_ms"]) == (None, NOW_MS)
    rows = await hive.rows(
        "SELECT kind, from_state, to_state, why, level FROM event WHERE attempt_id = :id"
        " AND kind LIKE 'attempt%' ORDER BY no",
        id=uid(10),
    )
    assert [tuple(row) for row in rows] == [
        ("attempt_created", None, "running", "", "info"),
        ("attempt_parked", "running", "running", why, "warning"),
        ("attempt_went_on", "running", "running", "", "info"),
    ]


@pytest.mark.asyncio
async def test_a_snapshot_of_what_is_known_tells_no_events(hive: OpenHive):
    """A record of a state is not news: it makes no event of its own."""
    alpha = await hive.reporting()
    told = [reported.checkout(1), reported.attempt(), reported.execution()]
    await alpha.tells(*told)
    before = await hive.happened()
    await alpha.snapshot(*told)
    assert await hive.happened() == before
    assert (await hive.row("attempt", uid(10)))["forgotten_at_ms"] is None


@pytest.mark.asyncio
async def test_a_node_describes_itself(hive: OpenHive):
    """A node's own description stands in its row; a name another node has is not taken over."""
    alpha = await hive.reporting()
    await alpha.tells(reported.node_state(cores=8))
    row = await hive.row("node", NODE)
    assert (row["name"], row["slots"], row["cores"], row["os"]) == ("alpha", 2, 8, "linux")
    await alpha.tells(reported.node_state(name="beta", slots=3))
    row = await hive.row("node", NODE)
    assert (row["name"], row["slots"]) == ("alpha", 3)
    await alpha.tells(reported.node_state(name="gamma"))
    assert (await hive.row("node", NODE))["name"] == "gamma"


@pytest.mark.asyncio
async def test_notices_and_withheld_ops_are_shown(hive: OpenHive):
    """What a node wants people to know is an event, and so is an op it withheld."""
    alpha = await hive.reporting()
    notice = Notice(id=uid(40), level="error", code="disk_full", message="No room", hint="Free it")
    await alpha.tells(
        reported.op(OpKind.NOTICE, notice),
        reported.op(OpKind.WITHHELD, Withheld(reason="refused", kind="attempt"), entity_id=uid(10)),
    )
    rows = await hive.rows("SELECT kind, level, to_state, why, details FROM event ORDER BY no")
    assert tuple(rows[-2])[:4] == ("notice", "error", "disk_full", "No room")
    assert json.loads(rows[-2]["details"]) == {"hint": "Free it"}
    assert tuple(rows[-1])[:4] == ("op_withheld", "error", None, "refused")


@pytest.mark.asyncio
async def test_an_operation_a_node_carried_out_settles_the_hives_record(hive: OpenHive):
    """Where no answer came in time, the node's own record says what became of it."""
    alpha = await hive.reporting()
    await hive.write(_record_unknown, "key-1", NODE)
    await hive.write(_record_unknown, "key-2", OTHER)
    await alpha.tells(
        reported.operation("key-1", status="done", head_after="abc", ended_at_ms=NOW_MS),
        reported.operation("key-2", status="done"),
        reported.operation("key-3", status="failed", error_code="git_failed"),
    )
    rows = {row["key"]: row for row in await hive.rows("SELECT * FROM operation")}
    assert (rows["key-1"]["status"], rows["key-1"]["head_after"]) == ("done", "abc")
    # Why it was unknown is no answer to what became of it.
    assert rows["key-1"]["error"] is None
    # Another node's operation is not this one's to settle.
    assert (rows["key-2"]["status"], rows["key-2"]["error"]) == ("unknown", "{}")
    assert (await hive.happened())[-1] == "operation_failed"


async def _record_unknown(tx, key, node_id):
    await tx.execute(
        "INSERT INTO operation (key, body_hash, operation, node_id, actor, status, error,"
        " sent_at_ms) VALUES (:key, '', 'stop', :node_id, 'ann', 'unknown', '{}', 1)",
        {"key": key, "node_id": node_id},
    )


@pytest.mark.asyncio
async def test_a_log_sent_under_a_stolen_id_is_dropped_for_its_owner(hive: OpenHive):
    """Chunks another node sent under the id make way once the execution's owner is known."""
    alpha = await hive.reporting()
    beta = await hive.reporting(OTHER)
    assert await beta.sends(reported.chunk(1)) == ["stored"]
    await alpha.tells(reported.attempt(), reported.execution())
    assert await alpha.sends(reported.chunk(1)) == ["stored"]
    assert await beta.sends(reported.chunk(2)) == ["foreign"]
    [row] = await hive.rows("SELECT node_id FROM log")
    assert row["node_id"] == NODE


@pytest.mark.asyncio
async def test_what_was_unknown_is_applied_after_an_upgrade(hive: OpenHive):
    """Ops kept because their kind was unknown are applied once it is known, in their order."""
    alpha = await hive.reporting()
    await alpha.tells(
        Op("sparkle", uid(10), NOW_MS, reported.attempt(branch="old").body),
        Op("sparkle", uid(10), NOW_MS, reported.attempt(branch="new").body),
        Op("glitter", uid(11), NOW_MS, b"\x80"),
    )
    await hive.write(_rename_kind)
    assert await hive.store.apply_unknown() == 2
    assert (await hive.row("attempt", uid(10)))["branch"] == "new"
    assert len(await hive.rows("SELECT * FROM unknown_op")) == 1


async def _rename_kind(tx):
    await tx.execute("UPDATE unknown_op SET kind = 'attempt' WHERE kind = 'sparkle'")


@pytest.mark.asyncio
async def test_changes_name_what_viewers_follow(hive: OpenHive):
    """Each commit publishes one numbered change for each thing, under the topics it belongs to."""
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1))
    await hive.heard()
    await alpha.tells(reported.attempt(branch="a"), reported.attempt(branch="b"))
    [project] = await hive.rows("SELECT id FROM project")
    heard = await hive.heard()
    attempt = [change for change in heard if change.kind == "attempt.changed"]
    assert len(attempt) == 1
    assert set(attempt[0].topics) == {
        f"attempt:{uid(10)}",
        f"project:{project['id']}",
        f"node:{NODE}",
        f"task:{uid(5)}",
    }
    numbers = [change.change_no for change in heard]
    assert numbers == sorted(set(numbers))
    await alpha.tells(reported.node_state())
    assert "nodes" in (await hive.heard())[-1].topics


@pytest.mark.asyncio
async def test_a_refused_frame_leaves_no_trace_but_the_audit(hive: OpenHive):
    """A frame with a foreign op changes nothing, publishes nothing, and is written down."""
    alpha = await hive.reporting()
    beta = await hive.reporting(OTHER)
    await alpha.tells(reported.checkout(1), reported.attempt())
    await hive.heard()
    before = await hive.happened()
    with pytest.raises(RemoteProtocolError):
        await beta.tells(reported.checkout(3), reported.attempt())
    assert await hive.heard() == []
    assert await hive.happened() == [*before, "refused"]


@pytest.mark.asyncio
async def test_a_poisonous_op_is_kept_with_its_reason(hive: OpenHive):
    """What cannot be applied is kept whole with why, and shown as an event; once only."""
    alpha = await hive.reporting()
    poison = Op(OpKind.ATTEMPT, uid(10), NOW_MS, msgspec.msgpack.encode({"id": uid(10)}))
    await alpha.tells(poison)
    [dead] = await hive.rows("SELECT * FROM dead_op")
    assert bytes(dead["body"]) == poison.body
    assert "does not decode" in dead["reason"]
    assert (await hive.happened())[-1] == "op_kept_aside"
    await alpha.snapshot(poison)
    assert len(await hive.rows("SELECT * FROM dead_op")) == 1


@pytest.mark.asyncio
async def test_the_lock_of_a_link_is_checked_in_the_very_transaction(hive: OpenHive):
    """A unit under an older link number raises before it writes anything."""
    await hive.reporting()

    async def unit(tx):
        await link_checks.check_link(tx, NODE, 99)

    with pytest.raises(RemoteProtocolError) as caught:
        await hive.write(unit)
    assert caught.value.code is ErrorCode.SUPERSEDED


@pytest.mark.asyncio
async def test_a_whole_state_counts_at_its_own_position(hive: OpenHive):
    """A record at the very position of the row says the same, so it may be written again."""
    told = Source(node_id=NODE, epoch=1, rank=1, seq=5)
    named = Source(node_id=NODE, epoch=1, rank=1, seq=5, whole_state=True)
    assert not told.is_newer(1, 5)
    assert named.is_newer(1, 5)
    assert told.is_newer(1, 4)
    assert not named.is_newer(2, 1)
    assert await hive.read(sync.lacking, NODE, 10) == []
