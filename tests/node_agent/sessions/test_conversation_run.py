"""Conversations with a real agent process: turns, requests, ends, and what a restart leaves."""

import asyncio
import os
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from node_agent.acp.steps import Steered
from node_agent.attempt_runner import StartKey
from node_agent.executions import RunningExecution, attach
from node_agent.profiles import Profile
from node_agent.sessions import conversation_run
from node_agent.sessions.conversation_steps import UNFIT_TEXT
from node_agent.sessions.shown_text import ShownText
from node_agent.sessions.step_facts import Talk as Talked
from node_agent.sessions.step_facts import apply_facts
from node_agent.sessions.upkeep import SessionUpkeep
from node_agent.stamps import now_ms
from node_agent.store import conversations, requests, sessions, transcripts, turns
from node_agent.store.turns import Shown
from protocol.attempt_requests import StartRequest
from protocol.conversation import RequestStatus, SessionStatus
from protocol.entities import Attempt
from protocol.errors import ErrorCode, OperationError
from protocol.log_chunks import STDOUT
from protocol.turn_requests import TurnEdit
from tests.node_agent.sessions.conversing import Talk, command_of
from tests.node_agent.waiting import until
from tests.node_agent.workshop import Workshop, make_repository, open_workshop

HOUR_MS = 3_600_000
AGENT = Path(__file__).resolve().parents[3] / "scripts" / "demonstration" / "agent.py"


@pytest_asyncio.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Talk]:
    """A node with one checkout."""
    async with open_workshop(tmp_path / "data", 11) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        yield Talk(shop, tmp_path)


async def phase_is(shop: Workshop, attempt: Attempt, phase: str) -> None:
    """Wait until an attempt is in this phase."""

    async def there() -> bool:
        return (await shop.attempt(attempt)).phase == phase

    await until(there, f"the attempt is {phase}")


@pytest.mark.asyncio
async def test_a_task_is_done(talk: Talk):
    """The task's text goes in; a file is edited, permission asked and given; the turn ends so."""
    prompt = "write made.txt hello\nask May I?\nsay done"
    attempt = await talk.start(prompt)
    request = await talk.request(attempt)
    await phase_is(talk.shop, attempt, "awaiting_input")
    assert (request.title, [one.id for one in request.options]) == ("May I?", ["yes", "no"])
    assert (await talk.session(attempt)).status is SessionStatus.OPEN
    await talk.answer(request, "yes")
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert (ended.outcome, ended.reason) == ("succeeded", None)
    assert Path(str(ended.worktree), "made.txt").read_text() == "hello\n"
    assert await talk.told(attempt) == [
        ("user", prompt),
        ("tool", "Write made.txt"),
        ("tool", "May I?"),
        ("assistant", "was answered yesdone"),
    ]
    session = await talk.session(attempt)
    assert (session.status, session.turn_count, session.message_count) == ("idle", 1, 4)
    assert (session.agent, session.topic) == ("tiny", "write made.txt hello")
    (turn,) = [turn for turn in await talk.turns() if turn.attempt_id == attempt.id]
    assert (turn.status, turn.stop_reason, turn.no) == ("ended", "end_turn", 1)
    assert turn.session_id == session.id
    (agent,) = await talk.shop.agents(attempt)
    raw = await talk.shop.output(agent, STDOUT)
    assert raw.count(b"session/request_permission") == 1
    assert agent.exit_code == 0


@pytest.mark.asyncio
async def test_the_task_is_the_first_prompt(talk: Talk):
    """Without a prompt the agent is given the task's title and description."""
    attempt = await talk.shop.start(
        command_of(talk.folder),
        executor="acp",
        task_title="say title",
        task_description="say description",
    )
    await talk.shop.runner.wait_ended(attempt.id)
    assert (await talk.told(attempt))[0] == ("user", "say title\n\nsay description")


