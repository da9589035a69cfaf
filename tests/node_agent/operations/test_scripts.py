"""`run_script` and `review` as operations: which program, and what it is told to look at."""

from typing import Any

import pytest

from node_agent.operations.scripts import ScriptOperations
from node_agent.script_runs import WantedScript
from node_agent.store import plans
from protocol.attempt_requests import ReviewRequest, RunScriptRequest, StartRequest
from protocol.errors import ErrorCode, SkepError
from tests.node_agent.operations.conftest import StoredNode
from tests.node_agent.operations.test_attempts import RecordingScripts


class Scripts:
    """The operations, and what they began."""

    def __init__(self, stored: StoredNode) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.stored = stored
        self.operations = ScriptOperations(
            stored.stores.database, stored.worktrees_dir, RecordingScripts(self.asked)
        )

    async def planned(self, **scripts: str) -> None:
        """Give the attempt these scripts."""
        plan = StartRequest(command="true", **scripts)
        await self.stored.stores.database.write(plans.save, self.stored.attempt.id, plan)

    async def review(self, **fields: Any) -> WantedScript:
        """Ask for a review; return what was begun."""
        asking = self.stored.asking("review", ReviewRequest(**fields), key="k")
        await self.operations.review(asking)
        _, _, wanted, operation, body_hash = self.asked[-1]
        assert (operation, body_hash) == ("review", asking.body_hash)
        assert isinstance(wanted, WantedScript)
        return wanted


@pytest.fixture
def scripts(stored: StoredNode) -> Scripts:
    """What begins scripts."""
    return Scripts(stored)


@pytest.mark.asyncio
async def test_a_script_as_it_was(scripts: Scripts) -> None:
    """The text is the one the attempt was started with; one it had not is `no_script`."""
    await scripts.planned(setup_script="make", dev_script="serve")
    for name, text in (("setup", "make"), ("dev", "serve")):
        request = RunScriptRequest(name=name)
        reply = await scripts.operations.run_script(
            scripts.stored.asking("run_script", request, key="k")
        )
        assert reply.execution.script == name
        assert scripts.asked[-1][2] == WantedScript(name=name, script=text)
    for name, code in (("cleanup", ErrorCode.NO_SCRIPT), ("other", ErrorCode.INVALID)):
        with pytest.raises(SkepError) as caught:
            await scripts.operations.run_script(
                scripts.stored.asking("run_script", RunScriptRequest(name=name), key="k")
            )
        assert caught.value.code is code
    assert len(scripts.asked) == 2


@pytest.mark.asyncio
async def test_what_a_review_looks_at(scripts: Scripts) -> None:
    """The environment names the part; the instructions are the program's input as well."""
    head = scripts.stored.sample.head
    wanted = await scripts.review(command="sh -c 'cat'", instructions="be kind")
    assert (wanted.argv, wanted.stdin) == (["sh", "-c", "cat"], b"be kind")
    assert wanted.environment == {
        "SKEP_REVIEW_WHAT": "uncommitted",
        "SKEP_REVIEW_INSTRUCTIONS": "be kind",
    }
    wanted = await scripts.review(command="true", what="base")
    assert wanted.environment == {
        "SKEP_REVIEW_WHAT": "base",
        "SKEP_REVIEW_BASE_BRANCH": "main",
        "SKEP_REVIEW_BASE": head,
    }
    wanted = await scripts.review(command="true", what="commit", commit=head[:10])
    assert wanted.environment == {"SKEP_REVIEW_WHAT": "commit", "SKEP_REVIEW_COMMIT": head}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, ErrorCode.EXECUTOR_UNAVAILABLE),
        ({"command": "'"}, ErrorCode.INVALID),
        ({"command": "true", "what": "all"}, ErrorCode.INVALID),
        ({"command": "true", "what": "commit"}, ErrorCode.INVALID),
        ({"command": "true", "what": "commit", "commit": "feedfeed"}, ErrorCode.BRANCH_MISSING),
        ({"command": "true", "what": "commit", "commit": "--all"}, ErrorCode.INVALID),
        ({"command": "true", "what": "base", "base_branch": "none"}, ErrorCode.BRANCH_MISSING),
        ({"command": "true", "instructions": "x" * 70_000}, ErrorCode.TOO_LARGE),
    ],
)
@pytest.mark.asyncio
async def test_a_review_that_cannot_be(
    scripts: Scripts, fields: dict[str, Any], code: ErrorCode
) -> None:
    """What names nothing to look at, or nothing to look with, begins nothing."""
    with pytest.raises(SkepError) as caught:
        await scripts.review(**fields)
    assert caught.value.code is code
    assert scripts.asked == []
