"""What may be deleted, by the rules alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.store.log_purge import ClosedLog
from node_agent.store.retention import Standing, logs_to_purge, may_purge, ops_to_prune

ALONE = Standing(joined=False)
UNKNOWN = Standing(joined=True, marks={1: 50})
BACKED_UP = Standing(joined=True, backups=True, safe={1: 30}, marks={1: 50})
NO_BACKUPS = Standing(joined=True, backups=False, marks={1: 50})


def log(name: str = "e", **fields: object) -> ClosedLog:
    """A closed log that nobody has."""
    wanted = {
        "execution_id": name,
        "checkout_id": "c",
        "closed_at_ms": 100,
        "blob_bytes": 10,
        "acknowledged": False,
        "safe": False,
    }
    return ClosedLog(**(wanted | fields))


@pytest.mark.parametrize(
    ("standing", "older_through", "through"),
    [
        (ALONE, 40, 40),
        (UNKNOWN, 40, 0),
        (BACKED_UP, 40, 30),
        (BACKED_UP, 0, 30),
        (BACKED_UP._replace(marks={1: 20}), 40, 20),
        (BACKED_UP._replace(safe={}), 40, 0),
        (NO_BACKUPS, 40, 40),
        (NO_BACKUPS, 70, 50),
        (NO_BACKUPS._replace(marks={}), 70, 0),
    ],
)
def test_how_far_ops_may_go(standing: Standing, older_through: int, through: int):
    """By age alone without a hive; never beyond its mark with one, nor beyond its backups."""
    assert ops_to_prune(standing, 1, older_through) == through


@pytest.mark.parametrize(
    ("standing", "fields", "allowed"),
    [
        (ALONE, {}, True),
        (UNKNOWN, {"acknowledged": True, "safe": True}, False),
        (BACKED_UP, {"acknowledged": True}, False),
        # A backup of before the log was numbered anew.
        (BACKED_UP, {"safe": True}, False),
        (BACKED_UP, {"acknowledged": True, "safe": True}, True),
        (NO_BACKUPS, {}, False),
        (NO_BACKUPS, {"acknowledged": True}, True),
        (BACKED_UP._replace(unstreamed=frozenset({"c"})), {}, True),
    ],
)
def test_which_logs_may_go(standing: Standing, fields: dict[str, bool], allowed: bool):
    """Acknowledged is not enough where there are backups, and needed where there are none."""
    assert may_purge(standing, log(**fields)) is allowed


def test_logs_go_by_age_and_beyond_the_size():
    """The oldest first, and no more than it takes."""
    logs = [log(str(n), closed_at_ms=n, blob_bytes=10) for n in range(10)]

    def going(older_than_ms: int, bytes_max: int) -> list[str]:
        return logs_to_purge(
            ALONE, logs, kept_bytes=100, older_than_ms=older_than_ms, bytes_max=bytes_max
        )

    assert going(0, 1000) == []
    assert going(3, 1000) == ["0", "1", "2"]
    assert going(0, 75) == ["0", "1", "2"]
    assert going(5, 75) == ["0", "1", "2", "3", "4"]
    assert going(0, 0) == [str(n) for n in range(10)]


@given(
    standing=st.builds(
        Standing,
        joined=st.just(True),
        backups=st.sampled_from([None, False, True]),
        safe=st.dictionaries(st.just(1), st.integers(0, 99)),
        marks=st.dictionaries(st.just(1), st.integers(0, 99)),
    ),
    older=st.integers(0, 99),
    acknowledged=st.booleans(),
    safe=st.booleans(),
)
def test_nothing_unacknowledged_goes_while_a_hive_is_joined(
    standing: Standing, older: int, acknowledged: bool, safe: bool
):
    """Whatever else is known, the hive's own word comes first."""
    assert ops_to_prune(standing, 1, older) <= standing.marks.get(1, 0)
    if may_purge(standing, log(acknowledged=acknowledged, safe=safe)):
        assert acknowledged or safe
