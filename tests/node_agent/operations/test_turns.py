"""`follow_up`, `interrupt` and the queue as operations: what reaches the runner, and what not."""

from typing import Any

import msgspec
import pytest

from node_agent.attempt_runner import StartKey
from node_agent.operations.turns import TurnOperations, TurnReading
from node_agent.store import parked_turns, sessions, turns
from node_agent.turn_steps import Wanted, done_record, take_follow_up
from protocol.conversation import Session
from protocol.errors import ErrorCode, OperationError
from protocol.turn_requests import (
    DropTurnsRequest,
    FollowUpRequest,
    GoOnRequest,
    InterruptRequest,
    SetTurnsRequest,
    Turn,
    TurnEdit,
    TurnsReply,
    TurnStatus,
)
from tests.node_agent.operations.conftest import StoredNode
from tests.node_agent.operations.test_attempts import RecordingRunner


def operations_of(stored: StoredNode, runner: RecordingRunner) -> TurnOperations:
    """The operations of this node."""
    return TurnOperations(stored.stores.database, stored.worktrees_dir, runner)


async def queue(stored: StoredNode, *names: str) -> None:
    """Put turns of these ids into the attempt's queue."""
    for name in names:
        turn = Turn(id=name, attempt_id=stored.attempt.id, status=TurnStatus.QUEUED, command="true")
        await stored.stores.database.write(turns.add, turn, turns.Shown())


@pytest.mark.asyncio
async def test_a_follow_up_carries_its_key(stored: StoredNode) -> None:
    """The runner gets what was asked, the key, the body's hash and who asked."""
    runner = RecordingRunner(stored.attempt)
    request = FollowUpRequest(prompt="go on")
    asking = stored.asking("follow_up", request, key="k", actor="ada")
    await operations_of(stored, runner).follow_up(asking)
    key = StartKey("k", asking.body_hash, "ada")
    assert runner.asked == [("follow_up", stored.attempt.id, None, "go on", key)]
    asking = stored.asking("interrupt", InterruptRequest(turn="t"), key="k2", actor="ada")
    await operations_of(stored, runner).interrupt(asking)
    key = StartKey("k2", asking.body_hash, "ada")
    assert runner.asked[1:] == [("interrupt", stored.attempt.id, "t", key)]
    asking = stored.asking("go_on", GoOnRequest(turn="t"), key="k3", actor="ada")
    await operations_of(stored, runner).go_on(asking)
    key = StartKey("k3", asking.body_hash, "ada")
    assert runner.asked[2:] == [("go_on", stored.attempt.id, "t", key)]


@pytest.mark.parametrize(
    ("request_", "more", "code"),
    [
        (FollowUpRequest(), {}, ErrorCode.INVALID),
        (FollowUpRequest(prompt="p", images=["i"]), {}, ErrorCode.NOT_AVAILABLE),
        (FollowUpRequest(prompt="p", from_turn=1), {}, ErrorCode.NOT_AVAILABLE),
        (FollowUpRequest(prompt="p", session="s"), {}, ErrorCode.NOT_AVAILABLE),
        (FollowUpRequest(prompt="p"), {"attempt_id": "none"}, ErrorCode.NOT_FOUND),
        (FollowUpRequest(prompt="p"), {"project_id": "p2"}, ErrorCode.NOT_FOUND),
        (FollowUpRequest(prompt="p"), {"expected_head": "0" * 40}, ErrorCode.EXPECTED_HEAD_MOVED),
    ],
)
@pytest.mark.asyncio
async def test_what_never_reaches_the_runner(
    stored: StoredNode, request_: FollowUpRequest, more: dict[str, Any], code: ErrorCode
) -> None:
    """What cannot be done is refused before anything is written."""
    stored.sample.git("branch", stored.attempt.branch)
    runner = RecordingRunner(stored.attempt)
    with pytest.raises(OperationError) as caught:
        await operations_of(stored, runner).follow_up(
            stored.asking("follow_up", request_, key="k", **more)
        )
    assert caught.value.code is code
    assert runner.asked == []


@pytest.mark.asyncio
async def test_a_head_that_was_seen(stored: StoredNode) -> None:
    """With the head that is there, the follow-up is taken."""
    stored.sample.git("branch", stored.attempt.branch)
    runner = RecordingRunner(stored.attempt)
    asking = stored.asking(
        "follow_up", FollowUpRequest(prompt="p"), key="k", expected_head=stored.sample.head
    )
    await operations_of(stored, runner).follow_up(asking)
    assert len(runner.asked) == 1


