"""Clients that reach a node straight, and through the hive: the same content by both ways."""

import contextlib
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hive.client import HiveAwayError, HiveClient
from hive.ways import Ways
from protocol.errors import ErrorCode, SkepError
from tests.end_to_end.hive_program import free_port
from tests.end_to_end.installation import Installation, git
from tests.end_to_end.node_program import NodeProgram
from tests.end_to_end.waiting import until

#: Runs until the test lets go of it.
WAITING = "sh -c 'echo begun; until [ -e done ]; do sleep 0.1; done; echo ended'"


@pytest.fixture
def node(installation: Installation, repository: Path) -> NodeProgram:
    """A node that listens for direct connections."""
    made = installation.new_node("node1")
    made.environment["SKEP_NODE_DIRECT_LISTEN"] = f"127.0.0.1:{free_port()}"
    made.json("join", installation.hive.url, installation.join_token(), "--name", "node1")
    made.json("checkout", "add", str(repository))
    made.start()
    installation.hive.wait_node("node1")
    installation.wait_project("project", "node1")
    return made


@pytest.fixture
def attempt(installation: Installation, node: NodeProgram) -> str:
    """An attempt that is running."""
    made = installation.run("project", WAITING, node)
    until(
        lambda: installation.hive.attempt_or_none(made) or {},
        "the attempt runs",
        holds=lambda one: one.get("phase") == "running" and one["worktree"],
    )
    return made


class Viewer:
    """Someone with a token of the hive, and the clients they speak through."""

    def __init__(self, installation: Installation) -> None:
        self._hive = installation.hive
        self._clients: list[HiveClient] = []
        self._followers: list[Follower] = []

    def info(self, attempt: str) -> dict[str, Any]:
        """What the hive says of the ways to an attempt."""
        path = f"attempts/{attempt}/stream-connection-info"
        told: dict[str, Any] = self._hive.client.get(path)
        return told

    def direct(self, attempt: str) -> HiveClient:
        """A client at the node's own address, with the token of an attempt."""
        info = self.info(attempt)
        return self.client(info["direct_urls"][0], info["token"])

    def relay(self) -> HiveClient:
        """A client of the hive."""
        return self.client(self._hive.url, self._hive.environment["SKEP_TOKEN"])

    def client(self, url: str, token: str) -> HiveClient:
        made = HiveClient(url, token)
        self._clients.append(made)
        return made

    def ways(self, attempt: str, told: list[str]) -> Ways:
        """Whichever way works."""
        return Ways(self.relay(), attempt, told.append)

    def follow(self, client: HiveClient | Ways, attempt: str, **asked: Any) -> "Follower":
        """Follow an attempt's diff."""
        made = Follower(client, attempt, **asked)
        self._followers.append(made)
        return made

    def close(self) -> None:
        for follower in self._followers:
            follower.close()
        for client in self._clients:
            client.close()


@pytest.fixture
def viewer(installation: Installation) -> Iterator[Viewer]:
    """Someone who looks at attempts."""
    made = Viewer(installation)
    yield made
    made.close()


def worktree_of(installation: Installation, attempt: str) -> Path:
    """Where the attempt works."""
    return Path(installation.hive.attempt(attempt)["worktree"])


