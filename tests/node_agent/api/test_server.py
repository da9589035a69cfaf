"""The local socket, through the client that the commands use."""

import asyncio
import contextlib
import http.client
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from node_agent.api.exchange import ApiReply, ApiRequest, reply_json
from node_agent.api.server import LocalApi, _Peer
from node_agent.config import NodeConfig
from node_agent.local_client import LocalClient
from protocol.errors import ErrorCode, OperationError


async def ask(function: Callable[..., Any], *args: Any, **more: Any) -> Any:
    """Run the blocking client beside the server."""
    return await asyncio.to_thread(function, *args, **more)


@contextlib.asynccontextmanager
async def serving(folder: Path, answerer: Any) -> AsyncIterator[LocalClient]:
    """Serve in this folder, and give the client for it."""
    api = LocalApi(folder / "agent.sock", answerer, node_id="node-1")
    await api.start()
    try:
        yield LocalClient(NodeConfig(data_dir=folder))
    finally:
        await api.close()


async def echo(method: str, path: str, asked: ApiRequest) -> ApiReply:
    """Answer what was asked."""
    return reply_json(
        [method, path, dict(asked.query), asked.body.decode(), asked.key, dict(asked.path)]
    )


@pytest.mark.asyncio
async def test_what_is_asked_arrives_whole(tmp_path: Path) -> None:
    """Method, raw path, query, body and key reach the answerer as they were sent."""
    async with serving(tmp_path, echo) as client:
        assert await ask(client.running)
        assert await ask(client.get, "a/b%2Fc", {"x": "1 2", "y": None}) == [
            "GET",
            "/api/v1/a/b%2Fc",
            {"x": "1 2"},
            "",
            None,
            {},
        ]
        [_, path, *_] = await ask(client.get, "new%0Aline")
        assert path == "/api/v1/new%0Aline"
        sent = await ask(client.send, "POST", "a", {"b": "ü"}, key="key-1")
        assert sent == ["POST", "/api/v1/a", {}, '{"b":"ü"}', "key-1", {}]
    assert not (tmp_path / "agent.sock").exists()


@pytest.mark.asyncio
async def test_the_socket_is_private_and_replaces_a_stale_one(tmp_path: Path) -> None:
    """The socket is 0600, and one left by a killed agent is replaced."""
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "agent.sock"))
    async with serving(tmp_path, echo) as client:
        assert stat.S_IMODE((tmp_path / "agent.sock").stat().st_mode) == 0o600
        assert await ask(client.running)


@pytest.mark.asyncio
async def test_errors_keep_their_shape(tmp_path: Path) -> None:
    """What is raised reaches the caller with code, hint and details; a bug is an internal error."""

    async def failing(_: str, path: str, __: ApiRequest) -> ApiReply:
        if path.endswith("bug"):
            raise ZeroDivisionError
        raise OperationError(ErrorCode.NODE_FULL, "all slots are taken", hint="Wait.", slots=2)

    async with serving(tmp_path, failing) as client:
        with pytest.raises(OperationError) as caught:
            await ask(client.send, "POST", "attempts", {})
        error = caught.value
        assert (error.code, error.hint, error.details) == (
            ErrorCode.NODE_FULL,
            "Wait.",
            {"slots": 2},
        )
        with pytest.raises(OperationError) as caught:
            await ask(client.get, "bug")
        assert caught.value.code is ErrorCode.INTERNAL


@pytest.mark.asyncio
async def test_a_stream_arrives_piece_by_piece(tmp_path: Path) -> None:
    """A streamed body is on its way before it is whole, and its bytes are untouched."""
    go_on = asyncio.Event()
    content = bytes(range(256)) * 1000

    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        await go_on.wait()
        yield content

    async def streaming(*_: Any) -> ApiReply:
        return ApiReply(pieces=pieces(), media_type="text/plain; charset=utf-8")

    async with serving(tmp_path, streaming) as client:
        stream = client.stream("GET", "x")
        assert await ask(next, stream) == b"first"
        go_on.set()
        assert await ask(lambda: b"".join(stream)) == content