@pytest.mark.asyncio
async def test_queued_turns_in_one_process(talk: Talk):
    """Follow-ups sent while a turn runs follow it, in order, without another process."""
    attempt = await talk.start("note first\nuntil gate")
    await talk.noted("first")
    for word in ("second", "third"):
        turn = await talk.shop.follow_up(attempt, prompt=f"note {word}")
        assert turn.status == "queued"
    (talk.folder / "gate").touch()
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert ended.outcome == "succeeded"
    assert talk.notes == [
        "new",
        "prompt note first",
        "first",
        "prompt note second",
        "second",
        "prompt note third",
        "third",
    ]
    assert len(await talk.shop.agents(attempt)) == 1
    assert [turn.no for turn in await talk.turns()] == [1, 2, 3]


@pytest.mark.asyncio
async def test_what_is_said_behind_a_turn(talk: Talk):
    """It stands before the next turn's prompt, and is not of that turn."""
    attempt = await talk.start("note first\nuntil gate\nlate one more thing")
    await talk.noted("first")
    await talk.shop.follow_up(attempt, prompt="say second")
    (talk.folder / "gate").touch()
    await talk.shop.runner.wait_ended(attempt.id)
    told = await talk.messages(attempt)
    assert [(one.role.value, one.content.strip()) for one in told[1:]] == [
        ("assistant", "one more thing"),
        ("user", "say second"),
        ("assistant", "second"),
    ]
    assert told[1].turn_id != told[2].turn_id == told[3].turn_id


@pytest.mark.asyncio
async def test_a_session_is_taken_up_again(talk: Talk):
    """A follow-up of an ended attempt goes on in the same session, of the agent's too."""
    attempt = await talk.run("say one")
    before = await talk.session(attempt)
    await talk.shop.follow_up(attempt, prompt="say two")
    await talk.shop.runner.wait_ended(attempt.id)
    after = await talk.session(attempt)
    assert (after.id, after.agent_session_id) == (before.id, before.agent_session_id)
    assert [text for _, text in await talk.told(attempt)] == ["say one", "one", "say two", "two"]
    assert talk.notes == ["new", "prompt say one", "resumed", "prompt say two"]


@pytest.mark.asyncio
async def test_an_interrupt(talk: Talk):
    """The agent is told to end its turn, what it asked is withdrawn; what is queued goes on."""
    attempt = await talk.start("ask May I?")
    request = await talk.request(attempt)
    await talk.shop.follow_up(attempt, prompt="say next")
    await talk.shop.interrupt(attempt)
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert ended.outcome == "succeeded"
    settled = await talk.shop.database.read(requests.get, request.id)
    assert (settled.status, settled.answer) == (RequestStatus.CANCELLED, None)
    assert [turn.stop_reason for turn in await talk.turns()] == ["cancelled", "end_turn"]
    assert talk.notes[1:] == [
        "prompt ask May I?",
        "asked May I?",
        "answered cancelled",
        "prompt say next",
    ]
    await talk.shop.follow_up(attempt, prompt="hang")
    await talk.noted("prompt hang")
    await talk.shop.interrupt(attempt)
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert (ended.outcome, ended.reason) == ("failed", "interrupted")


@pytest.mark.asyncio
async def test_a_stop(talk: Talk):
    """A stop ends the turn by the protocol, then the process; queued turns are dropped."""
    attempt = await talk.start("ask May I?")
    request = await talk.request(attempt)
    await talk.shop.follow_up(attempt, prompt="say never")
    await talk.shop.runner.stop(attempt.id)
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert ended.outcome == "stopped"
    settled = await talk.shop.database.read(requests.get, request.id)
    assert settled.status is RequestStatus.CANCELLED
    assert [turn.status for turn in await talk.turns()] == ["ended", "dropped"]
    assert (await talk.session(attempt)).status is SessionStatus.IDLE


