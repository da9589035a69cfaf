"""What an attempt was started with is hidden in all that is shown of it."""

import pytest

from node_agent.attempt_secrets import secrets_of_attempt
from tests.node_agent.operations.conftest import (  # noqa: F401  fixtures of the operations' tests
    StoredNode,
    sample,
    stored,
)


@pytest.mark.asyncio
async def test_secrets_of_its_environment(stored: StoredNode) -> None:  # noqa: F811  a fixture
    """Those that its start brought, by their names; none where nothing is known of the start."""
    read, attempt_id = stored.stores.database.read, stored.attempt.id
    assert await read(secrets_of_attempt, attempt_id) == []
    await stored.started_with({"API_KEY": "open-sesame-4711", "COLOUR": "ultramarine"})
    assert await read(secrets_of_attempt, attempt_id) == [b"open-sesame-4711"]
