"""Backfill: what is asked for, when, and that it is asked for once."""

import asyncio
from collections.abc import Callable
from typing import Self

import msgspec
import pytest

from hive.backfill import Backfill, needs_for
from hive.store.backend import Lacking, LogLack
from protocol import limits
from protocol.messages import Need


def lack(number: int, *, logs: int = 1) -> Lacking:
    """An attempt of which one execution and some logs are not here."""
    return Lacking(
        attempt_id=f"a{number}",
        executions=[f"e{number}"],
        logs=[
            LogLack(execution_id=f"l{number}.{log}", from_chunk=3, after=20) for log in range(logs)
        ],
    )


class Store:
    """The part of the store that backfill asks: needs are kept until they are answered."""

    def __init__(self) -> None:
        self.lacks: list[Lacking] = []
        self.open: list[Need] = []
        #: Whether what is lacking is wanted by the policy of its project too.
        self.by_policy = True

    async def store_need(self, node_id: str, need: Need) -> Need | None:
        for known in self.open:
            if known.kind == need.kind and set(need.ids) <= set(known.ids):
                return known
        self.open.append(need)
        return need

    async def open_needs(self, node_id: str) -> list[Need]:
        return list(self.open)

    async def lacking(self, node_id: str, limit: int) -> list[Lacking]:
        return self.lacks[:limit] if self.by_policy else []


class Links:
    """Connected nodes that take needs."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.up = {"n"}
        self.asked: list[Need] = []

    def is_online(self, node_id: str) -> bool:
        return node_id in self.up

    def online(self) -> set[str]:
        return set(self.up)

    async def ask(self, node_id: str, need: Need) -> bool:
        assert need in self.store.open, "a need is stored before it is sent"
        if node_id in self.up:
            self.asked.append(need)
        return node_id in self.up


class World:
    """Backfill with a store and links of its own, running."""

    def __init__(self, sweep_interval_s: float = 60.0) -> None:
        self.store = Store()
        self.links = Links(self.store)
        self.backfill = Backfill(
            self.store, self.links, self.lack_of, sweep_interval_s=sweep_interval_s
        )

    async def lack_of(self, attempt_id: str):
        for found in self.store.lacks:
            if found.attempt_id == attempt_id:
                return "n", found
        return None

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.backfill.run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def settled(self) -> None:
        await asyncio.sleep(0.02)
        # A machine that stood still meanwhile gives the tasks their turns only now.
        for _ in range(50):
            await asyncio.sleep(0)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something, and then whether more comes of it."""
        async with asyncio.timeout(30):
            while not holds():
                await asyncio.sleep(0.001)
        await self.settled()


def test_needs_are_paged_and_say_from_where():
    """State comes first, a need names a bounded number of ids, and each log its own cursor."""
    needs = list(needs_for([lack(number) for number in range(limits.NEED_IDS_MAX + 1)]))
    assert [(need.kind, len(need.ids)) for need in needs] == [
        ("executions", limits.NEED_IDS_MAX),
        ("executions", 1),
        ("logs", limits.NEED_IDS_MAX),
        ("logs", 1),
    ]
    assert needs[0].ids[0] == "a0"
    assert needs[2].from_chunk[0] == 3
    assert needs[2].after[0] == 20
    assert len({need.request_id for need in needs}) == 4


@pytest.mark.asyncio
async def test_a_reconnect_asks_again_and_for_the_rest():
    """What was asked and not answered is asked again; then what else is lacking, once."""
    async with World() as world:
        waiting = Need(request_id="r", kind="logs", ids=["l9.0"])
        world.store.open.append(waiting)
        world.store.lacks = [lack(1)]
        world.backfill.reconnected("n")
        await world.settled()
        assert world.links.asked[0] == waiting
        assert sorted(need.kind for need in world.links.asked[1:]) == ["executions", "logs"]


@pytest.mark.asyncio
async def test_no_node_is_asked_for_more_than_it_takes():
    """However much is opened at once: the rest stays stored, and is asked for as room comes."""
    most = limits.NEEDS_OPEN_MAX
    async with World() as world:
        for number in range(most + 20):
            world.backfill.missed_messages("n", f"s{number}")
        await world.until(lambda: len(world.store.open) == most + 20)
        assert len(world.links.asked) == most
        for _ in range(2):
            # The link is lost: a new one has no needs under way, and takes as many.
            world.backfill.reconnected("n")
            wanted = len(world.links.asked) + most
            await world.until(lambda wanted=wanted: len(world.links.asked) >= wanted)
            assert len(world.links.asked) == wanted
        waiting = [need for need in world.store.open if need not in world.links.asked]
        assert len(waiting) == 20
        for need in list(world.store.open):
            if need in world.links.asked:
                world.store.open.remove(need)
            world.backfill.answered("n")
        await world.until(lambda: all(need in world.links.asked for need in waiting))


