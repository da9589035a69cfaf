"""The local API on opened stores, asked without a socket."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from node_agent.api.exchange import ApiRequest, reply_error
from node_agent.api.routes import answer
from node_agent.config import NodeConfig
from node_agent.identity import NodeRecord
from node_agent.local_node import JOURNAL, LocalNode
from node_agent.operations.dispatcher import OperationDispatcher
from node_agent.operations.table import functions_of
from protocol.errors import SkepError
from tests.node_agent.operations.conftest import (  # noqa: F401  fixtures of the operations' tests
    StoredNode,
    sample,
    stored,
)
from tests.node_agent.operations.test_attempts import RecordingRunner

Ask = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
def node(stored: StoredNode) -> LocalNode:  # noqa: F811  a fixture by its name
    """A node as its own operator sees it, an agent running."""
    functions = functions_of(
        stored.stores,
        stored.changes,
        worktrees_dir=stored.worktrees_dir,
        runner=RecordingRunner(stored.attempt),
        forge=stored.forge,
    )
    stored.stores.journal.listen(lambda _: stored.changes.changed(JOURNAL))
    return LocalNode(
        config=NodeConfig(data_dir=stored.worktrees_dir.parent),
        record=lambda: NodeRecord(node_id="node-1", name="bee"),
        name="bee",
        slots=2,
        database=stored.stores.database,
        journal=stored.stores.journal,
        chunks=stored.stores.chunks,
        dispatcher=OperationDispatcher(functions, stored.stores.ledger, node_id="node-1"),
        running=True,
        changes=stored.changes,
    )


@pytest.fixture
def ask(node: LocalNode) -> Ask:
    """Ask the API; returns the status and the JSON."""

    async def asking(
        method: str,
        where: str,
        body: Any = None,
        *,
        key: str | None = None,
        from_attempt: str | None = None,
        **query: Any,
    ) -> tuple[int, Any]:
        asked = ApiRequest(
            query={name: str(value) for name, value in query.items()},
            body=b"" if body is None else msgspec.json.encode(body),
            key=key,
            from_attempt=from_attempt,
        )
        try:
            reply = await answer(node, method, f"/api/v1/{where}", asked)
        except SkepError as error:
            reply = reply_error(error)
        content = reply.body
        if reply.pieces is not None:
            content = b"".join([piece async for piece in reply.pieces])
        return reply.status, msgspec.json.decode(content)

    return asking
