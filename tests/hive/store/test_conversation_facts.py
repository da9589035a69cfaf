"""What nodes report of conversations becomes rows, each at its place, and of its node alone."""

import random

import pytest

from hive.projections import Source
from hive.store import facts, requests, sessions
from hive.store.backend import IngestPolicy
from hive.store.linking import LinkContext
from protocol.conversation import SessionStatus
from protocol.errors import ErrorCode, RemoteProtocolError
from protocol.messages import Snapshot
from protocol.ops import Op
from tests.hive import reported
from tests.hive.reported import NODE, OTHER, uid
from tests.hive.store.open_hive import OpenHive, Reporting

LIVE = "SELECT id, message_seq, content FROM message WHERE forgotten_at_ms IS NULL ORDER BY 2"


async def talking(hive: OpenHive) -> Reporting:
    """A node with an attempt whose session has begun."""
    node = await hive.reporting()
    await node.tells(reported.checkout(1), reported.attempt(), reported.session())
    return node


async def live(hive: OpenHive) -> list[tuple[int, str]]:
    """Place and content of the live messages."""
    return [(row["message_seq"], row["content"]) for row in await hive.rows(LIVE)]


@pytest.mark.asyncio
async def test_a_conversation_is_told_as_it_goes(hive: OpenHive):
    """Session, turn and messages have rows; viewers of session, attempt and project are told."""
    node = await talking(hive)
    await hive.heard()
    await node.tells(reported.turn(), reported.message(1), reported.message(2))
    await node.tells(reported.message(2, content="said better"))
    assert await live(hive) == [(1, "said 1"), (2, "said better")]
    assert (await hive.row("turn", uid(40)))["prompt"] == "Mend the door"
    heard = await hive.heard()
    assert [change.kind for change in heard] == [
        "session.changed",
        "message.new",
        "message.new",
        "message.changed",
    ]
    [project] = await hive.rows("SELECT id FROM project")
    wanted = {f"session:{uid(30)}", f"attempt:{uid(10)}", f"project:{project['id']}"}
    for change in heard:
        assert wanted <= set(change.topics), change


@pytest.mark.asyncio
async def test_the_begin_and_the_end_of_a_session_are_events(hive: OpenHive):
    """Viewers and the activity feed learn that a session began, ended and was resumed."""
    node = await talking(hive)
    await node.tells(reported.session(status=SessionStatus.CLOSED))
    await node.tells(reported.session(status=SessionStatus.OPEN))
    happened = [kind for kind in await hive.happened() if kind.startswith("session")]
    assert happened == ["session_created", "session_closed", "session_resumed"]
    told = [change.kind for change in await hive.heard() if "session" in change.kind]
    assert told == ["session.created", "session.stopped", "session.changed"]


@pytest.mark.asyncio
async def test_the_newest_position_wins(hive: OpenHive):
    """A snapshot's older word of a message changes nothing; the same position says the same."""
    node = await talking(hive)
    await node.tells(reported.message(1), reported.message(1, content="newer"))
    old = reported.record(reported.message(1, content="older"), epoch=1, seq=2)
    await hive.store.commit_records(node.node_id, node.link_no, "r", [old])
    assert await live(hive) == [(1, "newer")]


@pytest.mark.asyncio
async def test_a_place_is_held_by_one_message(hive: OpenHive):
    """A node whose disk was restored numbers on from there: the newer message has the place."""
    node = await talking(hive)
    await node.tells(reported.message(1), reported.message(2))
    await node.tells(reported.message(2, 2002, content="after the restore"))
    assert await live(hive) == [(1, "said 1"), (2, "after the restore")]
    assert (await hive.row("message", uid(1002)))["forgotten_at_ms"] is not None
    late = reported.record(reported.message(1, 2001, content="late"), epoch=1, seq=1)
    await hive.store.commit_records(node.node_id, node.link_no, "r", [late])
    assert (await live(hive))[0] == (1, "said 1")
    assert (await hive.row("message", uid(2001)))["forgotten_at_ms"] is not None
    assert await hive.rows("SELECT * FROM dead_op") == []


