"""Rules that people gave for a whole session."""

from pathlib import Path

import pytest

from node_agent.store import session_rules
from node_agent.store.database import Database
from node_agent.store.session_rules import SessionRule


@pytest.mark.asyncio
async def test_a_session_has_rules_of_its_own(tmp_path: Path):
    """The newest word on one thing counts, and no other session hears of it."""
    database = await Database.open(tmp_path / "state.db", "state", on_fatal=lambda _: None)
    await database.write(session_rules.keep, "s", SessionRule("allow", "k1", "ann"), 1)
    await database.write(session_rules.keep, "s", SessionRule("allow", "k2", "ann"), 2)
    await database.write(session_rules.keep, "s", SessionRule("deny", "k1", "bob"), 3)
    assert await database.read(session_rules.rules_of, "s") == [
        SessionRule("allow", "k2", "ann"),
        SessionRule("deny", "k1", "bob"),
    ]
    assert await database.read(session_rules.rules_of, "other") == []
    await database.close()
