"""Commands that change git, given while the node is away: with the head the hive last heard of."""

import pytest

from protocol.entities import OperationRecord
from protocol.ops import OpKind
from protocol.states import AttemptOutcome, AttemptPhase
from tests.hive.api.running import FakeNode, RunningHive
from tests.hive.commands.programs import Commands

AT_END, REBASED = "a" * 40, "b" * 40


async def ended(node: FakeNode) -> str:
    """Report an attempt that has ended; return its id."""
    attempt = await node.has_attempt(
        phase=AttemptPhase.ENDED,
        outcome=AttemptOutcome.SUCCEEDED,
        head_commit=AT_END,
        ended_at_ms=2_000_000,
    )
    return attempt.id


async def expected(hive: Commands, attempt: str, *words: str) -> str | None:
    """Give a command for when the node is back; return the head it is meant for."""
    kept = await hive.json("attempt", words[0], attempt, *words[1:], "--when", "online")
    assert kept["status"] == "waiting"
    head = kept["kept"]["expected_head"]
    assert head is None or isinstance(head, str)
    return head


@pytest.mark.parametrize(
    "words", [("push",), ("merge",), ("rebase",), ("stash",), ("rename-branch", "--branch", "x")]
)
@pytest.mark.asyncio
async def test_a_change_of_git_waits_for_its_node(
    running: RunningHive, hive: Commands, words: tuple[str, ...]
):
    """It is kept, bound to the head that the attempt ended with."""
    node = await running.node("one")
    attempt = await ended(node)
    await node.leave()
    assert await expected(hive, attempt, *words) == AT_END
    now = await hive.run("attempt", words[0], attempt, *words[1:], "--json")
    assert now.error["code"] == "node_offline"
    assert "--when online" in now.error["hint"]


@pytest.mark.asyncio
async def test_the_head_an_operation_left_is_newer(running: RunningHive, hive: Commands):
    """What was done after the end counts, what was done before it does not."""
    node = await running.node("one")
    attempt = await ended(node)
    for number, (head, at_ms) in enumerate([(REBASED, 2_000_001), ("c" * 40, 1_999_999)]):
        record = OperationRecord(
            key=f"k{number}",
            operation="rebase",
            attempt_id=attempt,
            head_after=head,
            started_at_ms=at_ms,
            ended_at_ms=at_ms,
        )
        await node.tell((OpKind.OPERATION, f"{number:032x}", record))
    await node.leave()
    assert await expected(hive, attempt, "push") == REBASED


@pytest.mark.asyncio
async def test_a_running_attempt_has_no_head_to_expect(running: RunningHive, hive: Commands):
    """It is bound to the run alone: the head moves while it works."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    await node.leave()
    assert await expected(hive, attempt.id, "push") is None
