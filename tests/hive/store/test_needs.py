"""What was asked of nodes: of messages, what its node has sent all it has of is not asked again."""

import msgspec
import pytest

from hive.store import messages, needs
from protocol.messages import Need, NeedDone, NeedOutcome, Snapshot
from protocol.ops import Op, Record
from tests.hive import reported
from tests.hive.reported import NODE, uid
from tests.hive.store.open_hive import OpenHive, Reporting

_SESSION = uid(30)


async def asks(hive: OpenHive, request_id: str) -> Need | None:
    """Ask the node for what is missing of the session."""
    need = Need(request_id=request_id, kind="messages", ids=[_SESSION])
    return await hive.store.store_need(NODE, need)


async def answers(
    node: Reporting,
    request_id: str,
    *facts: Op,
    outcome: str = "sent",
    more: bool = False,
    as_of: int | None = None,
) -> None:
    """Answer a need as of a number of the journal: the pages, then what became of it."""
    seq = node.seq if as_of is None else as_of
    records = [
        Record(fact.kind, fact.entity_id, fact.at_ms, fact.body, node.epoch, seq) for fact in facts
    ]
    for record in records:
        await node.hive.store.commit_records(NODE, node.link_no, request_id, [record])
    told = NeedOutcome(_SESSION, outcome, len(records))
    done = NeedDone(request_id=request_id, outcomes=[told], more=more)
    await node.hive.store.need_done(NODE, node.link_no, done)


