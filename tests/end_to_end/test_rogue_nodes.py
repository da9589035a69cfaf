"""Nodes that break the rules of a link: refused, and neither the hive nor others notice.

Every test ends by running an attempt on a good node of the same hive.
"""

import json
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from protocol.entities import Attempt, Execution, LogEnd
from protocol.log_chunks import LogChunk, Segment, encode_payload, seal
from protocol.messages import Fetched, Heartbeat, HelloLogs, LogState, Ops, Result, Skip
from protocol.ops import encode_body
from protocol.states import AttemptPhase, ExecutionKind, ExecutionStatus
from tests.end_to_end.installation import Installation, make_repository
from tests.end_to_end.node_program import NodeProgram
from tests.end_to_end.rogue_node import RogueNode
from tests.end_to_end.waiting import until


class Ground:
    """A hive with a good node and its attempt, and a joined node whose agent never runs."""

    def __init__(self, folder: Path) -> None:
        self.installation = Installation(folder)
        self.folder = folder
        self.attempt = ""
        self.execution = ""

    def prepare(self) -> None:
        """Found the hive, run one attempt on the good node."""
        self.installation.found()
        repository = make_repository(self.folder / "project")
        self.installation.add_node("good", repository=repository)
        self.attempt = self.run_one()
        shown = self.installation.hive.attempt(self.attempt)
        self.execution = shown["executions"][0]["id"]

    def run_one(self) -> str:
        """Run an attempt on the good node to its end."""
        good = self.installation.nodes[0]
        attempt = self.installation.run("project", "echo still here", good, os.urandom(4).hex())
        ended = self.installation.hive.wait_ended(attempt)
        assert ended["outcome"] == "succeeded"
        return attempt

    def join_rogue(self) -> NodeProgram:
        """A joined node whose key the rogue uses."""
        name = f"rogue-{len(self.installation.nodes)}"
        node = self.installation.new_node(name)
        url = self.installation.hive.url
        node.json("join", url, self.installation.join_token(), "--name", name)
        return node


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """One hive for all of these: what one rogue does must not matter to the next."""
    made = Ground(tmp_path_factory.mktemp("rogues"))
    try:
        made.prepare()
        yield made
    finally:
        made.installation.close()


@pytest.fixture
def rogue(ground: Ground) -> Iterator[RogueNode]:
    """A rogue with a fresh key; afterwards the good node works, and so does the same hive."""
    hive = ground.installation.hive
    pid = hive.process.pid if hive.process else 0
    with RogueNode(hive, ground.join_rogue()) as made:
        yield made
    assert hive.running
    assert hive.process is not None
    assert hive.process.pid == pid
    ground.run_one()
    assert "Traceback" not in hive.log, hive.log[-3000:]


def chunk(execution_id: str, *, seq: int = 1, entry: int = 1) -> LogChunk:
    """A good chunk of one line."""
    return seal(
        [Segment(1, 5, b"forged\n", False)],
        execution_id=execution_id,
        chunk_seq=seq,
        first_entry=entry,
        entries=1,
        style=b"",
    )


FOREIGN_ID = "01a1fd00-0000-7000-8000-00000000000f"

