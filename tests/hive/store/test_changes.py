"""Numbered changes: order, resuming, and what is no longer kept."""

import asyncio

import pytest

from hive.store import changes
from hive.store.backend import Change
from hive.store.changes import changes_after, coalesced, newest_change_id
from tests.hive.store.open_hive import OpenHive


def about(number: int, kind: str = "log.appended") -> Change:
    """A change of one thing."""
    return Change(kind=kind, ids={"execution": f"e{number}", "attempt": "a"})


async def note(tx, *noted: Change) -> None:
    """Note changes in one commit."""
    for change in noted:
        tx.note(change)


def test_a_thing_is_named_once():
    """Many changes of one thing in one commit are one, at the place of the last."""
    found = coalesced([about(1), about(2), about(1), about(1, "execution.changed")])
    assert found == [about(2), about(1), about(1, "execution.changed")]


@pytest.mark.asyncio
async def test_a_viewer_resumes_after_what_it_saw(hive: OpenHive):
    """Changes after an id come in order, as they were published, in pages."""
    start = await hive.read(newest_change_id)
    await hive.heard()
    for number in range(1, 6):
        await hive.write(note, about(number))
    published = await hive.heard()
    assert await hive.read(changes_after, start, 100) == published
    assert await hive.read(changes_after, published[1].id, 2) == published[2:4]
    assert await hive.read(changes_after, published[-1].id, 2) == []
    assert await hive.read(newest_change_id) == published[-1].id


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "event_id",
    ["", "7", "0.9999", "5.1", "x.y", "0.-1", "0.1e3", "0." + "9" * 40, "\u0663.\u0661", "0.1.2"],
)
async def test_an_unknown_id_is_told_so(hive: OpenHive, event_id: str):
    """An id that is not ours, not yet, or no id at all: read anew."""
    assert await hive.read(changes_after, event_id, 10) is None


@pytest.mark.asyncio
async def test_only_the_newest_are_kept(hive: OpenHive, monkeypatch: pytest.MonkeyPatch):
    """What is older is deleted in strides, and an id among it is unknown."""
    monkeypatch.setattr(changes, "CHANGES_KEPT", 20)
    monkeypatch.setattr(changes, "_PRUNED_EVERY", 10)
    first = await hive.read(newest_change_id)
    await asyncio.gather(*(hive.write(note, about(number)) for number in range(60)))
    for number in range(60):
        await hive.write(note, about(number))
    [row] = await hive.rows("SELECT count(*) AS kept FROM change")
    assert row["kept"] <= 30
    assert await hive.read(changes_after, first, 10) is None
    newest = await hive.read(newest_change_id)
    assert await hive.read(changes_after, newest, 10) == []