@pytest.mark.asyncio
async def test_what_a_snapshot_does_not_name_is_forgotten(hive: OpenHive):
    """Messages and sessions that their node no longer knows are shown as forgotten."""
    node = await talking(hive)
    await node.tells(reported.turn(), reported.message(1), reported.message(2))
    await node.tells(reported.session())
    await node.snapshot(
        reported.checkout(1), reported.attempt(), reported.session(), reported.message(1)
    )
    assert await live(hive) == [(1, "said 1")]
    assert (await hive.row("turn", uid(40)))["forgotten_at_ms"] is not None
    assert (await hive.row("session", uid(30)))["forgotten_at_ms"] is None


class Told:
    """A node's side of a conversation: what is said at each place, and its past to go back to."""

    def __init__(self, hive: OpenHive, chance: random.Random) -> None:
        self.hive, self.random = hive, chance
        self.place = 0
        self.epoch = 0
        #: Message id -> (its number, place, text), of what the node has on its disk now.
        self.held: dict[str, tuple[int, int, str]] = {}
        self.number = 5000
        self.journal: list[Op] = []
        self.copies: list[tuple[int, dict[str, tuple[int, int, str]]]] = []
        self.old: list[tuple[int, int, Op]] = []
        self.snapshots = 0
        self.link: Reporting

    async def starts(self) -> None:
        """Open a link in an epoch of its own; after a restore what it has is told first, whole."""
        self.epoch += 1
        self.link = await self.hive.reporting(instance=self.epoch, at=self.epoch)
        self.journal = []
        if self.epoch > 1:
            await self._snapshot()
        else:
            await self._tells(reported.checkout(1), reported.attempt(), reported.session())

    async def step(self) -> None:
        """Do one thing a node or a link may do."""
        choice = self.random.random()
        if choice < 0.5 or not self.held:
            self.number += 1
            self.place += 1
            await self._says(self.number, self.place)
        elif choice < 0.65:
            number, place, _ = self.random.choice(list(self.held.values()))
            await self._says(number, place)
        elif choice < 0.75:
            # A frame that was lost on its way back: all of it comes again.
            mark = await self.hive.store.commit_ops(
                NODE, self.link.link_no, self.epoch, 1, self.journal
            )
            assert mark == len(self.journal)
        elif choice < 0.85:
            # A backfill is answered from the disk there is now, late, and with what was before.
            known = [one for one in self.old if one[2].entity_id in self.held]
            epoch, seq, told = self.random.choice(known)
            record = reported.record(told, epoch, seq)
            await self.hive.store.commit_records(NODE, self.link.link_no, "r", [record])
        elif choice < 0.9:
            self.copies.append((self.place, dict(self.held)))
        elif choice < 0.93:
            await self._snapshot()
        elif choice < 0.97 and self.copies:
            self.place, held = self.random.choice(self.copies)
            self.held = dict(held)
            await self.starts()

    async def _says(self, number: int, place: int) -> None:
        told = self._message(number, place, f"said {self.random.random()}")
        await self._tells(told)
        self.old.append((self.epoch, len(self.journal), told))

    def _message(self, number: int, place: int, text: str) -> Op:
        self.held[uid(number)] = (number, place, text)
        return reported.message(place, number, content=text)

    async def _tells(self, *ops: Op) -> None:
        self.journal += ops
        await self.link.tells(*ops)

    async def _snapshot(self) -> None:
        parts = [
            reported.checkout(1),
            reported.attempt(),
            reported.session(),
            *(self._message(*said) for said in list(self.held.values())),
        ]
        self.random.shuffle(parts)
        cut = self.random.randrange(len(parts))
        self.snapshots += 1
        for page, last in ((parts[:cut], False), (parts[cut:], True)):
            records = [reported.record(op) for op in page]
            await self.hive.store.commit_snapshot(
                NODE,
                self.link.link_no,
                Snapshot(
                    snapshot_id=f"s{self.snapshots}",
                    epoch=self.epoch,
                    seq=self.link.seq,
                    records=records,
                    last=last,
                ),
            )


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(30))
async def test_however_it_comes_the_conversation_is_its_nodes(hive: OpenHive, seed: int):
    """Frames twice, old records late, snapshots in parts, a disk put back: each place is right."""
    told = Told(hive, random.Random(seed))
    await told.starts()
    for _ in range(60):
        await told.step()
        held = sorted((place, text) for _, place, text in told.held.values())
        assert await live(hive) == held
    assert await hive.rows("SELECT * FROM dead_op") == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "said",
    [
        reported.session(),
        reported.session(31),
        reported.message(1),
        reported.message(2),
        reported.message(3, session_id=uid(31)),
        reported.turn(),
        reported.turn(41),
    ],
    ids=["session", "attempt", "message", "place", "its-attempt", "turn", "its-session"],
)
async def test_what_is_another_nodes_is_refused(hive: OpenHive, said: Op):
    """A node says nothing under another's session, attempt, turn or message."""
    node = await talking(hive)
    await node.tells(reported.message(1), reported.turn())
    rogue = await hive.reporting(OTHER)
    with pytest.raises(RemoteProtocolError) as caught:
        await rogue.tells(said)
    assert caught.value.code is ErrorCode.FORBIDDEN
    assert await live(hive) == [(1, "said 1")]