@pytest.mark.asyncio
async def test_an_agent_that_crashes(talk: Talk):
    """Its turn has ended with the reason, nothing is invented; the next turn has a new process."""
    attempt = await talk.start("say half\nuntil gate\ncrash")
    await talk.noted("prompt say half")
    await talk.shop.follow_up(attempt, prompt="say whole")
    (talk.folder / "gate").touch()
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert ended.outcome == "succeeded"
    first, second = await talk.turns()
    assert (first.status, first.stop_reason, second.stop_reason) == ("ended", "agent", "end_turn")
    assert talk.notes[-2:] == ["resumed", "prompt say whole"]
    told = await talk.told(attempt)
    assert ("assistant", "half") in told
    crashed = await talk.run("crash")
    why = "the agent's process ended with exit code 3"
    assert (crashed.outcome, crashed.reason) == ("failed", f"agent: {why}")
    assert (await talk.told(crashed))[-1] == ("system", f"The turn ended: agent. {why}")
    assert (await talk.session(crashed)).status is SessionStatus.IDLE
    gone = await talk.shop.run("/no/such/agent", executor="acp", prompt="say x")
    assert gone.outcome == "failed"
    assert "cannot be run" in str(gone.reason)
    silent = await talk.shop.run("true", executor="acp", prompt="say x")
    assert silent.outcome == "failed"
    assert str(silent.reason).startswith("agent")


@pytest.mark.asyncio
async def test_a_usage_limit(talk: Talk):
    """It ends the attempt with its reason; the queue behind it is not run into it."""
    attempt = await talk.start("until gate\nlimit")
    await talk.noted("prompt until gate")
    await talk.shop.follow_up(attempt, prompt="say later")
    (talk.folder / "gate").touch()
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert ended.outcome == "failed"
    assert str(ended.reason).startswith("usage_limit: ")
    limited, dropped = await talk.turns()
    assert (limited.status, limited.stop_reason) == ("ended", "usage_limit")
    assert dropped.status == "dropped"
    assert (await talk.told(attempt))[-1][0] == "system"


@pytest.mark.asyncio
async def test_secrets_do_not_leave(tmp_path: Path):
    """What is hidden in the log is hidden in messages, prompts, requests and what is shown live."""
    live: list[str] = []

    def shown(_session: str, _message: str, _at: int, text: str, _role: str) -> None:
        live.append(text)

    secret = "hunter2-hunter2"
    async with open_workshop(
        tmp_path / "data", 11, secrets=lambda: [secret.encode()], live=shown
    ) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        talk = Talk(shop, tmp_path)
        attempt = await talk.start(f"say it is {secret} yes\nask {secret}?")
        request = await talk.request(attempt)
        assert request.title == "***?"
        await talk.answer(request, "no")
        ended = await shop.runner.wait_ended(attempt.id)
        assert ended.outcome == "succeeded"
        assert ("assistant", "it is *** yes") in await talk.told(attempt)
        (turn,) = await talk.turns()
        assert turn.prompt == "say it is *** yes\nask ***?"
        # The agent itself got what was meant.
        assert f"asked {secret}?" in talk.notes
    assert "it is *** yes" in "".join(live)


@pytest.mark.asyncio
async def test_an_old_session_is_left(tmp_path: Path):
    """After an hour the next turn begins with a new session of the agent's; the history is one."""
    later = [0]
    async with open_workshop(
        tmp_path / "data", 11, clock=lambda: now_ms() + later[0] * HOUR_MS
    ) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        talk = Talk(shop, tmp_path)
        attempt = await talk.start("note one\nuntil gate")
        await talk.noted("one")
        first = await talk.session(attempt)
        await shop.follow_up(attempt, prompt="note two")
        later[0] = 2
        (talk.folder / "gate").touch()
        ended = await shop.runner.wait_ended(attempt.id)
        assert ended.outcome == "succeeded"
        second = await talk.session(attempt)
        assert second.id == first.id
        assert second.agent_session_id != first.agent_session_id
        assert talk.notes == [
            "new",
            "prompt note one",
            "one",
            "new",
            "prompt note two",
            "two",
        ]
        told = await talk.told(attempt)
        assert [role for role, _ in told] == ["user", "system", "user"]
        assert len(await shop.agents(attempt)) == 2


