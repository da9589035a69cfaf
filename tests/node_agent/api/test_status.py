"""Status and outbox over the local API: what is unsent, and why."""

import pytest

from node_agent.local_node import LocalNode
from node_agent.store import checkouts
from node_agent.uplink_view import LinkView
from protocol.log_chunks import STDOUT, Segment
from protocol.messages import LogMark, ProjectLink
from tests.node_agent.api.conftest import Ask
from tests.node_agent.operations.conftest import CHECKOUT, EXECUTION, StoredNode


@pytest.mark.asyncio
async def test_what_is_unsent_and_why(ask: Ask, node: LocalNode, stored: StoredNode) -> None:
    """The outbox counts ops and chunks beyond the hive's marks, and says what they wait for."""
    await stored.printed(Segment(STDOUT, 5, b"one\n"))
    await stored.printed(Segment(STDOUT, 6, b"two\n"))
    _, status = await ask("GET", "status")
    assert status["hive"] is None
    assert status["slots"] == {"total": 2, "busy": 1}
    assert status["activity"] == "busy"
    _, outbox = await ask("GET", "outbox")
    assert (outbox["ops"], outbox["chunks"], outbox["oldest_ms"]) == (3, 2, 1)
    assert outbox["reason"].startswith("no hive")
    assert {(one["what"], one["count"]) for one in outbox["items"]} == {
        ("ops", 3),
        ("log chunks", 2),
    }
    (epoch,) = await stored.stores.journal.epochs()
    await stored.stores.journal.saw_marks({epoch.epoch: 2})
    digest = await stored.stores.chunks.digest_at(EXECUTION, 1)
    assert digest is not None
    await stored.stores.chunks.acked([LogMark(EXECUTION, 2, 2, digest)])
    node.link = lambda: LinkView(url="https://h", hive_id="h", problem="the hive is away")
    _, outbox = await ask("GET", "outbox")
    assert (outbox["ops"], outbox["chunks"]) == (1, 1)
    assert outbox["reason"] == "the hive is away"
    assert {(one["what"], one["id"], one["count"]) for one in outbox["items"]} == {
        ("ops", "7", 1),
        ("log chunks", EXECUTION, 1),
    }
    node.link = lambda: LinkView(url="https://h", hive_id="h", connected=True)
    assert (await ask("GET", "outbox"))[1]["reason"] == "on its way"
    # What the policy of its project leaves here is on no way.
    link = ProjectLink(checkout_id=CHECKOUT, project_id="p", sync_policy="lazy")
    await stored.stores.database.write(checkouts.save_links, [link])
    _, outbox = await ask("GET", "outbox")
    assert (outbox["ops"], outbox["chunks"]) == (1, 0)
    assert [one["what"] for one in outbox["items"]] == ["ops"]
    node.link = lambda: None
    assert (await ask("GET", "outbox"))[1]["chunks"] == 1


@pytest.mark.asyncio
async def test_enrolment_changed(ask: Ask, node: LocalNode) -> None:
    """A running agent is told to look at its enrolment; without one that is not possible."""
    told = []

    async def changed() -> None:
        told.append(1)

    assert (await ask("POST", "enrolment/changed"))[0] == 501
    node.enrolment_changed = changed
    assert (await ask("POST", "enrolment/changed"))[0] == 200
    assert told == [1]
