"""What an attempt committed, as an operation, held against plain git."""

import pytest

from protocol.branch_requests import CommitsRequest
from protocol.errors import ErrorCode
from tests.node_agent.operations.branching import Branching
from tests.node_agent.operations.conftest import StoredNode


def own(at: Branching) -> list[str]:
    """The commits of the attempt's branch that its target has not, by plain git."""
    return at.sample.git("rev-list", f"main..{at.branch}").split()


@pytest.mark.asyncio
async def test_page_by_page(stored: StoredNode) -> None:
    """Each page goes on where the one before ended, though the branch has moved meanwhile."""
    at = await Branching.make(stored)
    for number in range(4):
        at.commit(f"work {number}", {"work.txt": f"{number}\n"})
    wanted = own(at)
    found: list[str] = []
    after = None
    while True:
        page = await at.ask("commits", CommitsRequest(after=after, limit=2))
        found += [one.id for one in page.commits]
        after = page.next
        if after is None:
            break
        at.commit("more", {"more.txt": f"{len(found)}\n"})
    assert found == wanted
    nowhere = await at.refused("commits", CommitsRequest(after="HEAD"))
    assert nowhere.code is ErrorCode.INVALID


@pytest.mark.asyncio
async def test_while_a_rebase_stands_half_done(stored: StoredNode) -> None:
    """HEAD stands on commits of others then; what is told are the attempt's own, all of them."""
    at = await Branching.make(stored)
    at.commit("clash", {"README": "theirs\n"})
    wanted = own(at)
    at.sample.commit("ours", {"README": "ours\n"})
    at.git("rebase", "-q", "main", check=False)
    assert at.git("rev-parse", "HEAD") != wanted[0]
    for _ in range(2):
        told = await at.ask("commits")
        assert [one.id for one in told.commits] == wanted
        assert told.head == wanted[0]
        at.git("rebase", "-q", "--abort", check=False)


@pytest.mark.asyncio
async def test_once_merged(stored: StoredNode) -> None:
    """What the target has by now are the attempt's own commits all the same."""
    at = await Branching.make(stored)
    wanted = own(at)
    at.sample.git("merge", "-q", "--no-ff", "-m", "merged", at.branch)
    assert own(at) == []
    assert [one.id for one in (await at.ask("commits")).commits] == wanted