@pytest.mark.asyncio
async def test_a_silent_agent_is_told_of(tmp_path: Path):
    """Once, and it is not stopped; an agent that waits for a person is not silent."""
    async with open_workshop(tmp_path / "data", 11, silence_s=2.0) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        talk = Talk(shop, tmp_path)
        attempt = await talk.start("ask May I?\nuntil gate")

        async def tellings() -> int:
            return [role for role, _ in await talk.told(attempt)].count("system")

        request = await talk.request(attempt)
        # Its process may have taken long to begin.
        before = await tellings()
        await asyncio.sleep(2.5)
        assert await tellings() == before
        await talk.answer(request, "yes")
        await talk.noted("answered yes")

        async def is_told() -> bool:
            return await tellings() > before

        await until(is_told, "the silence is told of")
        told = await tellings()
        await asyncio.sleep(2.5)
        (talk.folder / "gate").touch()
        ended = await shop.runner.wait_ended(attempt.id)
        assert ended.outcome == "succeeded"
        assert await tellings() == told


@pytest.mark.asyncio
@pytest.mark.parametrize("moment", ["turn", "request", "answered"])
async def test_a_restart(tmp_path: Path, moment: str):
    """A turn goes on, an open request stays open, an answer given meanwhile arrives; all once."""
    async with open_workshop(tmp_path / "data", 11) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        talk = Talk(shop, tmp_path)
        attempt = await talk.start("say one\nuntil gate\nask May I?\nsay two")
        await talk.noted("prompt say one")
        if moment != "turn":
            (talk.folder / "gate").touch()
            request = await talk.request(attempt)
    (talk.folder / "gate").touch()
    await talk.noted("asked May I?")
    async with open_workshop(tmp_path / "data", 12) as shop:
        talk = Talk(shop, tmp_path)
        if moment == "answered":
            # As if its node agent had died between the commit of the answer and its passing on.
            await talk.answer(request, "no")
        await shop.recover()
        if moment == "answered":
            await talk.noted("answered no")
        else:
            again = await talk.request(attempt)
            if moment == "request":
                assert again == request
            await talk.answer(again, "no")
        ended = await shop.runner.wait_ended(attempt.id)
        assert ended.outcome == "succeeded"
        assert talk.notes == ["new", "prompt say one", "asked May I?", "answered no"]
        told = await talk.told(attempt)
        assert [role for role, _ in told] == ["user", "assistant", "tool", "assistant"]
        assert told[-1][1] == "was answered notwo"
        assert len(await shop.agents(attempt)) == 1
        assert [turn.stop_reason for turn in await talk.turns()] == ["end_turn"]


@pytest.mark.asyncio
async def test_a_queue_outlives_a_restart(tmp_path: Path):
    """In the order it was put into, as it was edited, without what was dropped: each turn once."""
    async with open_workshop(tmp_path / "data", 11) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        talk = Talk(shop, tmp_path)
        attempt = await talk.start("note first\nuntil gate")
        await talk.noted("first")
        ids = [(await shop.follow_up(attempt, prompt=f"note {word}")).id for word in "abcd"]
        edits = [
            TurnEdit(id=ids[3]),
            TurnEdit(id=ids[1], prompt="note edited"),
            TurnEdit(id=ids[0]),
        ]
        await shop.database.write(turns.drop, attempt.id, "dropped", 1, turn_id=ids[2])
        shown = {ids[1]: Shown("note edited")}
        await shop.database.write(turns.set_queue, attempt.id, edits, shown, 1)
    async with open_workshop(tmp_path / "data", 12) as shop:
        talk = Talk(shop, tmp_path)
        await shop.recover()
        queued = await shop.database.read(turns.queued, attempt.id)
        assert [turn.prompt for turn in queued] == ["note d", "note edited", "note a"]
        (talk.folder / "gate").touch()
        ended = await shop.runner.wait_ended(attempt.id)
        assert ended.outcome == "succeeded"
        assert [one for one in talk.notes if not one.startswith("prompt")] == [
            *("new", "first", "d", "edited", "a")
        ]
        session = await talk.session(attempt)
        listed = await shop.database.read(transcripts.turns_of, session, after=None, limit=10)
        assert [(turn.no, turn.status, turn.prompt.split()[-1]) for turn in listed] == [
            (1, "ended", "gate"),
            (2, "ended", "d"),
            (3, "ended", "edited"),
            (4, "ended", "a"),
            (None, "dropped", "c"),
        ]


