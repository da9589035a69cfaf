"""What facts mean: folding, what a task becomes, what is lacking, which project it is."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive import projections
from hive.conversation_folds import PLACE_MAX
from hive.projections import (
    Dead,
    Fact,
    KnownProject,
    LogHeld,
    ProjectChoice,
    UnknownKind,
    choose_project,
    fold,
    sync_state,
    task_after,
    task_wanted,
)
from protocol.ops import OpKind
from protocol.states import (
    TASK_TRANSITIONS,
    AttemptOutcome,
    AttemptPhase,
    SyncPolicy,
    SyncState,
    TaskStatus,
    may_follow,
)
from tests.hive import reported
from tests.hive.reported import uid


def test_every_kind_is_folded():
    """There is a fold for each kind of op."""
    assert set(projections._FOLDS) == set(OpKind)


@pytest.mark.parametrize(
    "told",
    [
        reported.node_state(),
        reported.checkout(),
        reported.local_task(),
        reported.attempt(),
        reported.execution(),
        reported.log_end(),
        reported.operation(),
        reported.session(),
        reported.turn(),
        reported.message(),
        reported.request(),
    ],
    ids=lambda op: op.kind,
)
def test_a_fact_keeps_every_word(told):
    """Whatever an op says of itself has a column."""
    fact = fold(told.kind, told.entity_id, told.body)
    assert isinstance(fact, Fact)
    spoken = {name for name in fact.body.__struct_fields__ if name not in {"id", "labels"}}
    if told.kind == OpKind.ATTEMPT:
        # These are found by rows, or stand in the task.
        spoken -= {"task_description", "project_identity", "project_name", "project_id"}
    if told.kind == OpKind.LOG_END:
        spoken = {f"end_{name}" for name in spoken - {"execution_id"}}
    # These words mean a position in the row of every fact, and nothing, in SQL.
    own = {"seq": "message_seq", "no": "turn_no"}
    assert set(fact.values) == {own.get(name, name) for name in spoken}


@given(st.sampled_from([*OpKind, "sparkle"]), st.text(max_size=40), st.binary(max_size=200))
def test_no_body_raises(kind: str, entity_id: str, body: bytes):
    """Whatever bytes come, the outcome is a fact, unknown or dead."""
    assert isinstance(fold(kind, entity_id, body), Fact | UnknownKind | Dead)


@pytest.mark.parametrize(
    "told",
    [
        reported.message(0),
        reported.message(-1, 77),
        reported.message(PLACE_MAX + 1),
        reported.message(2**63, 77),
        reported.request(form={"type": "object", "default": b"bytes"}),
        reported.request(form={"default": dt.datetime.now(dt.UTC)}),
        reported.request(form={"default": {b"bytes": 1}}),
    ],
    ids=["0", "-1", "beyond", "huge", "bytes", "time", "key"],
)
def test_what_no_row_can_hold_is_dead(told):
    """A body that decodes may still say what makes no sense: it is kept aside, and no link ends."""
    assert isinstance(fold(told.kind, told.entity_id, told.body), Dead)


def test_a_count_of_messages_is_one_that_viewers_can_reckon_with():
    """A node that counts astray has no viewer go through numbers without end."""
    for count, kept in ((-1, 0), (7, 7), (2**63, PLACE_MAX)):
        told = reported.session(message_count=count)
        fact = fold(told.kind, told.entity_id, told.body)
        assert isinstance(fact, Fact)
        assert fact.values["message_count"] == kept


def test_deep_nesting_is_dead():
    """A body that would exhaust the stack is dead, not fatal."""
    assert isinstance(fold(OpKind.ATTEMPT, "x", b"\x91" * 60_000), Dead | UnknownKind)


@given(st.sampled_from(TaskStatus), st.sampled_from(AttemptPhase), st.sampled_from(AttemptOutcome))
def test_a_task_moves_by_named_steps_only(
    present: TaskStatus, phase: AttemptPhase, outcome: AttemptOutcome
):
    """From any status, what an attempt wants is reached by steps of the table, or not at all."""
    ended = outcome if phase is AttemptPhase.ENDED else None
    wanted = task_wanted(phase, ended, review="on")
    assert wanted is not None
    status = task_after(present, wanted)
    assert status in {present, wanted}
    # Every status leads to progress, so an attempt's word is never lost for want of a step.
    assert status is wanted
    if not may_follow(TASK_TRANSITIONS, present, wanted):
        assert may_follow(TASK_TRANSITIONS, TaskStatus.IN_PROGRESS, wanted)


def test_an_attempt_that_ended_nowhere_moves_nothing():
    """An ended attempt without an outcome says nothing about its task."""
    assert task_wanted(AttemptPhase.ENDED, None, review="on") is None


def test_review_off_ends_in_done():
    """Only success skips the review; a warning does not."""
    ended = AttemptPhase.ENDED
    assert task_wanted(ended, AttemptOutcome.SUCCEEDED, review="off") is TaskStatus.DONE
    warned = task_wanted(ended, AttemptOutcome.SUCCEEDED_WITH_WARNING, review="off")
    assert warned is TaskStatus.IN_REVIEW


@pytest.mark.parametrize(
    ("policy", "held", "lacks"),
    [
        (SyncPolicy.FULL, LogHeld(1, None, gone=False), False),
        (SyncPolicy.FULL, LogHeld(3, 3, gone=False), True),
        (SyncPolicy.FULL, LogHeld(4, 3, gone=False), False),
        (SyncPolicy.FULL, LogHeld(1, 0, gone=False), False),
        (SyncPolicy.FULL, LogHeld(1, 3, gone=True), False),
        (SyncPolicy.LAZY, LogHeld(9, None, gone=False), True),
        (SyncPolicy.LAZY, LogHeld(4, 3, gone=False), False),
        (SyncPolicy.METADATA, LogHeld(1, 3, gone=False), False),
    ],
)
def test_what_lacks_depends_on_the_policy(policy: SyncPolicy, held: LogHeld, lacks: bool):
    """Each policy wants its own part of a log."""
    assert projections.lacks_log(policy, held) is lacks


def test_sync_states():
    """Unknown executions are partial unless gone; what is asked for is backfilling."""
    full = SyncPolicy.FULL
    assert sync_state(full, ["a"], {}, gone=(), asked=False) is SyncState.PARTIAL
    assert sync_state(full, ["a"], {}, gone=(), asked=True) is SyncState.BACKFILLING
    assert sync_state(full, ["a"], {}, gone=("a",), asked=True) is SyncState.COMPLETE
    assert sync_state(full, [], {}, gone=(), asked=True) is SyncState.COMPLETE
    short = {"a": LogHeld(1, 3, gone=False)}
    assert sync_state(full, [], short, gone=(), asked=False) is SyncState.PARTIAL


SHOP = KnownProject("p1", "shop", "x/shop")
BARE = KnownProject("p2", "bare", "")


@pytest.mark.parametrize(
    ("identity", "name", "known", "choice"),
    [
        ("x/shop", "other", [SHOP], ProjectChoice(project_id="p1")),
        ("x/shop", "bare", [BARE, SHOP], ProjectChoice(project_id="p1")),
        ("x/new", "bare", [BARE], ProjectChoice(project_id="p2")),
        ("x/evil", "shop", [SHOP], ProjectChoice(problem="project_mismatch")),
        ("", "shop", [SHOP], ProjectChoice(problem="project_mismatch")),
        ("", "bare", [BARE], ProjectChoice(project_id="p2")),
        ("x/new", "new", [], ProjectChoice(create=True)),
    ],
)
def test_which_project_a_repository_is(identity, name, known, choice):
    """By identity first, then by name where that has no other identity, else a new one."""
    assert choose_project(identity, name, known, may_create=True) == choice
    if choice.create:
        kept_out = choose_project(identity, name, known, may_create=False)
        assert kept_out == ProjectChoice(problem="project_unknown")


def test_a_body_that_names_another_entity_is_dead():
    """An op's entity is what its body says it is."""
    told = reported.attempt(10)
    assert isinstance(fold(told.kind, uid(11), told.body), Dead)
    end = reported.log_end(20)
    assert isinstance(fold(end.kind, uid(21), end.body), Dead)
