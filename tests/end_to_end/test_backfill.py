"""What the hive does not hold is fetched when somebody looks, once, and what is gone is told."""

import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest

from hive.client import HiveClient
from protocol.errors import SkepError
from tests.end_to_end.hive_program import HiveProgram
from tests.end_to_end.installation import Installation
from tests.end_to_end.printing import STDOUT, PrintingAttempt
from tests.end_to_end.stored_needs import is_open, outcomes, store_need
from tests.end_to_end.waiting import until


def wait_partial(hive: HiveProgram, attempt_id: str) -> dict[str, Any]:
    """Wait until an attempt has ended, and the hive knows that it lacks of it."""
    return until(
        lambda: hive.attempt_or_none(attempt_id) or {},
        "the attempt has ended",
        holds=lambda one: (
            one.get("phase") == "ended"
            and one["executions"]
            and one["executions"][0]["log"]["closed"]
        ),
    )


def log_bytes(hive: HiveProgram, execution_id: str) -> int:
    """How many bytes of a log stand in the hive's file."""
    rows = hive.rows("SELECT length(blob) FROM chunk WHERE execution_id = ?", execution_id)
    return sum(length or 0 for (length,) in rows)


class Viewer:
    """A viewer's live stream of one attempt, read on a thread."""

    def __init__(self, hive: HiveProgram, attempt_id: str) -> None:
        self.events: list[str] = []
        self.opened = threading.Event()
        self._client = HiveClient(hive.url, hive.environment["SKEP_TOKEN"])
        self._topic = f"attempt:{attempt_id}"
        threading.Thread(target=self._read, daemon=True).start()
        assert self.opened.wait(20)

    def _read(self) -> None:
        with contextlib.suppress(SkepError, OSError, ValueError):
            for event in self._client.events(self._topic):
                self.opened.set()
                if event is not None:
                    self.events.append(event.name)


@pytest.fixture
def lazy(installation: Installation, repository: Path) -> Installation:
    """A node whose project's logs are fetched when somebody looks."""
    node = installation.add_node(repository=repository)
    installation.set_policy(node, "project", "lazy")
    return installation


def test_a_lazy_log_comes_when_it_is_opened(lazy: Installation, tmp_path: Path) -> None:
    """Nothing of it is at the hive until somebody looks; then one need, and all of it live."""
    hive, node = lazy.hive, lazy.nodes[0]
    attempt = PrintingAttempt(tmp_path / "printed")
    attempt.begin(lazy, node, lines_max=10_000)
    shown = wait_partial(hive, attempt.id)
    assert (shown["sync_state"], shown["outcome"]) == ("partial", "failed")
    (execution,) = shown["executions"]
    assert execution["exit_code"] == attempt.exit_code
    assert (execution["log"]["entries"], execution["log"]["whole"]) == (0, False)
    assert execution["log"]["entries_total"] > 10_000
    assert log_bytes(hive, execution["id"]) == 0
    assert hive.rows("SELECT request_id FROM need") == []

    viewers = [Viewer(hive, attempt.id) for _ in range(2)]

    def look() -> None:
        with HiveClient(hive.url, hive.environment["SKEP_TOKEN"]) as client:
            client.get(f"executions/{execution['id']}/log")

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    attempt.check_whole(hive)
    asked = hive.rows("SELECT request_id FROM need_item WHERE id = ?", execution["id"])
    assert len(asked) == 1
    until(
        lambda: [viewer.events for viewer in viewers],
        "both viewers saw it come and be complete",
        holds=lambda seen: all({"log.appended", "sync.changed"} <= set(each) for each in seen),
    )
    assert len(hive.lines("attempts", "logs", attempt.id)) == execution["log"]["entries_total"]


def test_a_lazy_log_is_shown_while_it_is_not_there(lazy: Installation, tmp_path: Path) -> None:
    """Also before it has come, and while the attempt runs: through the relay."""
    hive, node = lazy.hive, lazy.nodes[0]
    attempt = PrintingAttempt(tmp_path / "printed", exit_code=0)
    attempt.begin(lazy, node, burst=4)
    attempt.wait_started()
    lines = until(
        lambda: hive.lines("attempts", "logs", attempt.id),
        "lines of the running attempt are shown",
    )
    assert lines[0]["text"] == "line 00000001 ."
    shown = hive.attempt(attempt.id)
    assert shown["phase"] == "running"
    attempt.end()
    wait_partial(hive, attempt.id)
    assert hive.json("backfill", attempt.id)["sync_state"] == "complete"
    attempt.check_whole(hive)