@pytest.mark.asyncio
async def test_nobody_knows_how_it_ended(talk: Talk):
    """With its supervisor dead the agent is ended; turn and attempt are over, its request too."""
    attempt = await talk.start("ask May I?")
    request = await talk.request(attempt)
    (agent,) = await talk.shop.agents(attempt)
    status = Path(f"/proc/{agent.process.pid}/status").read_text() if agent.process else ""
    parent = next(line.split()[1] for line in status.splitlines() if line.startswith("PPid"))
    os.kill(int(parent), signal.SIGKILL)
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert ended.outcome == "lost"
    settled = await talk.shop.database.read(requests.get, request.id)
    assert (settled.status, settled.answer) == (RequestStatus.CANCELLED, None)
    (turn,) = await talk.turns()
    assert turn.status == "ended"
    assert (await talk.session(attempt)).status is SessionStatus.IDLE


@pytest.mark.asyncio
async def test_a_fork(talk: Talk):
    """It begins a session of its own from the former one, which stays as it is."""
    journal = talk.folder / "journal"
    words = [sys.executable, AGENT, "--journal", journal, "--sessions", talk.folder / "sessions"]
    command = shlex.join(map(str, words))
    attempt = await talk.shop.start(command, executor="acp", prompt="@say one")
    await talk.shop.runner.wait_ended(attempt.id)
    first = await talk.session(attempt)
    await talk.shop.follow_up(
        attempt, prompt="@recall", from_turn=1, images=["data:image/png;base64,aGk="]
    )
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert ended.outcome == "succeeded"
    second = await talk.session(attempt)
    assert second.forked_from == first.id
    left = await talk.shop.database.read(sessions.get, first.id)
    assert left.status is SessionStatus.IDLE
    assert second.agent_session_id != first.agent_session_id
    role, said = (await talk.told(attempt))[-1]
    assert role == "assistant"
    assert "@say one" in said
    assert "session/fork" in journal.read_text()


@pytest.mark.asyncio
async def test_a_session_at_rest_is_closed(talk: Talk):
    """After half an hour in which nothing happened, not before; a follow-up opens it again."""
    attempt = await talk.run("say one")
    later = [0]
    upkeep = SessionUpkeep(talk.shop.database, lambda: now_ms() + later[0])
    assert await upkeep.round() == 0
    later[0] = HOUR_MS // 2 + 1000
    assert await upkeep.round() == 1
    assert await upkeep.round() == 0
    closed = await talk.session(attempt)
    assert (closed.status, closed.reason) == (SessionStatus.CLOSED, "idle")
    await talk.shop.follow_up(attempt, prompt="ask May I?")
    request = await talk.request(attempt)
    later[0] = 2 * HOUR_MS
    # It waits for a person, for as long as it takes.
    assert await upkeep.round() == 0
    opened = await talk.session(attempt)
    assert (opened.status, opened.closed_at_ms) == (SessionStatus.OPEN, None)
    await talk.answer(request, "yes")
    await talk.shop.runner.wait_ended(attempt.id)
    assert (await talk.session(attempt)).id == closed.id


@pytest.mark.asyncio
async def test_steering(talk: Talk):
    """What is said into a turn that runs is heard in it: a message, and no turn of its own."""
    journal = talk.folder / "journal"
    command = shlex.join(map(str, [sys.executable, AGENT, "--journal", journal]))
    attempt = await talk.shop.start(command, executor="acp", prompt="@say one\n@hear")

    async def said_one() -> bool:
        return journal.exists() and '"prompt"' in journal.read_text()

    await until(said_one, "the turn runs")
    turn = await talk.shop.follow_up(attempt, prompt="mind the gap", steer=True)
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert ended.outcome == "succeeded"
    told = await talk.told(attempt)
    assert ("user", "mind the gap") in told
    assert "I heard: mind the gap" in told[-1][1]
    first, steered = await talk.turns()
    assert (first.stop_reason, steered.id, steered.status) == ("end_turn", turn.id, "dropped")


