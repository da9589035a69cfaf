"""Where a task can run: each reason not to, their order, and the choice among those that can."""

import msgspec
import pytest

from hive.placement import Place, in_order, refusal, refused, waiting_because
from protocol.errors import ErrorCode

FREE = Place(
    node_id="n",
    name="one",
    status="online",
    slots_total=2,
    slots_busy=0,
    executors=["command"],
    last_seen_at_ms=5,
    checkout_id="c",
)


def like(**changes) -> Place:
    """A free node, but for some changes."""
    return msgspec.structs.replace(FREE, **changes)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, None),
        ({"slots_busy": 1}, None),
        ({"slots_busy": 2}, ErrorCode.NODE_FULL),
        ({"slots_total": 0}, ErrorCode.NODE_FULL),
        ({"executors": ["claude"]}, ErrorCode.EXECUTOR_UNAVAILABLE),
        ({"status": "offline"}, ErrorCode.NODE_OFFLINE),
        ({"status": "draining"}, ErrorCode.CONFLICT),
        ({"status": "quarantined"}, ErrorCode.QUARANTINED),
        ({"status": "revoked"}, ErrorCode.REVOKED),
        ({"checkout_id": None}, ErrorCode.NO_CHECKOUT),
        # What a person has to mend is told before what passes by itself.
        ({"checkout_id": None, "status": "offline"}, ErrorCode.NO_CHECKOUT),
        ({"executors": ["claude"], "slots_busy": 2}, ErrorCode.EXECUTOR_UNAVAILABLE),
        # A node that has just joined has not said yet what it is: it judges itself.
        ({"executors": [], "slots_total": 0}, None),
    ],
)
def test_each_reason_has_its_code(changes, code):
    """A node says why it cannot run a task; one that can has no reason."""
    found = refusal(like(**changes), "command", "shop")
    assert (None if found is None else found.code) == code
    assert found is None or (found.why and found.hint)


def test_the_node_with_most_free_slots_goes_first():
    """Then by name, so that the choice is the same each time; others are left out."""
    places = [
        like(name="b", slots_total=4, slots_busy=3),
        like(name="c", slots_total=4, slots_busy=1),
        like(name="a", slots_total=2, slots_busy=1),
        like(name="d", slots_busy=2),
    ]
    assert [place.name for place in in_order(places, "command", "shop")] == ["c", "a", "b"]


def test_the_reason_to_wait_is_the_one_nearest_to_passing():
    """A full node is free before an offline one is back, and both before a checkout is made."""
    places = [like(checkout_id=None), like(status="offline"), like(slots_busy=2)]
    assert waiting_because(places, "command", "shop").code is ErrorCode.NODE_FULL
    assert waiting_because(places[:2], "command", "shop").code is ErrorCode.NODE_OFFLINE
    assert waiting_because(places[:1], "command", "shop").code is ErrorCode.NO_CHECKOUT
    assert waiting_because([], "command", "shop").code is ErrorCode.NO_CHECKOUT


def test_an_offline_node_tells_when_it_was_last_heard_of():
    """The error names the node and the time."""
    place = like(status="offline")
    found = refusal(place, "command", "shop")
    assert found is not None
    details = refused(found, place).details
    assert details == {"node_id": "n", "node_name": "one", "last_seen_at_ms": 5}
