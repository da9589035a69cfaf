"""The table of operations has them all."""

import pytest

from node_agent.operations.table import functions_of
from protocol.operations import OPERATIONS
from tests.node_agent.operations.conftest import StoredNode
from tests.node_agent.operations.test_attempts import RecordingRunner


@pytest.mark.asyncio
async def test_every_operation_has_its_function(stored: StoredNode) -> None:
    """Each row of the protocol's table is carried out here; alone, those that read and end are."""
    runner = RecordingRunner(stored.attempt)
    all_of_them = functions_of(
        stored.stores,
        stored.changes,
        worktrees_dir=stored.worktrees_dir,
        runner=runner,
        forge=stored.forge,
    )
    assert set(all_of_them) == set(OPERATIONS)
    reading = functions_of(
        stored.stores,
        stored.changes,
        worktrees_dir=stored.worktrees_dir,
        runner=None,
        forge=stored.forge,
    )
    assert set(reading) == {
        name for name, row in OPERATIONS.items() if not (row.changing or row.live)
    }
    for name, function in all_of_them.items():
        settled = function.keeps_key or bool(function.settle or function.resume)
        assert settled == OPERATIONS[name].changing
