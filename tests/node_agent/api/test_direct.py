"""The node's own listener: who is let in, for what, and everyone who is not."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node_agent.api import direct
from node_agent.api.direct import ROUTES, DirectListener
from node_agent.config import ConfigError, NodeConfig
from node_agent.direct_exposure import direct_exposure
from node_agent.identity import HiveIdentity, HiveWord, NodeRecord
from node_agent.local_node import LocalNode
from node_agent.operations.dispatcher import OperationDispatcher
from node_agent.operations.table import functions_of
from node_agent.store import sessions
from protocol import limits, tokens
from protocol.answer_requests import AnswerRequest
from protocol.attempt_requests import StopRequest
from protocol.conversation import Session
from protocol.log_chunks import STDOUT, Segment
from protocol.operations import OPERATIONS
from protocol.session_requests import RenameSessionRequest
from protocol.stream_tokens import StreamToken, mint_stream_token
from tests.end_to_end.hive_program import free_port
from tests.node_agent.operations.conftest import EXECUTION, StoredNode
from tests.node_agent.operations.test_answers import asked
from tests.node_agent.operations.test_attempts import RecordingRunner
from tests.node_agent.operations.test_work import working

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
NOW_S = 1_700_000_000
PAGE = "https://hive.example.org"


class Listening:
    """A node that listens, and the hive's key to make tokens with."""

    def __init__(self, stored: StoredNode, url: str, session: aiohttp.ClientSession) -> None:
        self.stored = stored
        self.url = url
        self.word: HiveWord | None = HiveWord(
            hive=HiveIdentity("h-1", 4, {"k-1": KEY.public_key().public_bytes_raw()}), now_s=NOW_S
        )
        self.session = session

    def token(self, key: Ed25519PrivateKey = KEY, **other: Any) -> str:
        """A token of a stream as the hive gives it, or another one."""
        token = StreamToken(
            jti="j-1",
            actor="ada",
            role="viewer",
            node_id="node-1",
            attempt_id=self.stored.attempt.id,
            hive_id="h-1",
            generation=4,
            issued_at_s=NOW_S,
            expires_at_s=NOW_S + limits.STREAM_TOKEN_TTL_S,
            project_id="p1",
        )
        return mint_stream_token(msgspec.structs.replace(token, **other), key=key, key_id="k-1")

    def capability(self, request: Any, **other: Any) -> str:
        """A capability for a stop, or another one."""
        capability = tokens.Capability(
            jti="j-2",
            actor="ada",
            role="operator",
            node_id="node-1",
            operation="stop",
            attempt_id=self.stored.attempt.id,
            body_hash=tokens.body_hash(msgspec.msgpack.encode(request)),
            hive_id="h-1",
            generation=4,
            issued_at_s=NOW_S,
            expires_at_s=NOW_S + limits.CAPABILITY_TTL_S,
        )
        return tokens.mint_capability(
            msgspec.structs.replace(capability, **other), key=KEY, key_id="k-1"
        )

    async def ask(
        self, method: str, path: str, token: str | None, *, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        """Ask about the attempt; returns the status and the JSON."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        where = f"/attempts/{self.stored.attempt.id}/{path}".rstrip("/")
        if path.startswith("/"):
            where = path
        async with self.session.request(
            method,
            f"{self.url}/api/v1{where}",
            headers=sent,
            data=None if body is None else msgspec.json.encode(body),
        ) as reply:
            content = await reply.read()
            return reply.status, msgspec.json.decode(content) if content else None

    async def refused(self, token: str | None, path: str = "diff", **headers: str) -> int:
        """Return the status with which a reader is refused."""
        status, said = await self.ask("GET", path, token, **headers)
        assert set(said) == {"error"}, said
        return status


@contextlib.asynccontextmanager
async def listening(
    stored: StoredNode, *, refused: tuple[str, ...] = ()
) -> AsyncIterator[Listening]:
    """Have the node listen on a port of its own."""
    runner = RecordingRunner(stored.attempt)
    functions = functions_of(
        stored.stores,
        stored.changes,
        worktrees_dir=stored.worktrees_dir,
        runner=runner,
        forge=stored.forge,
    )
    config = NodeConfig(
        data_dir=stored.worktrees_dir.parent, direct_listen=f"127.0.0.1:{free_port()}"
    )
    exposure = direct_exposure(config)
    assert exposure is not None
    dispatcher = OperationDispatcher(
        functions, stored.stores.ledger, node_id="node-1", refused=refused
    )
    node = LocalNode(
        config=config,
        record=lambda: NodeRecord(node_id="node-1"),
        name="bee",
        slots=2,
        database=stored.stores.database,
        journal=stored.stores.journal,
        chunks=stored.stores.chunks,
        dispatcher=dispatcher,
        running=True,
        changes=stored.changes,
    )
    async with aiohttp.ClientSession() as session:
        made = Listening(stored, exposure.urls[0], session)
        listener = DirectListener(
            exposure, node=lambda: node, word=lambda: made.word, origins=lambda: {PAGE}
        )
        await listener.start()
        try:
            yield made
        finally:
            await listener.close()
            await dispatcher.close(within_s=5)


def test_all_that_is_asked_of_an_attempt_can_be_asked_straight() -> None:
    """Every row of the table but those that make attempts has its route here, by the same path."""
    asked = {(route.method, route.path.replace("{path:rest}", "{path}")) for route in ROUTES}
    for operation in OPERATIONS.values():
        path = operation.path
        if path.startswith("tasks/"):
            continue
        if not path.startswith(("executions/", "requests/", "sessions/")):
            path = f"attempts/{{attempt_id}}/{path}"
        assert (operation.method, path) in asked


@pytest.mark.asyncio
async def test_a_token_reads_its_attempt_again_and_again(stored: StoredNode) -> None:
    """Status, diff, files, a file, the log and the attempt itself, all with one token."""
    await working(stored)
    await stored.printed(Segment(stream=STDOUT, at_ms=1, data=b"hello\n"))
    async with listening(stored) as node:
        token = node.token()
        status, said = await node.ask("GET", "branch-status", token)
        assert (status, said["branch"], said["attempt_id"]) == (
            200,
            stored.attempt.branch,
            stored.attempt.id,
        )
        for _ in range(2):
            status, said = await node.ask("GET", "diff", token)
            assert [file["path"] for file in said["files"]] == ["README", "new.txt"]
        status, said = await node.ask("GET", f"/executions/{EXECUTION}/log", token)
        assert [(entry["n"], entry["text"]) for entry in said["entries"]] == [(1, "hello")]
        assert (await node.ask("GET", "", token))[1]["id"] == stored.attempt.id
        async with node.session.get(
            f"{node.url}/api/v1/attempts/{stored.attempt.id}/files/new.txt",
            headers={"Authorization": f"Bearer {token}"},
        ) as reply:
            assert await reply.read() == b"new\n"
            assert reply.headers["Content-Disposition"] == "attachment"
            assert reply.headers["Cache-Control"] == "no-store"
            assert "Set-Cookie" not in reply.headers
        worktree = stored.worktrees_dir / stored.attempt.id
        (worktree / "new\nline").write_text("odd\n")
        async with node.session.get(
            f"{node.url}/api/v1/attempts/{stored.attempt.id}/files/new%0Aline",
            headers={"Authorization": f"Bearer {token}"},
        ) as reply:
            assert await reply.read() == b"odd\n"


@pytest.mark.asyncio
async def test_a_request_is_answered_straight(stored: StoredNode) -> None:
    """The capability is for the attempt whose agent asks, and for this one answer to it."""
    request = await asked(stored)
    given = AnswerRequest(request_id=request.id, text="left")
    path = f"/requests/{request.id}/answer"
    async with listening(stored) as node:
        for other in ({"attempt_id": "other"}, {"role": "viewer"}, {"operation": "stop"}):
            word = node.capability(given, **{"operation": "answer", **other})
            status, _ = await node.ask(
                "POST", path, word, body={"text": "left"}, Idempotency_Key="k"
            )
            assert status in {401, 403}, other
        word = node.capability(given, operation="answer")
        status, _ = await node.ask("POST", path, word, body={"text": "no"}, Idempotency_Key="k")
        assert status == 403
        status, said = await node.ask(
            "POST", path, word, body={"text": "left"}, Idempotency_Key="k"
        )
        assert (status, said["answer"]["text"], said["answer"]["by"]) == (200, "left", "ada")


@pytest.mark.asyncio
async def test_a_session_is_renamed_straight(stored: StoredNode) -> None:
    """The capability is for the attempt whose session it is, and for this topic."""
    session = Session(id=EXECUTION, attempt_id=stored.attempt.id, executor="acp", topic="First")
    await stored.stores.database.write(sessions.save, session, 1)
    given = RenameSessionRequest(session_id=session.id, topic="Shelves")
    path, body = f"/sessions/{session.id}", {"topic": "Shelves"}
    async with listening(stored) as node:
        for other in ({"attempt_id": "other"}, {"role": "viewer"}):
            word = node.capability(given, **{"operation": "rename_session", **other})
            status, _ = await node.ask("PATCH", path, word, body=body, Idempotency_Key="k")
            assert status in {401, 403}, other
        word = node.capability(given, operation="rename_session")
        status, _ = await node.ask("PATCH", path, word, body={"topic": "x"}, Idempotency_Key="k")
        assert status == 403
        status, said = await node.ask("PATCH", path, word, body=body, Idempotency_Key="k")
        assert (status, said["topic"]) == (200, "Shelves")
        word = node.capability(given, operation="rename_session")
        status, _ = await node.ask("PATCH", "/sessions/none", word, body=body, Idempotency_Key="l")
        assert status in {401, 403, 404}


@pytest.mark.asyncio
async def test_whose_word_does_not_count(stored: StoredNode) -> None:
    """Another key, node, hive, generation or time, and no token at all, are refused."""
    await working(stored)
    async with listening(stored) as node:
        late = NOW_S - limits.STREAM_TOKEN_TTL_S - limits.TOKEN_LEEWAY_S - 1
        for token in (
            None,
            "",
            "x.y.z",
            node.token(OTHER_KEY),
            node.token(node_id="node-2"),
            node.token(hive_id="h-2"),
            node.token(generation=3),
            node.token(issued_at_s=late, expires_at_s=late + limits.STREAM_TOKEN_TTL_S),
            node.capability(StopRequest()),
        ):
            assert await node.refused(token) == 401, token
        assert await node.refused(None, Authorization="Basic eDp5") == 401
        node.word = None
        assert await node.refused(node.token()) == 401


@pytest.mark.asyncio
async def test_what_a_token_does_not_reach(stored: StoredNode) -> None:
    """Another attempt, another project, a role too low, and the local API."""
    await working(stored)
    async with listening(stored) as node:
        other = "01920000-0000-7000-8000-00000000beef"
        assert await node.refused(node.token(), f"/attempts/{other}/diff") == 403
        assert (
            await node.refused(node.token(attempt_id=other), f"/executions/{EXECUTION}/log") == 404
        )
        assert await node.refused(node.token(project_id="p-2")) == 404
        assert await node.refused(node.token(role="auditor")) == 403
        assert await node.refused(node.token(role="emperor")) == 403
        for path in ("/status", "/attempts", "/checkouts", "/outbox"):
            assert await node.refused(node.token(), path) == 404, path
        status, _ = await node.ask("POST", "diff", node.token())
        assert status == 422


@pytest.mark.asyncio
async def test_what_the_owner_refuses_is_refused_here_too(stored: StoredNode) -> None:
    """The setting `refuse` counts for whoever comes with the hive's word."""
    await working(stored)
    async with listening(stored, refused=("diff",)) as node:
        assert await node.refused(node.token()) == 403
        assert (await node.ask("GET", "branch-status", node.token()))[0] == 200


@pytest.mark.asyncio
async def test_names_and_pages(stored: StoredNode) -> None:
    """Called by another name, or by a page that may not, it answers nothing."""
    await working(stored)
    async with listening(stored) as node:
        token = node.token()
        assert await node.refused(token, Host="attacker.example") == 403
        assert await node.refused(token, Origin="https://attacker.example") == 403
        assert await node.refused(token, Origin="null") == 403
        status, said = await node.ask("OPTIONS", "diff", None, Origin="https://attacker.example")
        assert (status, said["error"]["code"]) == (403, "forbidden")
        async with node.session.options(
            f"{node.url}/api/v1/attempts/{stored.attempt.id}/diff", headers={"Origin": PAGE}
        ) as reply:
            assert reply.status == 204
            assert reply.headers["Access-Control-Allow-Origin"] == PAGE
            assert "Access-Control-Allow-Credentials" not in reply.headers
            allowed = set(reply.headers["Access-Control-Allow-Methods"].split(", "))
            assert allowed >= {one.method for one in OPERATIONS.values()}
        assert (await node.ask("GET", "diff", token, Origin=PAGE))[0] == 200


@pytest.mark.asyncio
async def test_a_change_takes_a_capability_for_just_this_call(stored: StoredNode) -> None:
    """One capability, one body, one call; under a key that finds the first answer again."""
    asked = StopRequest(grace_s=1.0)
    async with listening(stored) as node:

        async def stop(token: str, body: Any, key: str | None = "key-1") -> tuple[int, Any]:
            headers = {"Idempotency_Key": key} if key else {}
            return await node.ask("POST", "stop", token, body=body, **headers)

        assert (await stop(node.token(role="admin"), {"grace_s": 1.0}))[0] == 403
        assert (await stop(node.capability(asked), {"grace_s": 2.0}))[0] == 403
        assert (await stop(node.capability(asked, role="viewer"), {"grace_s": 1.0}))[0] == 403
        assert (await stop(node.capability(asked, operation="start"), {"grace_s": 1.0}))[0] == 403
        assert (await stop(node.capability(asked, attempt_id="other"), {"grace_s": 1.0}))[0] == 403
        assert (await stop(node.capability(asked, generation=3), {"grace_s": 1.0}))[0] == 403
        assert (await stop(node.capability(asked), {"grace_s": 1.0}, key=None))[0] == 422
        capability = node.capability(asked)
        status, said = await stop(capability, {"grace_s": 1.0})
        assert (status, said["id"]) == (200, stored.attempt.id)
        status, said = await stop(capability, {"grace_s": 1.0})
        assert (status, said["error"]["message"]) == (403, "this capability was used before")
        again = node.capability(asked, jti="j-3")
        assert (await stop(again, {"grace_s": 1.0}))[0] == 200
        other = node.capability(StopRequest(grace_s=3.0), jti="j-4")
        status, said = await stop(other, {"grace_s": 3.0})
        assert said["error"]["code"] == "key_reused"


@pytest.mark.asyncio
async def test_the_right_to_a_stream_ends(stored: StoredNode) -> None:
    """When its token has expired, a stream is cut off: not ended as if that were all."""
    await working(stored)
    async with listening(stored) as node:
        assert node.word is not None
        ends_s = NOW_S + limits.STREAM_TOKEN_TTL_S + limits.TOKEN_LEEWAY_S
        node.word = HiveWord(hive=node.word.hive, now_s=ends_s - 1.0)
        async with node.session.get(
            f"{node.url}/api/v1/attempts/{stored.attempt.id}/diff/stream",
            headers={"Authorization": f"Bearer {node.token()}"},
        ) as reply:
            assert (await reply.content.readline()).endswith(b"}\n")
            with pytest.raises(aiohttp.ClientPayloadError):
                await asyncio.wait_for(reply.content.read(), 30)


@pytest.mark.asyncio
async def test_no_more_at_a_time_than_can_be_served(
    stored: StoredNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound a caller is told to come later; who left makes room."""
    monkeypatch.setattr(direct, "REQUESTS_MAX", 1)
    await working(stored)
    async with listening(stored) as node:
        token = node.token()
        async with node.session.get(
            f"{node.url}/api/v1/attempts/{stored.attempt.id}/diff/stream",
            headers={"Authorization": f"Bearer {token}"},
        ) as reply:
            await reply.content.readline()
            assert await node.refused(token) == 429
            reply.close()
        async with asyncio.timeout(30):
            while (await node.ask("GET", "diff", token))[0] != 200:
                await asyncio.sleep(0.05)


@pytest.mark.asyncio
async def test_too_much_is_not_read(stored: StoredNode) -> None:
    """A body over the bound is refused unread."""
    async with listening(stored) as node:
        token = node.capability(StopRequest())
        async with node.session.post(
            f"{node.url}/api/v1/attempts/{stored.attempt.id}/stop",
            headers={"Authorization": f"Bearer {token}"},
            data=io.BytesIO(b"x" * 2_000_000),
        ) as reply:
            assert reply.status == 413
            assert (await reply.json())["error"]["code"] == "too_large"


@pytest.mark.asyncio
async def test_a_port_that_is_taken(stored: StoredNode) -> None:
    """Where it cannot listen it says so, and names the setting."""
    async with listening(stored) as node:
        config = NodeConfig(
            data_dir=stored.worktrees_dir.parent, direct_listen=node.url.removeprefix("http://")
        )
        exposure = direct_exposure(config)
        assert exposure is not None
        listener = DirectListener(
            exposure,
            node=lambda: None,
            word=lambda: None,
            origins=set,  # type: ignore[arg-type]
        )
        with pytest.raises(ConfigError, match="cannot listen"):
            await listener.start()


@pytest.mark.asyncio
@pytest.mark.parametrize("answered", [False, True])
async def test_headers_that_never_end_are_not_waited_for(
    stored: StoredNode, monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    """A caller that goes on sending headers is let go of, in its first request and in others."""
    monkeypatch.setattr(direct, "_IDLE_S_MAX", 0.5)
    async with listening(stored) as node:
        host, port = node.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            if answered:
                writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                assert (await reader.readline()).startswith(b"HTTP/1.1 4")
            writer.write(b"GET /api/v1/attempts HTTP/1.1\r\nHost: 127.0.0.1\r\nX-More: ")

            async def go_on() -> None:
                while True:
                    writer.write(b"1")
                    await writer.drain()
                    await asyncio.sleep(0.05)

            sending = asyncio.create_task(go_on())
            try:
                async with asyncio.timeout(30):
                    with contextlib.suppress(ConnectionError):
                        while await reader.read(4096):
                            pass
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        finally:
            writer.close()
