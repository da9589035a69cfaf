"""What connected nodes are told: at once, again when it changes, and not otherwise."""

import asyncio
from typing import Self

import pytest

from hive.node_briefing import NodeBriefing
from hive.store.backend import Change
from protocol import limits
from protocol.codec import encode
from protocol.errors import ErrorCode, SkepError
from protocol.messages import Links, ProjectLink, Safe, WorktreeOver


class World:
    """Two connected nodes, what the store knows of them, and what they were told."""

    def __init__(self) -> None:
        self.up = {"n", "m"}
        self.links = {"n": [ProjectLink(checkout_id="c", project_name="shop")], "m": []}
        self.told: list[tuple[str, object]] = []
        self.fails = False
        self.over: dict[str, list[WorktreeOver]] = {}
        self.workers: dict[str, list[str]] = {}
        self.briefing = NodeBriefing(self, self.links_of, self.safe_of, self.nodes_of_task)

    def is_online(self, node_id: str) -> bool:
        return node_id in self.up

    def online(self) -> set[str]:
        return set(self.up)

    async def send(self, node_id: str, message: object) -> bool:
        self.told.append((node_id, message))
        return node_id in self.up

    async def links_of(self, node_id: str) -> Links:
        if self.fails:
            raise SkepError(ErrorCode.STORE_FULL, "no room")
        return Links(links=list(self.links[node_id]), over=self.over.get(node_id, []))

    async def nodes_of_task(self, task_id: str) -> list[str]:
        return self.workers.get(task_id, [])

    async def safe_of(self, node_id: str) -> Safe:
        return Safe(epochs=[(7, 3, b"")], logs=[(f"log {number}", b"") for number in range(5000)])

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.briefing.run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def change(self, kind: str, **ids: str) -> list[str]:
        """Have a commit be told of; return which nodes were told something."""
        self.told.clear()
        self.briefing.on_changes([Change(kind=kind, ids=ids)])
        await asyncio.sleep(0.02)
        return sorted(node_id for node_id, _ in self.told)


@pytest.mark.asyncio
async def test_a_node_that_connects_is_told_all():
    """Its links, also where it was told them over an earlier link, and a bounded safe list."""
    world = World()
    for _ in range(2):
        world.told.clear()
        await world.briefing.connected("n")
        links, safe = (message for _, message in world.told)
        assert links == Links(links=world.links["n"])
        assert isinstance(safe, Safe)
        assert len(safe.logs) == 2000


@pytest.mark.asyncio
async def test_links_are_told_again_when_they_change_and_only_then():
    """A change of the node that leaves its links as they are says nothing to it."""
    async with World() as world:
        await world.briefing.connected("n")
        assert await world.change("node.changed", node="n") == []
        world.links["n"] = [ProjectLink(checkout_id="c", project_name="store")]
        assert await world.change("node.changed", node="m") == ["m"]
        assert await world.change("node.changed", node="n") == ["n"]


@pytest.mark.asyncio
async def test_a_project_may_concern_every_node():
    """An edited project is looked up for all that are connected."""
    async with World() as world:
        await world.briefing.connected("n")
        await world.briefing.connected("m")
        world.links["n"] = world.links["m"] = [ProjectLink(checkout_id="c", sync_policy="lazy")]
        assert await world.change("project.changed", project="p") == ["m", "n"]


@pytest.mark.asyncio
async def test_worktrees_that_are_over_are_told_of():
    """Once, to the nodes that have any, when their task or the attempt itself changes; bounded."""
    async with World() as world:
        for node_id in ("n", "m"):
            await world.briefing.connected(node_id)
        world.workers["t"] = ["n", "away"]
        assert await world.change("task.changed", task="t") == []
        world.over["n"] = [WorktreeOver(f"a{number}", 1) for number in range(600)]
        assert await world.change("task.changed", task="other") == []
        assert await world.change("task.changed", task="t") == ["n"]
        ((_, told),) = world.told
        assert told == Links(links=world.links["n"], over=world.over["n"][:500])
        assert await world.change("task.changed", task="t") == []
        world.over["m"] = [WorktreeOver("b", 2)]
        assert await world.change("attempt.changed", node="m", attempt="b") == ["m"]


@pytest.mark.asyncio
async def test_a_store_in_trouble_does_not_end_the_briefing():
    """What could not be told is told later."""
    async with World() as world:
        world.fails = True
        assert await world.change("node.changed", node="n") == []
        world.fails = False
        assert await world.change("node.changed", node="n") == ["n"]
        assert not world.task.done()


@pytest.mark.asyncio
async def test_more_links_than_a_frame_takes():
    """All are told, in frames that the wire takes; what is over stands in the last alone."""
    world = World()
    world.links["n"] = [
        ProjectLink(checkout_id=f"{number:036}", project_name="x" * 200, problem="ü" * 100)
        for number in range(1500)
    ]
    world.over["n"] = [WorktreeOver(attempt_id="a", ended_at_ms=1)]
    await world.briefing.tell_links("n")
    frames = [message for _, message in world.told]
    assert all(len(encode(frame)) <= limits.FRAME_BYTES_MAX for frame in frames)
    assert [link for frame in frames for link in frame.links] == world.links["n"]
    assert [frame.over for frame in frames] == [[]] * (len(frames) - 1) + [world.over["n"]]
    world.told.clear()
    await world.briefing.tell_links("n")
    assert world.told == []
