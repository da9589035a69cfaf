"""What agents are just writing goes to who looks, from their own node alone, and not too much."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hive.live_feed import LiveFeed
from hive.live_texts import LiveTexts
from protocol import limits
from protocol.messages import LiveText
from tests.hive import reported
from tests.hive.reported import NODE, OTHER, uid
from tests.hive.store.open_hive import OpenHive, opened


@pytest_asyncio.fixture
async def hive(tmp_path: Path) -> AsyncIterator[OpenHive]:
    """A store in which a session of a node is known."""
    async with opened(tmp_path) as open_hive:
        node = await open_hive.reporting()
        await node.tells(reported.checkout(1), reported.attempt(), reported.session())
        yield open_hive


def said(number: int = 0, session: int = 30) -> LiveText:
    """A piece of a message."""
    return LiveText(session_id=uid(session), message_id="m", role="assistant", at=number, text="a")


@pytest.mark.asyncio
async def test_a_node_speaks_in_its_own_sessions(hive: OpenHive):
    """Pieces under a session that is another's, or not known, are dropped."""
    feed = LiveFeed(100)
    live = LiveTexts(hive.database, feed)
    with feed.subscribe({f"session:{uid(30)}", f"session:{uid(31)}"}, live=True) as viewer:
        await live.say(OTHER, said(1))
        await live.say(NODE, said(2, session=31))
        await live.say(NODE, said(3))
        assert [piece.fields["at"] for piece in viewer.take_pieces()] == [3]
        await live.say(OTHER, said(4))
        assert viewer.take_pieces() == []


@pytest.mark.asyncio
async def test_a_flood_is_dropped(hive: OpenHive):
    """A node that says far more than it may is heard in part; another one is heard all the same."""
    feed = LiveFeed(100)
    live = LiveTexts(hive.database, feed)
    other = await hive.reporting(OTHER)
    await other.tells(
        reported.checkout(2),
        reported.attempt(11, checkout_id=uid(2)),
        reported.session(32, attempt_id=uid(11)),
    )
    topics = {f"session:{uid(30)}", f"session:{uid(32)}"}
    with feed.subscribe(topics, live=True) as viewer:
        heard = 0
        for number in range(50 * limits.LIVE_TEXT_PER_S_MAX):
            await live.say(NODE, said(number))
            heard += len(viewer.take_pieces())
        assert limits.LIVE_TEXT_PER_S_MAX <= heard < 50 * limits.LIVE_TEXT_PER_S_MAX
        await live.say(OTHER, said(1, session=32))
        assert len(viewer.take_pieces()) == 1