@pytest.mark.asyncio
async def test_a_turn_for_another_profile(tmp_path: Path):
    """It is never given to the agent of the one before: that ends, and the other's begins."""
    folders = [tmp_path / "left", tmp_path / "right"]
    for folder in folders:
        folder.mkdir()
    profiles = {
        folder.name: Profile(agent="custom", arguments=shlex.split(command_of(folder)))
        for folder in folders
    }
    async with open_workshop(tmp_path / "data", 11, profiles=profiles) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        left, right = (Talk(shop, folder) for folder in folders)
        key = StartKey("k", "h", "tester")
        request = StartRequest(executor="acp", profile="left", prompt="note one\nuntil gate")
        attempt = (await shop.runner.start(request, key)).attempt
        await left.noted("one")
        await shop.follow_up(attempt, prompt="note two", profile="right")
        await shop.follow_up(attempt, prompt="note three")
        (left.folder / "gate").touch()
        ended = await shop.runner.wait_ended(attempt.id)
        assert (ended.outcome, ended.profile) == ("succeeded", "right")
        assert [note for note in left.notes if note in {"two", "three"}] == []
        assert right.notes[-4:] == ["prompt note two", "two", "prompt note three", "three"]
        assert (await right.session(attempt)).profile == "right"
        assert len(await shop.agents(attempt)) == 2


@pytest.mark.asyncio
async def test_a_run_folder_that_is_gone(tmp_path: Path):
    """Its turn is over, nothing of the conversation is left, and no secret of it gets out."""
    live: list[str] = []
    secret = "hunter2-hunter2"
    secrets = {"secrets": lambda: [secret.encode()]}

    def shown(_session: str, _message: str, _at: int, text: str, _role: str) -> None:
        live.append(text)

    async def has_spoken() -> bool:
        return "***" in "".join(live)

    async with open_workshop(tmp_path / "data", 11, live=shown, **secrets) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        talk = Talk(shop, tmp_path)
        attempt = await talk.start(f"say it is {secret} yes\nuntil gate")
        await until(has_spoken, "the agent has spoken")
        (agent,) = await shop.agents(attempt)
    assert agent.process is not None
    os.kill(agent.process.pid, signal.SIGKILL)
    run_folder = shop.context.run_folder(agent.id)

    async def has_ended() -> bool:
        return (run_folder / "exit").exists()

    async def is_gone() -> bool:
        # Its supervisor may be at its own last files.
        shutil.rmtree(run_folder, ignore_errors=True)
        return not run_folder.exists()

    await until(has_ended, "the agent has ended")
    await until(is_gone, "its folder is gone")
    async with open_workshop(tmp_path / "data", 12, **secrets) as shop:
        talk = Talk(shop, tmp_path)
        await shop.recover()
        ended = await shop.runner.wait_ended(attempt.id)
        assert ended.outcome == "lost"
        said = [text for role, text in await talk.told(attempt) if role == "assistant"]
        assert said[0].startswith("it is ***")
        (turn,) = await talk.turns()
        assert (turn.status, turn.stop_reason) == ("ended", "agent")
        assert await shop.database.read(conversations.find, agent.id) is None


STEERED = "mind the gap"