@pytest.mark.asyncio
async def test_two_viewers_ask_once():
    """However many open a partial attempt, its node is asked once."""
    async with World() as world:
        world.store.lacks = [lack(1)]
        for _ in range(5):
            world.backfill.opened("a1")
            await world.settled()
        assert len(world.links.asked) == 2


@pytest.mark.asyncio
async def test_an_answer_that_changes_nothing_is_not_asked_for_without_end():
    """A node that answers and is lacking all the same is left alone until the next sweep."""
    async with World() as world:
        world.store.lacks = [lack(1)]
        world.backfill.reconnected("n")
        await world.settled()
        for _ in range(5):
            world.store.open.clear()
            world.backfill.answered("n")
            await world.settled()
        assert len(world.links.asked) == 2


@pytest.mark.asyncio
async def test_an_answer_that_was_cut_short_is_followed_by_the_next():
    """A log larger than one need asks for comes whole, though only a person wanted it."""
    async with World() as world:
        world.store.by_policy = False
        world.store.lacks = [lack(1)]
        world.backfill.opened("a1")
        await world.settled()
        for _ in range(3):
            world.store.open.clear()
            asked = len(world.links.asked)
            (entry,) = world.store.lacks[0].logs
            further = msgspec.structs.replace(entry, from_chunk=entry.from_chunk + 5)
            world.store.lacks = [Lacking(attempt_id="a1", executions=[], logs=[further])]
            world.backfill.answered("n", ["a1"])
            async with asyncio.timeout(30):
                while len(world.links.asked) == asked:
                    await world.settled()
        assert world.links.asked[-1].from_chunk == [18]


@pytest.mark.asyncio
async def test_a_person_may_ask_again():
    """`hive backfill` asks each time, where nothing is under way."""
    async with World() as world:
        world.store.lacks = [lack(1)]
        assert await world.backfill.fetch("a1")
        world.store.open.clear()
        assert await world.backfill.fetch("a1")
        assert len(world.links.asked) == 4
        assert not await world.backfill.fetch("other")


@pytest.mark.asyncio
async def test_a_node_that_is_away_is_asked_when_it_is_back():
    """The need is stored all the same, and goes out with the next link."""
    async with World() as world:
        world.store.lacks = [lack(1)]
        world.links.up.clear()
        world.backfill.opened("a1")
        await world.settled()
        assert world.links.asked == []
        assert len(world.store.open) == 2
        world.links.up.add("n")
        world.backfill.reconnected("n")
        await world.settled()
        assert len(world.links.asked) == 2


@pytest.mark.asyncio
async def test_once_a_node_has_told_all_it_is_asked_for_what_is_not_coming():
    """Its own word made attempts known; logs it still sends by itself are not asked for."""
    async with World() as world:
        world.store.lacks = [lack(1, logs=2)]
        world.backfill.caught_up("n", ["l1.0"])
        await asyncio.sleep(0.05)
        assert [need.ids for need in world.links.asked] == [["a1"], ["l1.1"]]
        world.backfill.reconnected("n")
        await asyncio.sleep(0.05)
        assert any("l1.0" in need.ids for need in world.links.asked)


@pytest.mark.asyncio
async def test_the_sweep_finds_what_nobody_asked_for():
    """Partial attempts of connected nodes are found by the slow sweep."""
    async with World(sweep_interval_s=0.01) as world:
        world.store.lacks = [lack(1)]
        await asyncio.sleep(0.1)
        assert len(world.links.asked) == 2


@pytest.mark.asyncio
async def test_messages_that_are_missed_are_asked_for_once():
    """Two who look at the same hole have the session asked for once, of its node."""
    async with World() as world:
        world.backfill.missed_messages("n", "s1")
        world.backfill.missed_messages("n", "s1")
        world.backfill.missed_messages("n", "s2")
        async with asyncio.timeout(30):
            while len(world.links.asked) < 2:
                await world.settled()
        world.backfill.missed_messages("n", "s1")
        await world.settled()
        assert sorted(need.ids[0] for need in world.links.asked) == ["s1", "s2"]
        assert {need.kind for need in world.links.asked} == {"messages"}
