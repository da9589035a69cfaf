"""Operations for a node that is away, through real processes: once, or not at all, as was promised.

What was done is counted where it is done: by the signal that the attempt's own program gets.
"""

from pathlib import Path
from typing import Any

from tests.end_to_end.installation import Installation
from tests.end_to_end.node_program import NodeProgram
from tests.end_to_end.waiting import until

#: Writes a line for each interrupt it gets, and goes on: a stop done twice is seen as two.
COUNTS = """
import pathlib, signal, sys, time
file = pathlib.Path(sys.argv[1])
def told(*_):
    with file.open("a") as out:
        out.write("told\\n")
signal.signal(signal.SIGINT, told)
file.touch()
while True:
    time.sleep(0.05)
"""


class Counting:
    """An attempt whose program counts how often it is asked to stop."""

    def __init__(self, installation: Installation, node: NodeProgram, name: str) -> None:
        self.told = installation.folder / f"{name}.told"
        program = installation.folder / "counts.py"
        program.write_text(COUNTS)
        self.id = installation.run("project", f"python3 {program} {self.told}", node)
        until(self.told.exists, "the program runs")

    @property
    def stops(self) -> int:
        """How often it was asked."""
        return len(self.told.read_text().splitlines())

    def later(self, hive: Any, key: str, *more: str) -> dict[str, Any]:
        """Ask for its stop once its node is back, patient enough that the first try is seen."""
        asked: dict[str, Any] = hive.json(
            *("attempt", "stop", self.id, "--when", "online", "--grace-s", "1"),
            *("--idempotency-key", key, *more),
        )
        return asked


def wait_settled(installation: Installation, key: str, status: str) -> dict[str, Any]:
    """Wait until an operation stands so."""
    return until(
        lambda: installation.hive.client.get(f"operations/{key}"),
        f"operation {key} is {status}",
        holds=lambda row: row["status"] == status,
    )


def test_done_once_whatever_restarts(installation: Installation, repository: Path) -> None:
    """The node killed, asked, the hive killed and started, the node back: one stop, one report."""
    hive = installation.hive
    node = installation.add_node("laptop", repository=repository)
    attempt = Counting(installation, node, "one")
    node.kill()
    hive.wait_node("laptop", "offline")
    kept = attempt.later(hive, "stop-1")
    assert (kept["status"], kept["node_name"], kept["node_online"]) == ("waiting", "laptop", False)
    assert kept["node_last_seen_at_ms"] > 0
    assert kept["kept"]["expected_execution_id"] == hive.attempt(attempt.id)["executions"][0]["id"]
    hive.kill()
    hive.start()
    assert [row["key"] for row in hive.json("operations", "--waiting")["items"]] == ["stop-1"]
    node.start()
    done = wait_settled(installation, "stop-1", "done")
    assert done["kept"]["deliveries"] >= 1
    ended = hive.wait_ended(attempt.id)
    assert ended["outcome"] == "stopped"
    # Both anew, and the same asked again: nothing is done any more, and nothing waits.
    hive.kill()
    node.kill()
    hive.start()
    again = attempt.later(hive, "stop-1")
    assert again["id"] == attempt.id
    node.start()
    hive.wait_node("laptop")
    node.wait_sent()
    assert attempt.stops == 1
    counted = node.rows("state", "SELECT count(*) FROM operation_key WHERE key = 'stop-1'")
    assert counted == [(1,)]
    events = hive.json("events", "--attempt", attempt.id)["items"]
    told = [event["kind"] for event in reversed(events) if event["what_id"] == "stop-1"]
    assert told == ["operation_kept", "operation_delivered", "operation_done"]
    listed = hive.json("operations", "--attempt", attempt.id)["items"]
    assert [(row["operation"], row["status"]) for row in listed] == [
        ("stop", "done"),
        ("start", "done"),
    ]


def test_cancelled_expired_and_revoked_do_not_run(
    installation: Installation, repository: Path
) -> None:
    """Taken back, too late, or by one who may not any more: the program is never asked."""
    hive = installation.hive
    node = installation.add_node("laptop", repository=repository)
    attempt = Counting(installation, node, "one")
    node.stop()
    hive.wait_node("laptop", "offline")
    admin = hive.environment["SKEP_TOKEN"]
    ann = hive.json("tokens", "create", "--name", "ann", "--role", "operator")["token"]
    eve = hive.json("tokens", "create", "--name", "eve", "--role", "viewer")["token"]
    hive.environment["SKEP_TOKEN"] = eve
    refused = hive.refused("attempt", "stop", attempt.id, "--when", "online")
    assert refused["code"] == "forbidden"
    hive.environment["SKEP_TOKEN"] = ann
    attempt.later(hive, "by-ann")
    attempt.later(hive, "cancelled")
    attempt.later(hive, "expired", "--expires-in", "1s")
    hive.environment["SKEP_TOKEN"] = eve
    assert hive.refused("operations", "cancel", "cancelled")["code"] == "forbidden"
    hive.environment["SKEP_TOKEN"] = admin
    assert hive.json("operations", "cancel", "cancelled")["status"] == "cancelled"
    hive.json("tokens", "revoke", "ann")
    wait_settled(installation, "expired", "expired")
    node.start()
    failed = wait_settled(installation, "by-ann", "failed")
    assert failed["error"]["code"] == "forbidden"
    assert "revoked" in failed["error"]["message"]
    node.wait_sent()
    assert hive.attempt(attempt.id)["phase"] == "running"
    assert attempt.stops == 0
    keys = [key for (key,) in node.rows("state", "SELECT key FROM operation_key")]
    assert not {"by-ann", "cancelled", "expired"} & set(keys)


