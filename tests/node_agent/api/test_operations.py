"""Operations over the local API: the same functions and keys as over the link."""

import pytest

from tests.node_agent.api.conftest import Ask
from tests.node_agent.operations.conftest import EXECUTION, StoredNode


@pytest.mark.asyncio
async def test_a_changing_operation_by_key(ask: Ask, stored: StoredNode) -> None:
    """A stop answers the attempt; its key answers it again and refuses another request."""
    path = f"attempts/{stored.attempt.id[-8:]}/stop"
    status, answer = await ask("POST", path, {"grace_s": 1}, key="k1")
    assert (status, answer["id"]) == (200, stored.attempt.id)
    assert [one["id"] for one in answer["executions"]] == [EXECUTION]
    assert (await ask("POST", path, {"grace_s": 1}, key="k1"))[0] == 200
    status, answer = await ask("POST", path, {"grace_s": 2}, key="k1")
    assert (status, answer["error"]["code"]) == (409, "key_reused")
    status, answer = await ask("POST", path, {"grace_s": "soon"})
    assert (status, answer["error"]["details"]["field"]) == (422, "grace_s")
    known = await stored.stores.ledger.find("k1")
    assert known is not None
    assert known.record.actor == "node-operator"


@pytest.mark.asyncio
async def test_the_path_names_fields_of_the_request(ask: Ask, stored: StoredNode) -> None:
    """Ids and file names in the path reach the request; a query adds the rest."""
    stored.sample.git("branch", stored.attempt.branch)
    attempt = stored.attempt.id
    status, answer = await ask("GET", f"attempts/{attempt}/files", path="src", limit=1)
    assert [one["name"] for one in answer["entries"]] == ["code.py"]
    status, answer = await ask("GET", f"attempts/{attempt}/files/no%2Fsuch/file")
    assert (status, answer["error"]["code"]) == (404, "not_found")
    status, answer = await ask("GET", f"attempts/{attempt}/diff", stat="yes")
    assert status == 422
    status, answer = await ask("GET", f"executions/{EXECUTION}/log", limit=5)
    assert (status, answer["entries"], answer["closed"]) == (200, [], False)