@pytest.mark.asyncio
async def test_what_was_said_into_a_turn_stays_as_it_was_said(tmp_path: Path):
    """Once the agent was told it cannot be edited; taken out of the queue it is a message still."""
    # Whether it was steered the agent never says, and here nobody gives that up.
    async with open_workshop(tmp_path / "data", 11, grace_s=600.0) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        talk = Talk(shop, tmp_path)
        attempt = await talk.start("until gate")
        await talk.noted("prompt until gate")
        session = await talk.session(attempt)
        (agent,) = await talk.shop.agents(attempt)
        told = Talked(attempt.id, session.id, agent.id)
        named = [
            await talk.shop.follow_up(attempt, prompt=text, steer=True)
            for text in (STEERED, "later")
        ]
        database = talk.shop.database
        # The second one comes first in the queue meanwhile: it is the first that was told.
        await database.write(turns.set_steers, named[0].id, "told")
        order = [TurnEdit(id=turn.id) for turn in reversed(named)]
        await database.write(turns.set_queue, attempt.id, order, {}, 5)
        steering = await database.read(turns.steering, attempt.id)
        assert steering is not None
        assert (steering.turn.id, steering.told) == (named[0].id, True)
        edited = [TurnEdit(id=named[0].id, prompt="another"), TurnEdit(id=named[1].id)]
        shown = {named[0].id: Shown("another")}
        with pytest.raises(OperationError) as refused:
            await database.write(turns.set_queue, attempt.id, edited, shown, 6)
        assert refused.value.code is ErrorCode.CONFLICT
        await database.write(turns.drop, attempt.id, "dropped by ada", 7, turn_id=named[0].id)
        await database.write(
            apply_facts,
            told,
            ShownText(),
            [Steered(key=named[0].id, taken=True)],
            open_request=talk.shop.context.open_request,
            head=None,
            at_ms=8,
        )
        assert ("user", STEERED) in await talk.told(attempt)
        await talk.shop.runner.stop(attempt.id, 2.0)
        await talk.shop.runner.wait_ended(attempt.id)


@pytest.mark.asyncio
async def test_a_profile_that_is_gone_after_a_restart(tmp_path: Path):
    """The settings may say what they like by then: what runs goes on to its end."""
    profiles = {"own": Profile(agent="custom", arguments=shlex.split(command_of(tmp_path)))}
    async with open_workshop(tmp_path / "data", 11, profiles=profiles) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        talk = Talk(shop, tmp_path)
        request = StartRequest(executor="acp", profile="own", prompt="note one\nuntil gate")
        attempt = (await shop.runner.start(request, StartKey("k", "h", "tester"))).attempt
        await talk.noted("one")
    async with open_workshop(tmp_path / "data", 12) as shop:
        await shop.recover()
        (tmp_path / "gate").touch()
        ended = await shop.runner.wait_ended(attempt.id)
        assert (ended.outcome, ended.reason) == ("succeeded", None)


@pytest.mark.asyncio
async def test_an_answer_that_does_not_fit(talk: Talk):
    """The agent is told that there is none, and people are told so."""
    attempt = await talk.start("ask May I?")
    await talk.answer(await talk.request(attempt), "perhaps")
    await talk.shop.runner.wait_ended(attempt.id)
    assert talk.notes[-1] == "answered cancelled"
    assert [text for role, text in await talk.told(attempt) if role == "system"] == [
        f"{UNFIT_TEXT} (no such option; there are: yes, no)"
    ]


@pytest.mark.asyncio
async def test_an_agent_that_does_not_listen(talk: Talk, monkeypatch: pytest.MonkeyPatch):
    """It asks without end and reads no answer: it is ended, before the node holds it all."""
    monkeypatch.setattr(conversation_run, "_UNSAID_BYTES_MAX", 1 << 20)
    code = """
import sys, time
for number in range(20_000):
    print('{"jsonrpc":"2.0","id":"%s%d","method":"_more"}' % ("x" * 1000, number))
sys.stdout.flush()
time.sleep(1000)
"""
    command = shlex.join([sys.executable, "-c", code])
    ended = await talk.shop.run(command, executor="acp", prompt="say x")
    assert (ended.outcome, ended.reason) == (
        "failed", "agent: it does not read what it is told"
    )  # fmt: skip


@pytest.mark.asyncio
@pytest.mark.parametrize("wish", ["stop", "interrupt"])
async def test_an_agent_that_never_greets(talk: Talk, wish: str):
    """Its turn was never given to it, and can be ended like any other."""
    code = f"open({str(talk.folder / 'notes')!r}, 'w').write('up'); import time; time.sleep(1000)"
    command = shlex.join([sys.executable, "-c", code])
    attempt = await talk.shop.start(command, executor="acp", prompt="say x")
    await talk.noted("up")
    if wish == "stop":
        await talk.shop.runner.stop(attempt.id)
    else:
        await talk.shop.interrupt(attempt)
    ended = await talk.shop.runner.wait_ended(attempt.id)
    expected = ("stopped", None) if wish == "stop" else ("failed", "interrupted")
    assert (ended.outcome, ended.reason) == expected
    (turn,) = await talk.turns()
    assert turn.status == "ended"
    assert (await talk.session(attempt)).status is SessionStatus.IDLE