@pytest.mark.asyncio
async def test_the_queue_changes_once_for_each_key(stored: StoredNode) -> None:
    """Order and edits are answered again under their key, whatever the queue is by then."""
    await queue(stored, "turn-one", "turn-two", "turn-three")
    operations = operations_of(stored, RecordingRunner(stored.attempt))
    items = [TurnEdit(id="turn-two"), TurnEdit(id="turn-three"), TurnEdit(id="turn-one")]
    asking = stored.asking("set_turns", SetTurnsRequest(items=items), key="k1")
    ordered = await operations.set_turns(asking)
    assert [turn.id for turn in ordered.items] == ["turn-two", "turn-three", "turn-one"]
    dropping = stored.asking("drop_turns", DropTurnsRequest(turn="turn-three"), key="k2")
    left = await operations.drop_turns(dropping)
    assert [turn.id for turn in left.items] == ["turn-two", "turn-one"]
    assert await operations.set_turns(asking) == ordered
    assert await operations.drop_turns(dropping) == left
    listed = await TurnReading(stored.stores.database).turns(stored.asking("turns"))
    assert listed == left
    every = stored.asking("drop_turns", DropTurnsRequest(all=True), key="k3")
    assert (await operations.drop_turns(every)).items == []
    known = await stored.stores.ledger.find("k3")
    assert known is not None
    assert (known.record.operation, known.record.status) == ("drop_turns", "done")


@pytest.mark.asyncio
async def test_what_leaves_the_queue_as_it_is(stored: StoredNode) -> None:
    """A wish that is not clear, or names what is not queued, changes nothing."""
    await queue(stored, "turn-one", "turn-two")
    operations = operations_of(stored, RecordingRunner(stored.attempt))
    for request, code in (
        (DropTurnsRequest(), ErrorCode.INVALID),
        (DropTurnsRequest(turn="turn-one", all=True), ErrorCode.INVALID),
        (DropTurnsRequest(turn="turn-"), ErrorCode.NO_TURN),
        (DropTurnsRequest(turn="turn-four"), ErrorCode.NO_TURN),
    ):
        with pytest.raises(OperationError) as caught:
            await operations.drop_turns(stored.asking("drop_turns", request, key="k"))
        assert caught.value.code is code
    for items, code in (
        ([], ErrorCode.CONFLICT),
        ([TurnEdit(id="turn-one")], ErrorCode.CONFLICT),
        ([TurnEdit(id="turn-one"), TurnEdit(id="turn-one")], ErrorCode.CONFLICT),
        ([TurnEdit(id="turn-one", command="'"), TurnEdit(id="turn-two")], ErrorCode.INVALID),
    ):
        with pytest.raises(OperationError) as caught:
            await operations.set_turns(
                stored.asking("set_turns", SetTurnsRequest(items=items), key="k")
            )
        assert caught.value.code is code
    listed = await TurnReading(stored.stores.database).turns(stored.asking("turns"))
    assert [turn.id for turn in listed.items] == ["turn-one", "turn-two"]


async def talks(stored: StoredNode, *session_ids: str) -> None:
    """Have the attempt be one of an agent that is spoken to, with these sessions, oldest first."""
    await stored.change(executor="acp")
    for number, session_id in enumerate(session_ids, 1):
        session = Session(
            id=session_id, attempt_id=stored.attempt.id, executor="acp", created_at_ms=number
        )
        await stored.stores.database.write(sessions.save, session, number)


@pytest.mark.asyncio
async def test_a_follow_up_is_for_the_session_it_names(stored: StoredNode) -> None:
    """The attempt goes on in its newest session: what is said to another one is refused."""
    await talks(stored, "s1", "s2")
    runner = RecordingRunner(stored.attempt)

    async def says(session: str | None) -> None:
        request = FollowUpRequest(prompt="p", session=session)
        await operations_of(stored, runner).follow_up(stored.asking("follow_up", request, key="k"))

    await says("s2")
    await says(None)
    for session in ("s1", "none"):
        with pytest.raises(OperationError) as caught:
            await says(session)
        assert caught.value.code is ErrorCode.CONFLICT
        assert caught.value.details == {"field": "session", "session_id": "s2"}
    assert len(runner.asked) == 2


@pytest.mark.asyncio
async def test_behind_a_fork_another_session_comes(stored: StoredNode) -> None:
    """Once a turn is queued that forks the session, nothing more is queued for it by its name."""
    await talks(stored, "s1")
    fork = Turn(id="t1", attempt_id=stored.attempt.id, status=TurnStatus.QUEUED, prompt="p")
    await stored.stores.database.write(turns.add, fork, turns.Shown(), forks=True)
    runner = RecordingRunner(stored.attempt)
    request = FollowUpRequest(prompt="p", session="s1")
    with pytest.raises(OperationError) as caught:
        await operations_of(stored, runner).follow_up(stored.asking("follow_up", request, key="k"))
    assert caught.value.code is ErrorCode.CONFLICT
    assert runner.asked == []


@pytest.mark.asyncio
async def test_a_fork_that_is_queued_meanwhile(stored: StoredNode) -> None:
    """What a follow-up's session is, is judged in the commit that takes it."""
    await talks(stored, "s1")
    attempt_id, database = stored.attempt.id, stored.stores.database

    def turn(name: str) -> Turn:
        return Turn(id=name, attempt_id=attempt_id, status=TurnStatus.QUEUED, prompt="p")

    async def takes(name: str, session_id: str | None, *, forks: bool = False) -> None:
        wanted = Wanted(turn(name), turns.Shown(), forks=forks, session_id=session_id)
        record = done_record("follow_up", name, attempt_id, "tester")
        await database.write(take_follow_up, wanted, record, "hash", 2)

    await takes("t1", "s1")
    await takes("t2", "s1", forks=True)
    with pytest.raises(OperationError) as caught:
        await takes("t3", "s1")
    assert caught.value.code is ErrorCode.CONFLICT
    await takes("t1", "s1")
    assert [one.id for one in await database.read(turns.queued, attempt_id)] == ["t1", "t2"]