def test_another_run_since_is_not_stopped(installation: Installation, repository: Path) -> None:
    """Meant for a run that ended while the node was away: the one that followed it goes on."""
    hive = installation.hive
    node = installation.add_node("laptop", repository=repository)
    attempt = Counting(installation, node, "one")
    node.stop()
    hive.wait_node("laptop", "offline")
    kept = attempt.later(hive, "stop-1")
    seen = hive.attempt(attempt.id)["executions"][0]["id"]
    assert kept["kept"]["expected_execution_id"] == seen
    # The node works alone: its operator ends that run, and gives the attempt another turn.
    hive.stop()
    node.start()
    node.json("attempt", "stop", attempt.id, "--grace-s", "1")
    until(
        lambda: [one["phase"] for one in node.json("attempts")["items"]],
        "the first run ended",
        holds=lambda phases: phases == ["ended"],
    )
    again = installation.folder / "again.told"
    program = installation.folder / "counts.py"
    node.json("attempt", "follow-up", attempt.id, "--command", f"python3 {program} {again}")
    until(again.exists, "the second run began")
    hive.start()
    node.hurry()
    hive.wait_node("laptop")
    refused = wait_settled(installation, "stop-1", "failed")
    assert refused["error"]["code"] == "expected_execution_moved"
    node.wait_sent()
    shown = hive.attempt(attempt.id)
    assert (shown["phase"], len(shown["executions"])) == ("running", 2)
    assert shown["executions"][-1]["status"] == "running"
    assert again.read_text() == ""
    # Who saw the second run may stop it.
    hive.json("attempt", "stop", attempt.id, "--when", "online", "--grace-s", "1")
    assert hive.wait_ended(attempt.id)["outcome"] == "stopped"
    assert again.read_text().splitlines() == ["told"]


def test_a_restored_hive_asks_a_person(installation: Installation, repository: Path) -> None:
    """Two waited when the backup was made, one was done since: the other leaves when confirmed."""
    hive, folder = installation.hive, installation.folder
    node = installation.add_node("laptop", repository=repository)
    first, second = (Counting(installation, node, name) for name in ("one", "two"))
    node.kill()
    hive.wait_node("laptop", "offline")
    first.later(hive, "first")
    second.later(hive, "second")
    data = ("--data", str(hive.data_dir))
    hive.json("backup", *data, str(folder / "backup.db"))
    hive.json("operations", "cancel", "second")
    node.start()
    wait_settled(installation, "first", "done")
    hive.wait_ended(first.id)
    node.kill()
    hive.stop()
    hive.json("restore", *data, str(folder / "backup.db"), "--force")
    hive.start()
    waiting = hive.json("operations", "--waiting")["items"]
    assert sorted(row["key"] for row in waiting if row["kept"]["held"]) == ["first", "second"]
    node.start()
    # The node's own report says that the first was done; nothing of it is sent again.
    wait_settled(installation, "first", "done")
    node.wait_sent()
    held = hive.json("operations", "show", "second")
    assert (held["status"], held["kept"]["deliveries"]) == ("waiting", 0)
    assert (first.stops, second.stops) == (1, 0)
    assert hive.json("operations", "confirm", "second")["kept"]["held"] is False
    wait_settled(installation, "second", "done")
    assert hive.wait_ended(second.id)["outcome"] == "stopped"
    assert (first.stops, second.stops) == (1, 1)


def test_the_attempt_is_there_when_a_start_is_answered(
    installation: Installation, repository: Path
) -> None:
    """Read at once, by its id, and in the list: no waiting, no guess."""
    hive = installation.hive
    installation.add_node("laptop", repository=repository)
    task = installation.task("project")
    attempt = hive.client.post(
        f"tasks/{task}/attempts", {"node_id": "any", "command": "true"}, key="start-1"
    )
    assert hive.rows("SELECT id FROM attempt WHERE id = ?", attempt["id"]) == [(attempt["id"],)]
    assert hive.attempt(attempt["id"])["id"] == attempt["id"]
    hive.close_client()
    hive.kill()
    hive.start()
    same = hive.client.post(
        f"tasks/{task}/attempts", {"node_id": "any", "command": "true"}, key="start-1"
    )
    assert same["id"] == attempt["id"]