class Follower:
    """Reads a live diff in a thread of its own, as a viewer's client does."""

    def __init__(self, client: HiveClient | Ways, attempt: str, **asked: Any) -> None:
        self.updates: list[dict[str, Any]] = []
        self.arrived_s: list[float] = []
        self.error: SkepError | None = None
        self._client = client
        self._pieces = client.pieces(f"attempts/{attempt}/diff/stream", timeout_s=60.0, **asked)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        waiting = b""
        try:
            for piece in self._pieces:
                *lines, waiting = (waiting + piece).split(b"\n")
                for line in filter(None, lines):
                    self.updates.append(json.loads(line))
                    self.arrived_s.append(time.monotonic())
        except SkepError as error:
            self.error = error

    def wait(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many updates came."""
        return until(lambda: self.updates, f"{count} updates", holds=lambda got: len(got) >= count)

    def close(self) -> None:
        """Have the reading end: its socket falls silent for ever."""
        client = self._client
        if isinstance(client, Ways):
            client = client._direct or client._hive
        if client._kept is not None and client._kept.sock is not None:
            with contextlib.suppress(OSError):
                client._kept.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)
        if isinstance(self._client, Ways):
            self._client.close()

    def wait_broken(self) -> SkepError:
        """Wait until the stream broke."""
        error = until(lambda: self.error, "the stream breaks")
        assert error is not None
        return error


def content(updates: list[dict[str, Any]]) -> dict[str, Any]:
    """What a client shows after these updates: every file by its path."""
    files: dict[str, Any] = {}
    for update in updates:
        if update["whole"]:
            files.clear()
        for path in update["removed"]:
            del files[path]
        files.update({file["path"]: file for file in update["changed"]})
    return files


def test_a_live_diff_by_both_ways(
    installation: Installation, node: NodeProgram, attempt: str, viewer: Viewer
) -> None:
    """Edits reach who reads through the relay and who reads straight, with the same cursors."""
    worktree = worktree_of(installation, attempt)
    relay = viewer.relay()
    followers = [
        viewer.follow(viewer.relay(), attempt),
        viewer.follow(viewer.direct(attempt), attempt),
    ]
    for follower in followers:
        assert follower.wait(1)[0]["changed"] == []
    (worktree / "README.md").write_text("another\n")
    (worktree / "new").mkdir()
    (worktree / "new/file.txt").write_text("1\n")
    for follower in followers:
        until(
            lambda one=follower: content(list(one.updates)),
            "both files are there",
            holds=lambda files: set(files) == {"README.md", "new/file.txt"},
        )
    whole = relay.get(f"attempts/{attempt}/diff")
    for follower in followers:
        assert list(content(follower.updates).values()) == whole["files"]
    first, second = (follower.updates[-1]["cursor"] for follower in followers)
    assert first == second
    assert viewer.direct(attempt).get(f"attempts/{attempt}/diff") == whole


def test_a_forced_switch_loses_nothing(
    installation: Installation, node: NodeProgram, attempt: str, viewer: Viewer
) -> None:
    """The direct way ends in the middle: the client goes on by the relay from its cursor."""
    worktree = worktree_of(installation, attempt)
    (worktree / "one.txt").write_text("1\n")
    told: list[str] = []
    hive = viewer.relay()
    ways = viewer.ways(attempt, told)
    follower = viewer.follow(ways, attempt)
    first = follower.wait(1)[0]
    assert told == ["direct"]
    # The agent comes back without its listener; what it runs never noticed.
    node.kill()
    assert isinstance(follower.wait_broken(), HiveAwayError)
    (worktree / "two.txt").write_text("2\n")
    del node.environment["SKEP_NODE_DIRECT_LISTEN"]
    node.start()
    installation.hive.wait_node("node1")
    assert told == ["direct", "relay"]
    again = viewer.follow(ways, attempt, cursor=first["cursor"])
    update = again.wait(1)[0]
    shown = content([first, update])
    assert list(shown.values()) == hive.get(f"attempts/{attempt}/diff")["files"]
    assert set(shown) == {"one.txt", "two.txt"}
    # With the cursor of what is there, nothing is told again.
    third = viewer.follow(viewer.relay(), attempt, cursor=update["cursor"]).wait(1)[0]
    assert (third["whole"], third["changed"]) == (False, [])
    until(
        lambda: viewer.info(attempt),
        "no address is told any more",
        holds=lambda info: info["direct_urls"] == [],
    )


def test_reading_straight_answers_as_the_relay_does(
    installation: Installation, node: NodeProgram, attempt: str, viewer: Viewer
) -> None:
    """Every reading operation answers the same by both ways; the log by the same numbers."""
    info = viewer.info(attempt)
    direct, relay = viewer.direct(attempt), installation.hive.client
    asked: dict[str, Any]
    for path, asked in (
        ("branch-status", {}),
        ("diff", {}),
        ("diff", {"stat": True}),
        ("files", {}),
    ):
        here = direct.get(f"attempts/{attempt}/{path}", **asked)
        there = relay.get(f"attempts/{attempt}/{path}", **asked)
        assert here == there, path
    path = f"attempts/{attempt}/files/README.md"
    assert b"".join(direct.pieces(path)) == b"".join(relay.pieces(path)) == b"This is project.\n"
    execution = installation.hive.attempt(attempt)["executions"][-1]["id"]
    page = f"executions/{execution}/log"
    lines = until(lambda: direct.get(page)["entries"], "the first line is there")
    assert lines == relay.get(page, source="node")["entries"]
    assert direct.get(page, after=lines[-1]["n"])["entries"] == []
    by_task = relay.get(
        f"tasks/{installation.hive.attempt(attempt)['task_id']}/stream-connection-info"
    )
    assert (by_task["attempt_id"], by_task["direct_urls"]) == (attempt, info["direct_urls"])


def test_a_changing_call_straight(
    installation: Installation, node: NodeProgram, attempt: str, viewer: Viewer
) -> None:
    """One capability does one thing once; the hive has its key before, its outcome after."""
    hive = installation.hive.client
    told = hive.post(
        f"attempts/{attempt}/direct-calls",
        {"operation": "stop", "request": {"grace_s": 1.0}},
        key="stop-1",
    )
    assert hive.get("operations/stop-1")["status"] == "sent"
    client = viewer.client(told["direct_urls"][0], told["token"])
    path = f"attempts/{attempt}/stop"
    with pytest.raises(SkepError) as other_body:
        client.post(path, {"grace_s": 2.0}, key="stop-1")
    assert other_body.value.code is ErrorCode.FORBIDDEN
    with pytest.raises(SkepError) as no_key:
        client.post(path, {"grace_s": 1.0})
    assert no_key.value.code is ErrorCode.INVALID
    assert client.post(path, {"grace_s": 1.0}, key="stop-1")["id"] == attempt
    with pytest.raises(SkepError) as replayed:
        client.post(path, {"grace_s": 1.0}, key="stop-1")
    assert replayed.value.code is ErrorCode.FORBIDDEN
    until(
        lambda: hive.get("operations/stop-1")["status"],
        "the hive has the outcome",
        holds=lambda status: status == "done",
    )
    assert installation.hive.wait_ended(attempt)["outcome"] == "stopped"


def test_a_token_of_a_stream_reads_its_attempt_alone(
    installation: Installation, node: NodeProgram, attempt: str, viewer: Viewer
) -> None:
    """It changes nothing, reads no other attempt, and nothing without it is answered."""
    other = installation.run("project", "true", node)
    info = viewer.info(attempt)
    direct = viewer.direct(attempt)
    with pytest.raises(SkepError) as stopped:
        direct.post(f"attempts/{attempt}/stop", {}, key="k")
    assert stopped.value.code is ErrorCode.FORBIDDEN
    with pytest.raises(SkepError) as foreign:
        direct.get(f"attempts/{other}/diff")
    assert foreign.value.code is ErrorCode.FORBIDDEN
    execution = installation.hive.wait_ended(other)["executions"][-1]["id"]
    with pytest.raises(SkepError) as log:
        direct.get(f"executions/{execution}/log")
    assert log.value.code is ErrorCode.NOT_FOUND
    own = viewer.client(info["direct_urls"][0], installation.hive.environment["SKEP_TOKEN"])
    with pytest.raises(SkepError) as refused:
        own.get(f"attempts/{attempt}/diff")
    assert refused.value.code is ErrorCode.UNAUTHENTICATED
    for path in ("status", "attempts", "checkouts"):
        with pytest.raises(SkepError) as local:
            direct.get(path)
        assert local.value.code is ErrorCode.NOT_FOUND


def test_a_token_of_another_generation(
    installation: Installation, node: NodeProgram, attempt: str, viewer: Viewer
) -> None:
    """Once the node has heard of a restarted hive, what it signed before is taken no more."""
    direct = viewer.direct(attempt)
    assert direct.get(f"attempts/{attempt}/diff")["files"] == []
    installation.hive.stop()
    # The hive is away; its word still holds.
    assert direct.get(f"attempts/{attempt}/diff")["files"] == []
    installation.hive.start()
    node.hurry()
    installation.hive.wait_node("node1")
    with pytest.raises(SkepError) as refused:
        direct.get(f"attempts/{attempt}/diff")
    assert refused.value.code is ErrorCode.UNAUTHENTICATED
    fresh = viewer.direct(attempt)
    assert fresh.get(f"attempts/{attempt}/diff")["files"] == []


def test_addresses_at_which_nobody_answers(
    installation: Installation, repository: Path, viewer: Viewer
) -> None:
    """A node that cannot be reached straight is read through the hive; one that is away is not."""
    node = installation.new_node("node1")
    node.environment["SKEP_NODE_DIRECT_LISTEN"] = f"127.0.0.1:{free_port()}"
    nobody = f"http://127.0.0.1:{free_port()},http://192.0.2.1:8701"
    node.environment["SKEP_NODE_DIRECT_URLS"] = nobody
    node.json("join", installation.hive.url, installation.join_token(), "--name", "node1")
    node.json("checkout", "add", str(repository))
    node.start()
    installation.wait_project("project", "node1")
    attempt = installation.run("project", "true", node)
    installation.hive.wait_ended(attempt)
    told: list[str] = []
    ways = viewer.ways(attempt, told)
    assert viewer.info(attempt)["direct_urls"] == nobody.split(",")
    assert ways.get(f"attempts/{attempt}/diff")["files"] == []
    assert told == ["relay"]
    node.kill()
    installation.hive.wait_node("node1", "offline")
    told.clear()
    ways = viewer.ways(attempt, told)
    with pytest.raises(SkepError) as away:
        ways.get(f"attempts/{attempt}/diff")
    assert away.value.code is ErrorCode.NODE_OFFLINE
    assert told == ["offline"]


def lines_of(process: subprocess.Popen[Any]) -> Iterator[dict[str, Any]]:
    """The JSON lines a command prints, as they come."""
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def test_the_commands(installation: Installation, node: NodeProgram, attempt: str) -> None:
    """`diff --follow` and `logs -f` tell people which way they go, and programs only what came."""
    worktree = worktree_of(installation, attempt)
    hive = installation.hive
    with hive.popen(
        "attempt", "diff", attempt, "--follow", "--json", stdout=subprocess.PIPE, text=True
    ) as process:
        updates = lines_of(process)
        assert next(updates)["whole"]
        (worktree / "README.md").write_text("another\n")
        assert [file["path"] for file in next(updates)["changed"]] == ["README.md"]
        process.kill()
    with hive.popen(
        "attempts", "logs", attempt, "-f",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as following:  # fmt: skip
        assert following.stdout is not None
        assert following.stderr is not None
        assert following.stdout.readline() == "begun\n"
        # The node's listener goes; the log goes on by the relay, nothing twice.
        node.kill()
        del node.environment["SKEP_NODE_DIRECT_LISTEN"]
        node.start()
        hive.wait_node("node1")
        (worktree / "done").touch()
        out, said = following.communicate(timeout=60)
    assert out == "ended\n"
    assert following.returncode == 0, said
    assert said.index("[direct]") < said.index("[relay]")
    assert git(worktree, "status", "--porcelain") != ""


#: Commands that read, with what goes behind the attempt.
READING = (("diff",), ("files",), ("cat", "README.md"), ("branch-status",), ("commits",))


def test_commands_that_read_once(
    installation: Installation, node: NodeProgram, attempt: str
) -> None:
    """They go straight where they can, else by the relay, say so to people, and answer the same."""
    hive = installation.hive
    (worktree_of(installation, attempt) / "README.md").write_text("another\n")

    def answers(way: str) -> list[tuple[str, str]]:
        """What each prints for people and for programs."""
        printed = []
        for command, *rest in READING:
            # The beginning of an id names the attempt to a command, and to no node.
            people = hive.call("attempt", command, attempt[:13], *rest)
            program = hive.call("attempt", command, attempt[:13], *rest, "--json")
            assert (people.returncode, people.stderr) == (0, f"[{way}]\n"), people
            assert (program.returncode, program.stderr) == (0, ""), program
            json.loads(program.stdout)
            printed.append((people.stdout, program.stdout))
        return printed

    straight = answers("direct")
    assert straight[2][0] == "another\n"
    refused = hive.refused("attempt", "cat", attempt, "nowhere.txt")
    assert refused["code"] == "not_found"
    node.stop()
    # Somebody listens there, and never says anything: after 2 seconds the relay is taken.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        node.environment["SKEP_NODE_DIRECT_URLS"] = url
        node.start()
        hive.wait_node("node1")
        path = f"attempts/{attempt}/stream-connection-info"
        until(
            lambda: hive.client.get(path)["direct_urls"],
            "the other address is told",
            holds=lambda urls: urls == [url],
        )
        assert answers("relay") == straight