#: It closes its input, asks, and goes on for ever, or until there is a file; that ends its turn.
DEAF = """
import json, os, sys, time
def say(**frame):
    print(json.dumps({"jsonrpc": "2.0", **frame}), flush=True)
for line in iter(sys.stdin.readline, ""):
    frame = json.loads(line)
    if frame["method"] == "initialize":
        say(id=frame["id"], result={"protocolVersion": 1})
    elif frame["method"] == "session/new":
        say(id=frame["id"], result={"sessionId": "s"})
    elif frame["method"] == "session/prompt":
        option = {"optionId": "yes", "name": "Yes", "kind": "allow_once"}
        call = {"toolCallId": "c", "title": "May I?"}
        os.close(0)
        say(id=9, method="session/request_permission", params={
            "sessionId": "s", "toolCall": call, "options": [option]})
        while not sys.argv[1:] or not os.path.exists(sys.argv[1]):
            time.sleep(0.1)
            say(method="session/update", params={"sessionId": "s", "update": {}})
        say(id=frame["id"], result={"stopReason": "end_turn"})
        time.sleep(1000)
"""


@pytest.mark.asyncio
async def test_an_agent_that_closes_its_input(talk: Talk):
    """What it asked cannot be answered to it: it is ended, and people are told why."""
    command = shlex.join([sys.executable, "-c", DEAF])
    attempt = await talk.shop.start(command, executor="acp", prompt="go")
    await talk.answer(await talk.request(attempt), "yes")
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert ended.reason == "agent: it closed its input, and can be told nothing"


@pytest.mark.asyncio
async def test_an_agent_that_closes_its_input_and_ends_its_turn(
    talk: Talk, caplog: pytest.LogCaptureFixture
):
    """It is done; nobody is told of a failure while its process comes to its end."""
    gate = talk.folder / "gate"
    command = shlex.join([sys.executable, "-c", DEAF, str(gate)])
    attempt = await talk.shop.start(command, executor="acp", prompt="go")
    await talk.answer(await talk.request(attempt), "yes")
    async with asyncio.timeout(60):
        while "an agent is not told more" not in caplog.text:
            await asyncio.sleep(0.02)
    gate.touch()
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert (ended.outcome, ended.reason) == ("succeeded", None)
    assert "system" not in [role for role, _ in await talk.told(attempt)]


@pytest.mark.asyncio
async def test_an_agent_that_answers_only_what_it_knows(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
):
    """Its session is loaded and its next turn is done; what it told again is not shown again."""
    monkeypatch.setattr(conversation_run, "_SET_UP_S", 0.5)
    attempt = await talk.run("say one", kind="loading")
    await talk.shop.follow_up(attempt, prompt="say two")
    await talk.shop.runner.wait_ended(attempt.id)
    assert "loaded" in talk.notes
    assert await talk.told(attempt) == [
        ("user", "say one"),
        ("assistant", "one"),
        ("user", "say two"),
        ("assistant", "two"),
    ]


@pytest.mark.asyncio
async def test_an_agent_that_was_told_more_than_is_on_record(tmp_path: Path):
    """The store was put back: nothing is said that would arrive in part; its turn is over."""
    async with open_workshop(tmp_path / "data", 11) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        talk = Talk(shop, tmp_path)
        attempt = await talk.start("until gate")
        await talk.noted("prompt until gate")
        (agent,) = await shop.agents(attempt)
    running = await attach(shop.context.run_folder(agent.id))
    assert isinstance(running, RunningExecution)
    # As a later state of the store had it said.
    at = (await running.status())["stdin_bytes"]
    await running.give_stdin(at, b"{}\n")
    await running.close()
    async with open_workshop(tmp_path / "data", 12) as shop:
        await shop.recover()
        ended = await shop.runner.wait_ended(attempt.id)
        assert (ended.outcome, ended.reason) == (
            "failed", "agent: it was told more than this node has on record"
        )  # fmt: skip
