"""An attempt on its way, beside what operations write of it meanwhile."""

from pathlib import Path

import pytest

from node_agent.attempt_run import AttemptRun
from node_agent.store import attempts, pull_requests
from protocol.entities import PullRequest
from tests.node_agent.workshop import make_repository, open_workshop

PR = PullRequest(url="https://github.com/acme/widgets/pull/1", number=1, state="open")


@pytest.mark.asyncio
async def test_a_step_keeps_what_was_written_beside_it(tmp_path: Path) -> None:
    """A step that looked before a pull request was kept, and writes after, does not drop it."""
    async with open_workshop(tmp_path / "node", 1) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"), "project")
        seen = await shop.run("true", project="project")
        await shop.database.write(pull_requests.keep, seen.id, PR, 1)
        run = AttemptRun(shop.context, seen.id)
        await run._save(reason="looked at")
        changed = await shop.database.read(attempts.get, seen.id)
        assert (changed.pr, changed.reason) == (PR, "looked at")