@pytest.mark.asyncio
async def test_what_was_said_before_its_owner_came_is_dropped(hive: OpenHive):
    """Messages that another node sent under a session's id go when its node tells of it."""
    rogue = await hive.reporting(OTHER)
    await rogue.tells(reported.message(1, 5001, attempt_id=uid(77), content="not mine"))
    node = await talking(hive)
    await node.tells(reported.message(1))
    assert await live(hive) == [(1, "said 1")]
    assert "refused" in await hive.happened()


@pytest.mark.asyncio
async def test_no_report_reads_all_there_is(hive: OpenHive):
    """A session, a turn, a message, a request: each costs the same, whatever was told before."""
    node = await talking(hive)
    for told in (
        reported.session(31),
        reported.turn(41),
        reported.message(1, session_id=uid(31)),
        reported.request(51),
    ):
        context = LinkContext(now_ms=hive.now_ms, policy=IngestPolicy())
        source = Source(node_id=node.node_id, epoch=1, rank=1, seq=99)
        steps = await hive.plans(facts.apply, context, source, told)
        assert not [step for step in steps if step.startswith("SCAN")], told.kind


@pytest.mark.asyncio
async def test_lists_of_sessions_and_requests_are_found_by_indexes(hive: OpenHive):
    """By attempt, task, node or status; and what is silent among the open ones alone."""
    await talking(hive)
    for filters in ({"attempt_id": "a"}, {"task_id": "t"}, {"node_id": "n"}, {"status": "open"}):
        for read in (sessions.list_sessions, requests.list_requests):
            steps = await hive.plans(read, limit=50, **filters)
            assert not [step for step in steps if step.startswith("SCAN")], (read, filters, steps)
    steps = await hive.plans(sessions.close_silent, silent_ms=1, reason="", limit=5, now_ms=1)
    assert steps[0] == "SEARCH session USING INDEX session_by_status (status=?)"


@pytest.mark.asyncio
async def test_a_forgotten_session_is_not_among_the_open_ones(hive: OpenHive):
    """Its node no longer knows it: nobody will ever say in what state it is."""
    node = await talking(hive)
    await node.tells(reported.session(31, status=SessionStatus.OPEN))
    await node.tells(reported.session(32, status=SessionStatus.CLOSED))
    await node.tells(reported.session(33, status=SessionStatus.OPEN))
    await node.snapshot(reported.session(33, status=SessionStatus.OPEN))

    async def listed(status: str) -> set[str]:
        found = await hive.read(sessions.list_sessions, limit=50, status=status)
        return {one.id for one in found}

    assert await listed("open") == {uid(33)}
    assert await listed("closed") == {uid(32)}
    assert await listed("idle") == set()
