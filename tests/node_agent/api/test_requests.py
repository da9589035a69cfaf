"""Requests over the local API: listed, shown, answered; by parts of their ids."""

import pytest

from tests.node_agent.api.conftest import Ask
from tests.node_agent.operations.conftest import StoredNode
from tests.node_agent.operations.test_answers import asked


@pytest.mark.asyncio
async def test_requests_are_listed_shown_and_answered(stored: StoredNode, ask: Ask) -> None:
    """The node's own operator answers what is asked here; the first answer counts."""
    first, second = await asked(stored, "1"), await asked(stored, "2")
    status, page = await ask("GET", "requests", limit=1)
    assert status == 200
    assert [one["id"] for one in page["items"]] == [second.id]
    assert page["items"][0]["node_id"] == "node-1"
    status, rest = await ask("GET", "requests", cursor=page["next"])
    assert ([one["id"] for one in rest["items"]], rest["next"]) == ([first.id], None)
    part = first.id.replace("-", "")[-12:]
    status, shown = await ask("GET", f"requests/{part}")
    assert (status, shown["title"], shown["status"]) == (200, "Which?", "open")
    status, taken = await ask("POST", f"requests/{part}/answer", {"text": "left"}, key="k")
    assert (status, taken["answer"]["text"]) == (200, "left")
    status, late = await ask("POST", f"requests/{part}/answer", {"text": "right"}, key="k2")
    assert (status, late["error"]["code"]) == (409, "already_answered")
    assert late["error"]["details"]["answer"]["text"] == "left"
    for query in ({"status": "open"}, {"attempt": stored.attempt.id, "status": "open"}):
        status, page = await ask("GET", "requests", **query)
        assert [one["id"] for one in page["items"]] == [second.id]


@pytest.mark.asyncio
async def test_what_cannot_be_asked(stored: StoredNode, ask: Ask) -> None:
    """Unknown requests, statuses and cursors are named."""
    await asked(stored)
    assert (await ask("GET", "requests/ffffffffffff"))[0] == 404
    assert (await ask("POST", "requests/ffffffffffff/answer", {"text": "x"}, key="k"))[0] == 404
    for query, field in (({"status": "lost"}, "status"), ({"cursor": "x"}, "cursor")):
        status, said = await ask("GET", "requests", **query)
        assert (status, said["error"]["details"]["field"]) == (422, field)