def test_only_what_is_lacking_comes(
    installation: Installation, repository: Path, tmp_path: Path
) -> None:
    """A log held up to entry n is fetched from there on; what is held stays as it is."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    attempt = PrintingAttempt(tmp_path / "printed", exit_code=0)
    attempt.begin(installation, node)
    attempt.wait_rising(hive, 2000)
    installation.set_policy(node, "project", "lazy")
    held = until(
        lambda: (hive.entries(attempt.id), (attempt.folder / "stdout").stat().st_size),
        "no more comes",
        holds=lambda seen: hive.entries(attempt.id) == seen[0],
    )
    attempt.end()
    shown = wait_partial(hive, attempt.id)
    (execution,) = shown["executions"]
    assert shown["sync_state"] == "partial"
    before = hive.chunks(execution["id"])
    assert 0 < held[0] <= execution["log"]["entries"] < execution["log"]["entries_total"]
    hive.json("backfill", attempt.id)
    attempt.check_whole(hive)
    after = hive.chunks(execution["id"])
    assert after[: len(before)] == before
    [(sent,)] = hive.rows("SELECT sent FROM need_item WHERE id = ?", execution["id"])
    assert sent == len(after) - len(before)


def test_needs_of_a_node_that_was_away(
    installation: Installation, repository: Path, tmp_path: Path
) -> None:
    """Stored needs are answered after both restarted, id by id: sent, gone, unknown."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    node_id = node.status()["node_id"]
    installation.set_policy(node, "project", "metadata")
    ended = []
    for number, lines_max in enumerate((40_000, 2_000)):
        attempt = PrintingAttempt(tmp_path / f"printed{number}", exit_code=0)
        attempt.begin(installation, node, lines_max=lines_max)
        ended.append((attempt, wait_partial(hive, attempt.id)["executions"][0]["id"]))
    (old, old_execution), (new, new_execution) = ended
    assert log_bytes(hive, old_execution) == log_bytes(hive, new_execution) == 0
    node.kill()
    # The node still deletes by the policy it knows; the hive already wants the logs.
    hive.json("projects", "edit", "project", "--sync-policy", "lazy")
    hive.stop()
    # Room for the newer log alone: the older one is deleted at the start.
    query = "SELECT blob_bytes FROM log WHERE execution_id = ?"
    [(kept,)] = node.rows("logs", query, new_execution)
    node.environment["SKEP_NODE_LOGS_KEPT_BYTES"] = str(kept)
    foreign = "01a1fd00-0000-7000-8000-00000000000f"
    logs = store_need(hive, node_id, "logs", [old_execution, new_execution, foreign])
    state = store_need(hive, node_id, "executions", [old.id, foreign])
    node.start()
    until(
        lambda: node.rows("logs", "SELECT 1 FROM chunk WHERE execution_id = ?", old_execution),
        "the node has deleted the older log",
        holds=lambda rows: not rows,
    )
    hive.start()
    node.hurry()
    until(
        lambda: is_open(hive, logs) or is_open(hive, state),
        "both needs are answered",
        holds=lambda some_open: not some_open,
    )
    came = outcomes(hive, logs)
    assert [came[each][0] for each in (old_execution, new_execution, foreign)] == [
        "gone",
        "sent",
        "unknown",
    ]
    assert came[old_execution][1], "why it is gone is told"
    came = outcomes(hive, state)
    assert (came[old.id][0], came[foreign][0]) == ("sent", "unknown")
    assert log_bytes(hive, old_execution) == 0, "state brings no log"
    (execution,) = hive.attempt(new.id)["executions"]
    assert hive.stream(execution["id"], STDOUT) == new.printed
    (execution,) = hive.attempt(old.id)["executions"]
    assert execution["log"]["gone"]
    # What is gone is not asked for again, whoever looks.
    hive.call("attempts", "logs", old.id, "--json")
    asked = hive.rows("SELECT request_id FROM need_item WHERE id = ?", old_execution)
    assert len(asked) == 1


def test_metadata_alone(installation: Installation, repository: Path, tmp_path: Path) -> None:
    """No log byte is ever stored at the hive; it is shown through the relay, or not at all."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    installation.set_policy(node, "project", "metadata")
    attempt = PrintingAttempt(tmp_path / "printed", exit_code=0)
    attempt.begin(installation, node, lines_max=3000)
    shown = wait_partial(hive, attempt.id)
    lines = hive.lines("attempts", "logs", attempt.id)
    texts = [line["text"] for line in lines if line["stream"] == "stdout"]
    assert texts == attempt.printed.decode().splitlines()
    assert hive.lines("attempts", "logs", attempt.id, "-f") == lines
    (execution,) = shown["executions"]
    assert log_bytes(hive, execution["id"]) == 0
    assert hive.rows("SELECT request_id FROM need WHERE kind = 'logs'") == []
    assert hive.attempt(attempt.id)["sync_state"] == "complete"
    node.stop()
    hive.wait_node("node1", "offline")
    error = hive.refused("attempts", "logs", attempt.id)
    assert error["code"] == "node_offline"
    assert error["hint"]
    assert hive.attempt(attempt.id)["outcome"] == "succeeded"


def test_full_again(lazy: Installation, tmp_path: Path) -> None:
    """A project set back to `full` gets what it lacks without anybody looking."""
    hive, node = lazy.hive, lazy.nodes[0]
    attempts = []
    for number in range(3):
        attempt = PrintingAttempt(tmp_path / f"printed{number}", exit_code=0)
        attempt.begin(lazy, node, lines_max=500)
        attempts.append(attempt)
        assert wait_partial(hive, attempt.id)["sync_state"] == "partial"
    lazy.set_policy(node, "project", "full")
    for attempt in attempts:
        attempt.check_whole(hive)


def test_a_restored_hive_asks_for_the_logs_it_forgot(
    installation: Installation, repository: Path, tmp_path: Path
) -> None:
    """Logs that ended after the backup are fetched as soon as their attempts are known again."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    hive.json("backup", str(tmp_path / "old.db"), "--data", str(hive.data_dir))
    attempt = PrintingAttempt(tmp_path / "printed")
    attempt.begin(installation, node, lines_max=2_000)
    until(
        lambda: hive.attempt_or_none(attempt.id) or {},
        "all of it is at the hive",
        holds=lambda one: one.get("phase") == "ended" and one["sync_state"] == "complete",
    )
    hive.kill()
    hive.json("restore", str(tmp_path / "old.db"), "--data", str(hive.data_dir), "--force")
    hive.start()
    until(
        lambda: hive.attempt_or_none(attempt.id) or {},
        "all of it is at the restored hive, with nobody looking at its log",
        holds=lambda one: one.get("phase") == "ended" and one["sync_state"] == "complete",
    )
    (execution,) = hive.attempt(attempt.id)["executions"]
    assert execution["log"]["entries"] > 2_000
