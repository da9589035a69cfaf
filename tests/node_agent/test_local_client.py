"""The client of the commands where no agent serves: the stores answer, or say what is wrong."""

import threading
import time
from pathlib import Path

import pytest

from node_agent import local_client
from node_agent.config import NodeConfig
from node_agent.data_folder import DataFolderBusyError, DataFolderLock
from node_agent.identity import open_identity
from node_agent.local_client import LocalClient
from protocol.errors import ErrorCode, OperationError


def test_the_stores_answer_where_no_agent_runs(tmp_path: Path) -> None:
    """A reading request is answered from the stores; one that changes needs the agent."""
    identity = open_identity(tmp_path)
    client = LocalClient(NodeConfig(data_dir=tmp_path))
    assert not client.running()
    status = client.get("status")
    assert (status["node_id"], status["running"]) == (identity.node_id, False)
    assert client.get("attempts", {"limit": 5, "status": None}) == {"items": [], "next": None}
    with pytest.raises(OperationError) as caught:
        client.send("POST", "attempts", {"command": "true"}, key="k")
    assert caught.value.code is ErrorCode.NODE_OFFLINE


@pytest.mark.parametrize("bad", ["a\nb", "a\r", "\0"])
def test_what_no_header_can_hold_is_refused_by_its_name(tmp_path: Path, bad: str) -> None:
    """A key and a head, before anything is sent."""
    open_identity(tmp_path)
    client = LocalClient(NodeConfig(data_dir=tmp_path))
    for given, field in (
        ({"key": bad}, "Idempotency-Key"),
        ({"expected_head": bad}, "Expected-Head"),
    ):
        with pytest.raises(OperationError) as wrong:
            client.send("POST", "attempts", {"command": "true"}, **given)
        assert wrong.value.details == {"field": field}


def test_a_folder_that_is_busy_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    """While another process holds the folder without serving yet, the client waits."""
    open_identity(tmp_path)
    lock = DataFolderLock(tmp_path)
    lock.acquire()
    release = threading.Timer(0.4, lock.close)
    release.start()
    began_s = time.monotonic()
    assert LocalClient(NodeConfig(data_dir=tmp_path)).get("checkouts")["items"] == []
    assert time.monotonic() - began_s > 0.3
    release.join()


def test_a_folder_that_stays_busy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that another process keeps is reported with who keeps it."""
    monkeypatch.setattr(local_client, "_STARTING_S_MAX", 0.2)
    open_identity(tmp_path)
    lock = DataFolderLock(tmp_path)
    lock.acquire()
    try:
        with pytest.raises(DataFolderBusyError):
            LocalClient(NodeConfig(data_dir=tmp_path)).get("status")
    finally:
        lock.close()


def test_a_wait_without_an_agent_ends_at_once(tmp_path: Path) -> None:
    """With no agent nothing changes, so a question that would wait is answered at once."""
    open_identity(tmp_path)
    client = LocalClient(NodeConfig(data_dir=tmp_path))
    began_s = time.monotonic()
    with pytest.raises(OperationError) as caught:
        client.get("executions/01920000-0000-7000-8000-00000e0e0e0e/log", {"wait_ms": 20_000})
    assert caught.value.code is ErrorCode.NOT_FOUND
    assert time.monotonic() - began_s < 19


def test_an_attempts_program_changes_nothing_with_no_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopping the agent does not give an attempt's program what the agent refuses it."""
    identity = open_identity(tmp_path)
    monkeypatch.setenv("SKEP_NODE_ID", identity.node_id)
    monkeypatch.setenv("SKEP_ATTEMPT_ID", "attempt-1")
    client = LocalClient(NodeConfig(data_dir=tmp_path))
    with pytest.raises(OperationError) as caught:
        client.send("POST", "checkouts", {"path": str(tmp_path)}, key="k")
    assert caught.value.code is ErrorCode.FORBIDDEN
    assert client.get("checkouts")["items"] == []