async def holes(hive: OpenHive) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The runs of the session that are missing, and those that its node lacks as well."""
    page = await hive.read(messages.read_page, _SESSION, before=None, after=0, limit=50)
    return page.missing, page.lost


async def with_holes(hive: OpenHive, count: int = 9) -> Reporting:
    """A node whose session has so many messages, of which 1, 2, 5 and 6 came."""
    node = await hive.reporting()
    await node.tells(
        reported.checkout(1), reported.attempt(), reported.session(message_count=count)
    )
    await node.tells(*(reported.message(seq) for seq in (1, 2, 5, 6)))
    return node


@pytest.mark.asyncio
async def test_a_hole_that_its_node_has_as_well_is_asked_for_once(hive: OpenHive):
    """All that the node has was sent: what is missing still is lost, and asked for no more."""
    node = await with_holes(hive)
    need = await asks(hive, "r1")
    assert need is not None
    assert need.after == [2]
    await hive.heard()
    await answers(
        node, "r1", reported.session(message_count=9), *(reported.message(n) for n in (4, 5, 6, 8))
    )
    assert await holes(hive) == ([], [(3, 3), (7, 7), (9, 9)])
    assert "session.changed" in [change.kind for change in await hive.heard()]
    assert await asks(hive, "r2") is None
    await node.tells(reported.session(message_count=12), reported.message(11))
    assert await holes(hive) == ([(10, 10), (12, 12)], [(3, 3), (7, 7), (9, 9)])
    need = await asks(hive, "r3")
    assert need is not None
    assert need.after == [9], "from the first hole on that was not asked for"


@pytest.mark.asyncio
async def test_what_grew_while_the_answer_was_under_way_is_not_lost(hive: OpenHive):
    """An answer speaks of the messages there were when it was read, not of those that follow."""
    node = await with_holes(hive)
    await asks(hive, "r1")
    as_of = node.seq
    await node.tells(reported.session(message_count=11))
    told = [reported.session(message_count=9), *(reported.message(n) for n in range(3, 10))]
    await answers(node, "r1", *told, as_of=as_of)
    assert await holes(hive) == ([(10, 11)], [])


@pytest.mark.asyncio
async def test_a_node_that_knows_of_fewer_messages_than_are_here(hive: OpenHive):
    """What lies before a message that is here is no more on its way, whatever its node counts."""
    node = await with_holes(hive, count=4)
    assert await holes(hive) == ([(3, 4)], [])
    await node.tells(reported.message(9))
    await asks(hive, "r1")
    await answers(node, "r1", reported.session(message_count=4))
    assert await holes(hive) == ([], [(3, 4), (7, 8)])
    assert await asks(hive, "r2") is None


@pytest.mark.asyncio
async def test_an_answer_that_was_cut_speaks_of_what_it_sent(hive: OpenHive):
    """The next need goes on behind it, so that what lies far behind a hole comes as well."""
    node = await with_holes(hive)
    await asks(hive, "r1")
    await answers(node, "r1", reported.session(message_count=9), reported.message(4), more=True)
    assert await holes(hive) == ([(7, 9)], [(3, 3)])
    need = await asks(hive, "r2")
    assert need is not None
    assert need.after == [6]


@pytest.mark.asyncio
async def test_what_a_snapshot_tells_of_may_be_asked_for_anew(hive: OpenHive):
    """A node with another disk has another history: what it lacked before counts no more."""
    node = await with_holes(hive)
    await asks(hive, "r1")
    await answers(node, "r1", outcome="unknown")
    assert await holes(hive) == ([], [(3, 4), (7, 9)])
    assert await asks(hive, "r2") is None
    known = [
        reported.checkout(1),
        reported.attempt(),
        reported.session(message_count=9),
        *(reported.message(seq) for seq in (1, 2, 5, 6)),
    ]
    page = Snapshot(
        epoch=node.epoch,
        seq=node.seq,
        snapshot_id="s1",
        records=[
            Record(fact.kind, fact.entity_id, fact.at_ms, fact.body, node.epoch, node.seq)
            for fact in known
        ],
        last=True,
    )
    await hive.store.commit_snapshot(NODE, node.link_no, page)
    assert await holes(hive) == ([(3, 4), (7, 9)], [])
    need = await asks(hive, "r3")
    assert need is not None
    await answers(node, "r3", reported.session(message_count=9))
    assert await holes(hive) == ([], [(3, 4), (7, 9)])
    await hive.store.commit_snapshot(
        NODE, node.link_no, msgspec.structs.replace(page, snapshot_id="s2")
    )
    assert await holes(hive) == ([(3, 4), (7, 9)], [])


@pytest.mark.asyncio
@pytest.mark.parametrize("outcome", ["sent", "unknown"])
async def test_an_answer_that_a_snapshot_overtakes(hive: OpenHive, outcome: str):
    """It does not tell of what opened since it was asked; what is not known at all is lost."""
    node = await with_holes(hive)
    need = await asks(hive, "r1")
    assert need is not None
    assert need.after == [2]
    page = Snapshot(epoch=node.epoch, seq=node.seq + 1, snapshot_id="s1", records=[], last=True)
    await hive.store.commit_snapshot(NODE, node.link_no, page)
    if outcome == "unknown":
        await answers(node, "r1", outcome="unknown")
        assert await holes(hive) == ([], [(1, 9)])
        assert await asks(hive, "r2") is None
        return
    node.seq += 2
    await answers(node, "r1", reported.session(message_count=9), reported.message(7))
    assert await holes(hive) == ([(1, 6), (8, 9)], [])
    need = await asks(hive, "r2")
    assert need is not None
    assert need.after == [0]


@pytest.mark.asyncio
async def test_what_became_of_a_need_outlives_its_row(hive: OpenHive):
    """Needs are kept for a week, what a node lacks for as long as the session."""
    node = await with_holes(hive)
    await asks(hive, "r1")
    await answers(node, "r1", reported.session(message_count=9))
    hive.now_ms += 30 * 86_400_000
    other = Need(request_id="r2", kind="logs", ids=[uid(20)])
    assert await hive.store.store_need(NODE, other) is not None
    assert await hive.rows("SELECT 1 FROM need WHERE request_id = 'r1'") == []
    assert await asks(hive, "r3") is None
    assert await hive.read(needs.open_needs, NODE) != []


@pytest.mark.asyncio
@pytest.mark.parametrize("count", [2**63 - 1, 2**64 - 1, -(2**63), -1])
async def test_an_answer_with_numbers_beyond_reason(hive: OpenHive, count: int):
    """A node that says so is taken at its word as far as that can be kept; its link goes on."""
    node = await with_holes(hive)
    await asks(hive, "r1")
    far = min(abs(count), 2**63 - 1)
    facts = [reported.session(message_count=count), reported.message(far, 1999)]
    facts.append(reported.message(3, number=2000, updated_at_ms=2**64 - 1))
    await answers(node, "r1", *facts)
    await asks(hive, "r2")
    missing, lost = await holes(hive)
    assert {3, 4} <= {place for first, last in lost for place in (first, last)}
    await node.tells(reported.message(4))
    missing, lost = await holes(hive)
    assert not any(first <= 4 <= last for first, last in missing + lost)
