"""Every route answers in one shape, and does what its row of the table says."""

from pathlib import Path

import pytest

from node_agent.api.router import Route
from node_agent.api.routes import ROUTES, writes
from node_agent.callers import UNPLACED
from node_agent.elsewhere import Elsewhere
from node_agent.hive_login import HiveLogin, write_login
from node_agent.identity import Enrolment
from node_agent.local_node import LocalNode
from protocol.errors import ErrorCode, OperationError
from protocol.operation_values import ROOTS
from protocol.operations import OPERATIONS
from tests.node_agent.api.conftest import Ask
from tests.node_agent.operations.conftest import EXECUTION, StoredNode

UNKNOWN = "01920000-0000-7000-8000-0000cafef00d"


def filled(path: str) -> str:
    """A route's path with ids that nothing has."""
    for name in ("attempt_id", "execution_id", "task_id", "checkout", "name"):
        path = path.replace(f"{{{name}}}", UNKNOWN).replace(f"{{{name}:rest}}", UNKNOWN)
    return path.replace("{path:rest}", "a/b")


@pytest.mark.asyncio
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_errors_have_one_shape(ask: Ask, route: object) -> None:
    """A route that is asked for what is not there, or with nonsense, answers the one shape."""
    for body in (None, {"nonsense": 1}):
        status, answer = await ask(route.method, filled(route.path), body)
        if status >= 400:
            assert set(answer) == {"error"}
            assert set(answer["error"]) == {"code", "message", "hint", "retryable", "details"}
    if "{" in route.path and "tasks/" not in route.path:
        assert status in {404, 409, 422}


def test_every_operation_has_its_route() -> None:
    """The routes of operations come from the protocol's table, each once."""
    paths = [(route.method, route.path.replace(":rest", "")) for route in ROUTES]
    assert len(set(paths)) == len(paths)
    for row in OPERATIONS.values():
        own = row.path.startswith(ROOTS)
        path = row.path if own else f"attempts/{{attempt_id}}/{row.path}"
        assert (row.method, path) in paths


@pytest.mark.asyncio
async def test_what_needs_an_agent(ask: Ask, node: LocalNode, stored: StoredNode) -> None:
    """With no agent what reads is answered, and what changes an attempt says what to do."""
    node.running = False
    status, answer = await ask("POST", f"attempts/{stored.attempt.id}/stop")
    assert (status, answer["error"]["code"]) == (503, "node_offline")
    assert "node-agent run" in answer["error"]["hint"]
    status, _ = await ask("GET", f"executions/{EXECUTION}/log", wait_ms=20_000)
    assert status == 200
    assert (await ask("GET", "status"))[1]["running"] is False


def test_what_writes() -> None:
    """Only what appends to the journal begins an epoch when it is answered alone."""
    assert writes("POST", "/api/v1/checkouts")
    assert not writes("GET", "/api/v1/checkouts")
    with pytest.raises(OperationError) as caught:
        writes("GET", "/api/v1/nothing")
    assert caught.value.code is ErrorCode.NOT_FOUND


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "route",
    [route for route in ROUTES if route.method != "GET"],
    ids=lambda route: f"{route.method} {route.path}",
)
async def test_an_attempts_program_changes_nothing(ask: Ask, route: Route[LocalNode]) -> None:
    """It is refused all that is a person's to ask, whichever attempt it is of; not its tools."""
    for attempt_id in (UNPLACED, UNKNOWN):
        status, answer = await ask(route.method, filled(route.path), {}, from_attempt=attempt_id)
        refused = (status, answer["error"]["code"]) == (403, "forbidden")
        assert refused != route.of_agents


@pytest.mark.asyncio
async def test_an_attempts_program_may_look(ask: Ask, stored: StoredNode) -> None:
    """What only reads is answered, to whomever."""
    shown = await ask("GET", f"attempts/{stored.attempt.id}", from_attempt=stored.attempt.id)
    assert shown[0] == 200


@pytest.mark.asyncio
async def test_an_attempts_program_does_not_look_with_a_persons_token(
    ask: Ask, node: LocalNode, stored: StoredNode, tmp_path: Path
) -> None:
    """What is of other nodes is read as whoever signed in here: that is for people alone."""
    write_login(tmp_path, HiveLogin(hive_id="h", token="skep_x"))
    elsewhere = Elsewhere(tmp_path, lambda: Enrolment(url="http://127.0.0.1:9", hive_id="h"))
    node.elsewhere = elsewhere
    paths = [f"attempts/{UNKNOWN}", f"sessions/{UNKNOWN}/messages", f"executions/{UNKNOWN}/log"]
    try:
        for path, query in [*((path, {}) for path in paths), ("attempts", {"all": 1})]:
            person = await ask("GET", path, **query)
            program = await ask("GET", path, from_attempt=stored.attempt.id, **query)
            codes = [said["error"]["code"] for _, said in (person, program)]
            assert codes == ["hive_offline", "forbidden"], path
    finally:
        await elsewhere.close()