GARBAGE = {
    "bytes": b"\xc1" * 100,
    "nothing": b"",
    "an unknown tag": b"\x81\xa4type\xa7nothing",
    "a list": b"\x93\x01\x02\x03",
    "deep nesting": b"\x91" * 10_000,
    "a text frame": "hello",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_on_a_live_link(what: str, rogue: RogueNode) -> None:
    """A frame that is no message closes the link with 4400."""
    rogue.link().send_raw(GARBAGE[what])
    code, reason = rogue.closed()
    assert (code, reason.split(":")[0]) == (4400, "bad_frame")


def test_a_refused_node_is_not_online(ground: Ground, rogue: RogueNode) -> None:
    """Once the hive has closed its link, nobody is told that the node is there."""
    for _ in range(5):
        rogue.link()
        rogue.connect_no += 1
        rogue.send_raw(b"\xc1")
        assert rogue.closed()[0] == 4400
        ground.installation.hive.wait_node(rogue.node_id, "offline")


def test_two_holders_are_both_refused(ground: Ground, rogue: RogueNode) -> None:
    """The one that has the link loses it with the verdict, not when it next writes."""
    hive = ground.installation.hive
    with RogueNode(hive, rogue.node) as twin:
        rogue.link()
        twin.link()
        assert rogue.closed()[0] == 4409
        challenge = rogue.dial()
        rogue.connect_no += 1
        rogue.send(rogue.hello(challenge), HelloLogs(logs=[], last=True))
        assert rogue.closed()[0] == 4403
        assert twin.closed()[0] == 4403
    hive.wait_node(rogue.node_id, "quarantined")
    hive.json("nodes", "release", rogue.node_id, "--instance", str(rogue.epoch))
    hive.wait_node(rogue.node_id, "offline")
    rogue.connect_no += 1
    rogue.link()
    hive.wait_node(rogue.node_id, "online")


def test_garbage_in_place_of_a_hello(rogue: RogueNode) -> None:
    """Whoever does not begin with a hello is shown out."""
    rogue.dial()
    rogue.send(Heartbeat(n=1))
    assert rogue.closed()[0] == 4400


def test_a_frame_too_large(rogue: RogueNode) -> None:
    """A frame over 256 KiB closes the link before it is taken."""
    rogue.link().send_raw(b"\0" * (256 * 1024 + 1))
    assert rogue.closed()[0] in {1009, 4400}


def test_a_wrong_signature(rogue: RogueNode) -> None:
    """A hello signed with another key is refused with 4401."""
    challenge = rogue.dial()
    rogue.send(rogue.hello(challenge, signature=b"\1" * 64), HelloLogs(logs=[], last=True))
    code, reason = rogue.closed()
    assert (code, reason.split(":")[0]) == (4401, "authentication_failed")


def test_an_old_hello(rogue: RogueNode) -> None:
    """A hello signed for another nonce, as one recorded on the way, is refused."""
    first = rogue.hello(rogue.dial())
    rogue.dial()
    rogue.send(first, HelloLogs(logs=[], last=True))
    assert rogue.closed()[0] == 4401


def test_another_nodes_id(ground: Ground, rogue: RogueNode) -> None:
    """A hello in another node's name, signed with one's own key, is refused."""
    good = ground.installation.hive.node("good")["id"]
    challenge = rogue.dial()
    rogue.send(rogue.hello(challenge, node_id=good), HelloLogs(logs=[], last=True))
    assert rogue.closed()[0] == 4401
    assert ground.installation.hive.node("good")["status"] == "online"


def test_an_unknown_node(rogue: RogueNode) -> None:
    """A node that never joined is told so."""
    challenge = rogue.dial()
    rogue.send(rogue.hello(challenge, node_id=FOREIGN_ID), HelloLogs(logs=[], last=True))
    code, reason = rogue.closed()
    assert (code, reason.split(":")[0]) == (4403, "unknown_node")


def bombed(execution_id: str) -> LogChunk:
    """A chunk whose blob says that it is small and is not."""
    blob = zstandard.ZstdCompressor().compress(b"\0" * 50_000_000)
    return LogChunk(
        execution_id=execution_id,
        chunk_seq=1,
        first_entry=1,
        entries=1,
        raw_bytes=1000,
        crc32=zlib.crc32(blob),
        first_ms=1,
        last_ms=1,
        blob=blob,
    )


def corrupt(execution_id: str) -> LogChunk:
    """A chunk whose checksum does not fit."""
    good = chunk(execution_id)
    return LogChunk(
        execution_id=execution_id,
        chunk_seq=1,
        first_entry=1,
        entries=1,
        raw_bytes=good.raw_bytes,
        crc32=good.crc32 ^ 1,
        first_ms=1,
        last_ms=1,
        blob=good.blob,
    )


def test_a_corrupt_chunk(ground: Ground, rogue: RogueNode) -> None:
    """A chunk whose checksum does not fit is not stored, and its link is closed."""
    rogue.link().send(corrupt(FOREIGN_ID))
    assert rogue.closed()[0] == 4400
    assert ground.installation.hive.chunks(FOREIGN_ID) == []


def test_a_bomb_in_a_chunk(ground: Ground, rogue: RogueNode) -> None:
    """A chunk that would decompress to 50 MB does no harm when it comes, nor when it is read."""
    hive, execution = ground.installation.hive, "01a1fd00-0000-7000-8000-0000000000b0"
    before = memory_of(hive.process.pid)
    attempt = state_of_attempt(rogue, FOREIGN_ID.replace("f", "b"), execution)
    rogue.link()
    rogue.send(Ops(epoch=rogue.epoch, first_seq=1, ops=attempt))
    rogue.send(bombed(execution))
    rogue.send(Heartbeat(n=1))
    shown = until(
        lambda: hive.call("attempts", "logs", FOREIGN_ID.replace("f", "b"), "--json"),
        "the log with the bomb can be read",
        holds=lambda done: done.returncode == 0 and done.stdout,
    )
    assert json.loads(shown.stdout) == {"gap": [1, 1], "reason": "corrupt"}
    assert memory_of(hive.process.pid) - before < 40_000_000


def memory_of(pid: int) -> int:
    """The resident bytes of a process."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def state_of_attempt(rogue: RogueNode, attempt_id: str, execution_id: str) -> list:
    """Ops that tell of an attempt and its execution."""
    attempt = Attempt(
        id=attempt_id,
        task_id=FOREIGN_ID,
        task_title="Forged",
        checkout_id=FOREIGN_ID,
        project_identity="forged",
        project_name="forged",
        executor="command",
        branch="main",
        phase=AttemptPhase.RUNNING,
        executions=[execution_id],
    )
    execution = Execution(
        id=execution_id,
        attempt_id=attempt_id,
        kind=ExecutionKind.AGENT,
        status=ExecutionStatus.SUCCEEDED,
    )
    return [
        rogue.op("attempt", attempt_id, encode_body(attempt)),
        rogue.op("execution", execution_id, encode_body(execution)),
    ]


def test_a_log_of_another_node(ground: Ground, rogue: RogueNode) -> None:
    """A chunk for another node's execution is refused and audited; the log stays as it was."""
    hive = ground.installation.hive
    before = hive.chunks(ground.execution)
    rogue.link().send(chunk(ground.execution, seq=2, entry=2))
    assert rogue.closed()[1].startswith("forbidden")
    assert hive.chunks(ground.execution) == before
    assert [one["text"] for one in hive.lines("attempts", "logs", ground.attempt)] == ["still here"]
    audited = [one for one in hive.json("events")["items"] if one["node_id"] == rogue.node_id]
    assert any(one["audit"] and ground.execution in str(one) for one in audited), audited


def test_a_fetched_chunk_of_another_node(ground: Ground, rogue: RogueNode) -> None:
    """The same as an answer to a need that nobody asked."""
    hive = ground.installation.hive
    before = hive.chunks(ground.execution)
    rogue.link().send(
        Fetched(request_id="made up", chunk=chunk(ground.execution, seq=2, entry=2)), Heartbeat(n=1)
    )
    time_to_settle(rogue)
    assert hive.chunks(ground.execution) == before


def test_a_log_of_another_node_in_the_hello(ground: Ground, rogue: RogueNode) -> None:
    """A hello that names another node's log learns nothing of it."""
    challenge = rogue.dial()
    state = LogState(ground.execution, 1, 1, b"")
    rogue.send(rogue.hello(challenge), HelloLogs(logs=[state], last=True))
    assert rogue.closed()[1].startswith("forbidden")


def test_an_attempt_of_another_node(ground: Ground, rogue: RogueNode) -> None:
    """An op about another node's attempt changes nothing of it."""
    hive = ground.installation.hive
    before = hive.attempt(ground.attempt)
    rogue.link().send(
        Ops(
            epoch=rogue.epoch,
            first_seq=1,
            ops=state_of_attempt(rogue, ground.attempt, ground.execution),
        ),
        Heartbeat(n=1),
    )
    time_to_settle(rogue)
    assert hive.attempt(ground.attempt) == before
    events = hive.json("events", "--node", rogue.node_id)["items"]
    assert any(one["audit"] for one in events), events


def test_a_log_end_of_another_node(ground: Ground, rogue: RogueNode) -> None:
    """Nor does the end of another node's log."""
    hive = ground.installation.hive
    before = hive.attempt(ground.attempt)
    end = LogEnd(execution_id=ground.execution, chunks=9, entries=9, bytes=9)
    ops = [rogue.op("log_end", ground.execution, encode_body(end))]
    rogue.link().send(Ops(epoch=rogue.epoch, first_seq=1, ops=ops), Heartbeat(n=1))
    time_to_settle(rogue)
    assert hive.attempt(ground.attempt) == before


def time_to_settle(rogue: RogueNode) -> None:
    """Wait until the hive has answered or closed: it takes frames in order."""
    from websockets.exceptions import ConnectionClosed

    deadline_s = time.monotonic() + 5
    while time.monotonic() < deadline_s:
        try:
            if type(rogue.receive()).__name__ == "HeartbeatReply":
                break
        except ConnectionClosed:
            break


OUT_OF_BOUNDS = {
    "a hole": lambda rogue: Ops(epoch=rogue.epoch, first_seq=5, ops=[rogue.op("x", "y", b"")]),
    "number zero": lambda rogue: Ops(epoch=rogue.epoch, first_seq=0, ops=[rogue.op("x", "y", b"")]),
    "an unnamed epoch": lambda rogue: Ops(epoch=77, first_seq=1, ops=[rogue.op("x", "y", b"")]),
    "too many ops": lambda rogue: Ops(
        epoch=rogue.epoch, first_seq=1, ops=[rogue.op("x", "y", b"")] * 201
    ),
    "a body too large": lambda rogue: Ops(
        epoch=rogue.epoch, first_seq=1, ops=[rogue.op("x", "y", b"\0" * 65537)]
    ),
    "a skip of nothing": lambda rogue: Skip(epoch=rogue.epoch, through=9, digest=b"\0" * 16),
    "a chunk number of zero": lambda _: LogChunk(
        execution_id=FOREIGN_ID,
        chunk_seq=0,
        first_entry=1,
        entries=1,
        raw_bytes=1,
        crc32=0,
        first_ms=0,
        last_ms=0,
        blob=b"",
    ),
    "a payload too large": lambda _: LogChunk(
        execution_id=FOREIGN_ID,
        chunk_seq=1,
        first_entry=1,
        entries=1,
        raw_bytes=300_000,
        crc32=0,
        first_ms=0,
        last_ms=0,
        blob=encode_payload([Segment(1, 1, b"x", False)]),
    ),
}


@pytest.mark.parametrize("what", OUT_OF_BOUNDS)
def test_numbers_out_of_bounds(what: str, rogue: RogueNode) -> None:
    """A frame that breaks the rules of numbers closes the link, and is taken in no part."""
    rogue.link().send(OUT_OF_BOUNDS[what](rogue))
    code, _ = rogue.closed()
    assert code in {4400, 4410}


def test_ops_that_mean_nothing(ground: Ground, rogue: RogueNode) -> None:
    """Unknown kinds and bodies that cannot be read are kept aside, and the journal goes on."""
    hive = ground.installation.hive
    ops = [
        rogue.op("from the future", "a", b"\x81\xa1a\x01"),
        rogue.op("attempt", "b", b"\xc1\xc1"),
        rogue.op("execution", "c", b""),
    ]
    rogue.link().send(Ops(epoch=rogue.epoch, first_seq=1, ops=ops))
    while type(frame := rogue.receive()).__name__ != "Ack":
        pass
    assert frame.seq == 3
    aside = hive.rows("SELECT kind FROM unknown_op WHERE node_id = ?", rogue.node_id)
    dead = hive.rows("SELECT kind FROM dead_op WHERE node_id = ? ORDER BY seq", rogue.node_id)
    assert aside == [("from the future",)]
    assert dead == [("attempt",), ("execution",)]


def test_answers_to_calls_nobody_made(rogue: RogueNode) -> None:
    """A result nobody waits for is dropped; the link goes on."""
    rogue.link().send(Result(call_id="nobody's", body=b"x"), Heartbeat(n=7))
    while type(frame := rogue.receive()).__name__ != "HeartbeatReply":
        pass
    assert frame.n == 7


def test_bytes_that_are_not_http(ground: Ground, rogue: RogueNode) -> None:
    """Garbage on the port itself, also a connection that never says a word, disturbs nobody."""
    import socket

    rogue.link()
    silent = socket.create_connection(("127.0.0.1", ground.installation.hive.port))
    with socket.create_connection(("127.0.0.1", ground.installation.hive.port)) as connection:
        connection.settimeout(20)
        connection.sendall(os.urandom(4096) + b"\r\n\r\n")
        assert b" 400 " in connection.recv(4096)
    ground.run_one()
    silent.close()