@pytest.mark.asyncio
async def test_a_stream_that_breaks_is_not_taken_for_whole(tmp_path: Path) -> None:
    """When a stream fails after its head the caller gets an error, not a short body."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        raise OperationError(ErrorCode.GIT_FAILED, "git died")

    async def streaming(*_: Any) -> ApiReply:
        return ApiReply(pieces=pieces())

    async with serving(tmp_path, streaming) as client:
        with pytest.raises(OperationError) as caught:
            await ask(lambda: b"".join(client.stream("GET", "x")))
        assert caught.value.code is ErrorCode.NODE_FAILED


@pytest.mark.asyncio
async def test_a_reader_that_leaves_closes_its_stream(tmp_path: Path) -> None:
    """A caller that goes away ends what feeds its stream."""
    closed = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0)
        finally:
            closed.set()

    async def streaming(*_: Any) -> ApiReply:
        return ApiReply(pieces=pieces())

    def read_a_little() -> None:
        with contextlib.closing(client.stream("GET", "x")) as stream:
            next(stream)

    async with serving(tmp_path, streaming) as client:
        await ask(read_a_little)
        await asyncio.wait_for(closed.wait(), 30)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "headers", [{"Origin": "http://localhost"}, {"Host": "evil.example"}, {"Origin": "null"}]
)
async def test_no_web_page_may_ask(tmp_path: Path, headers: dict[str, str]) -> None:
    """A request with an Origin, or for another host, is refused before it reaches a handler."""

    def raw() -> int:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(tmp_path / "agent.sock"))
        connection.putrequest("GET", "/api/v1/x", skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        with contextlib.closing(connection):
            return connection.getresponse().status

    async with serving(tmp_path, echo):
        assert await ask(raw) == 403


@pytest.mark.asyncio
async def test_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's word on who calls decides, even where the socket's mode would let them."""
    async with serving(tmp_path, echo) as client:
        # As if the agent ran as a user other than the caller; root may always ask.
        peer = _Peer(os.getpid(), os.geteuid() + 1)
        monkeypatch.setattr("node_agent.api.server._peer", lambda _: peer)
        with pytest.raises(OperationError) as caught:
            await ask(client.get, "x")
        assert caught.value.code is ErrorCode.UNAUTHENTICATED


@pytest.mark.asyncio
async def test_a_body_too_large_is_refused(tmp_path: Path) -> None:
    """A body over the limit is answered, not read."""
    async with serving(tmp_path, echo) as client:
        with pytest.raises(OperationError) as caught:
            await ask(client.send, "POST", "x", {"a": "b" * (5 * 1024 * 1024)})
        assert caught.value.code in {ErrorCode.TOO_LARGE, ErrorCode.UNKNOWN_OUTCOME}


ASKING = """
import http.client, json, socket, sys
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
connection.request("GET", "/api/v1/x", headers=json.loads(sys.argv[2]))
print(connection.getresponse().read().decode())
"""


@pytest.mark.asyncio
async def test_a_program_of_an_attempt_is_known(tmp_path: Path) -> None:
    """By what it was started with, or its ancestors; else by its own word where it gives it."""

    async def whose(_: str, __: str, asked: ApiRequest) -> ApiReply:
        return reply_json(asked.from_attempt)

    def ask_from(*argv: str, says: str = "{}", **environment: str) -> Any:
        asking = [*argv, sys.executable, "-I", "-c", ASKING, str(tmp_path / "agent.sock"), says]
        done = subprocess.run(
            asking, env=environment, capture_output=True, check=True, timeout=60, text=True
        )
        return json.loads(done.stdout)

    marks = {"SKEP_NODE_ID": "node-1", "SKEP_ATTEMPT_ID": "attempt-1"}
    async with serving(tmp_path, whose) as client:
        assert await ask(client.get, "x") is None
        assert await ask(ask_from) is None
        assert await ask(ask_from, SKEP_NODE_ID="node-2", SKEP_ATTEMPT_ID="attempt-1") is None
        assert await ask(ask_from, **marks) == "attempt-1"
        # Another attempt's name is no disguise.
        other = json.dumps({"Skep-Within-Node": "node-1", "Skep-Within-Attempt": "attempt-2"})
        assert await ask(ask_from, says=other, **marks) == "attempt-1"
        assert await ask(ask_from, says=other) == "attempt-2"
        # The shell was started with them, and drops them.
        dropping = ("/bin/sh", "-c", 'env -i "$0" "$@"; exit $?')
        assert await ask(ask_from, *dropping, **marks) == "attempt-1"


@pytest.mark.asyncio
async def test_where_the_kernel_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command says itself that it runs within an attempt."""

    async def whose(_: str, __: str, asked: ApiRequest) -> ApiReply:
        return reply_json(asked.from_attempt)

    monkeypatch.setattr("node_agent.api.server._peer", lambda _: None)
    async with serving(tmp_path, whose) as client:
        assert await ask(client.get, "x") is None
        monkeypatch.setenv("SKEP_NODE_ID", "node-1")
        monkeypatch.setenv("SKEP_ATTEMPT_ID", "attempt-1")
        assert await ask(client.get, "x") == "attempt-1"