@pytest.mark.asyncio
async def test_a_fork_that_is_parked_is_the_session_it_made(stored: StoredNode) -> None:
    """Its process has ended for now, and no other session comes behind it."""
    await talks(stored, "s1", "s2")
    attempt_id, database = stored.attempt.id, stored.stores.database
    fork = Turn(id="t1", attempt_id=attempt_id, status=TurnStatus.QUEUED, prompt="p")
    await database.write(turns.add, fork, turns.Shown(), forks=True)
    begun = await database.write(
        turns.begin_next, attempt_id, executions_before=0, head=None, at_ms=1
    )
    assert begun is not None
    await database.write(parked_turns.park, "t1", until_ms=9, continues=True)
    await database.write(parked_turns.release, begun, 1)
    runner = RecordingRunner(stored.attempt)
    request = FollowUpRequest(prompt="p", session="s2")
    await operations_of(stored, runner).follow_up(stored.asking("follow_up", request, key="k"))
    assert len(runner.asked) == 1


@pytest.mark.parametrize(
    ("edit", "code", "field"),
    [
        (TurnEdit(id="t1", prompt=" "), ErrorCode.INVALID, "items"),
        (TurnEdit(id="t1", command="other"), ErrorCode.NOT_AVAILABLE, "command"),
    ],
)
@pytest.mark.asyncio
async def test_a_turn_is_not_edited_into_nothing(
    stored: StoredNode, edit: TurnEdit, code: ErrorCode, field: str
) -> None:
    """What no follow-up of an agent that is spoken to may be, a queued one does not become."""
    await talks(stored, "s1")
    await queue(stored, "t1")
    runner = RecordingRunner(stored.attempt)
    request = SetTurnsRequest(items=[edit])
    with pytest.raises(OperationError) as caught:
        await operations_of(stored, runner).set_turns(stored.asking("set_turns", request, key="k"))
    assert (caught.value.code, caught.value.details["field"]) == (code, field)


@pytest.mark.asyncio
async def test_secrets_in_turns_do_not_leave_the_node(stored: StoredNode) -> None:
    """Who reads, edits or drops the queue is not shown what the agent alone is to be told."""
    database, secret = stored.stores.database, "open-sesame-4711"
    turn = Turn(
        id="turn-one",
        attempt_id=stored.attempt.id,
        status=TurnStatus.QUEUED,
        command=f"knock {secret}",
        prompt=f"Say {secret}.",
    )
    await database.write(turns.add, turn, turns.Shown("Say ***."))

    def secrets() -> list[bytes]:
        return [secret.encode()]

    operations = TurnOperations(
        database, stored.worktrees_dir, RecordingRunner(stored.attempt), secrets
    )
    listed = await TurnReading(database, secrets).turns(stored.asking("turns"))
    assert [(one.command, one.prompt) for one in listed.items] == [("knock ***", "Say ***.")]
    items = [TurnEdit(id="turn-one", prompt=f"Whisper {secret}.")]
    asking = stored.asking("set_turns", SetTurnsRequest(items=items), key="k1")
    for _ in range(2):
        [edited] = (await operations.set_turns(asking)).items
        assert (edited.command, edited.prompt) == ("knock ***", "Whisper ***.")
    [kept] = await database.read(turns.queued, stored.attempt.id)
    assert kept.prompt == f"Whisper {secret}."
    again = await operations.turn_again(msgspec.msgpack.encode(kept))
    assert msgspec.msgpack.decode(again, type=Turn).prompt == "Whisper ***."
    listed = TurnsReply(items=[kept], running=kept)
    shown = msgspec.msgpack.decode(
        await operations.turns_again(msgspec.msgpack.encode(listed)), type=TurnsReply
    )
    assert shown.running is not None
    assert {shown.running.prompt, *(one.prompt for one in shown.items)} == {"Whisper ***."}


@pytest.mark.asyncio
async def test_a_turn_that_goes_on_is_shown_without_secrets(stored: StoredNode) -> None:
    """As each other turn is that is answered with."""

    class Parked(RecordingRunner):
        async def go_on(self, attempt_id: str, request: GoOnRequest, key: StartKey) -> Turn:
            turn = await super().go_on(attempt_id, request, key)
            return msgspec.structs.replace(turn, prompt="Say open-sesame-4711.")

    operations = TurnOperations(
        stored.stores.database,
        stored.worktrees_dir,
        Parked(stored.attempt),
        lambda: [b"open-sesame-4711"],
    )
    turn = await operations.go_on(stored.asking("go_on", GoOnRequest(), key="k"))
    assert turn.prompt == "Say ***."
