"""A hive that runs inside the test, served on a port of its own, and nodes made of plain calls.

The store, the registry, the feed and the HTTP are the real ones; a node here speaks to the registry
and to ingest directly, as the gateway would for it.
"""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hive.config import load
from hive.founding import found
from hive.node_registry import NodeLive
from hive.server import Hive, opened, served
from protocol import entities
from protocol.attempt_requests import AttemptReply
from protocol.conversation import AuthorKind, Message, MessageRole, Session
from protocol.digest import EMPTY
from protocol.errors import ErrorCode, OperationError
from protocol.log_chunks import STDERR, STDOUT, Segment, seal_all
from protocol.messages import (
    Call,
    Cancel,
    End,
    Hello,
    HiveMessage,
    Need,
    Opened,
    Part,
    Result,
)
from protocol.operation_values import StreamHead
from protocol.ops import EpochState, Op, OpKind, encode_body
from protocol.states import AttemptOutcome, AttemptPhase, ExecutionKind, ExecutionStatus
from protocol.tokens import enrol_bytes

Answer = Callable[[Call], Awaitable[Any]]
IDENTITY = "git.example/team/shop"


class Reply:
    """An HTTP answer, read whole."""

    def __init__(self, status: int, headers: Any, content: bytes) -> None:
        self.status = status
        self.headers = headers
        self.content = content

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.content)

    @property
    def error(self) -> dict[str, Any]:
        """The error it tells, in the one shape."""
        error = self.json["error"]
        assert set(error) == {"code", "message", "hint", "retryable", "details"}, error
        return error


class RunningHive:
    """One hive with an admin signed in."""

    def __init__(self, hive: Hive, port: int, token: str) -> None:
        self.hive = hive
        self.port = port
        self.token = token
        self.url = f"http://127.0.0.1:{port}"
        self.session: aiohttp.ClientSession

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        data: bytes | None = None,
        token: str | None = "",
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> Reply:
        """Send a request as the admin; `token` for another caller, None for nobody."""
        sent = dict(headers or {})
        bearer = self.token if token == "" else token
        if bearer is not None:
            sent["Authorization"] = f"Bearer {bearer}"
        if body is not None:
            data = msgspec.json.encode(body)
            sent.setdefault("Content-Type", "application/json")
        root = path if path.startswith("/") else f"/api/v1/{path}"
        async with self.session.request(
            method, self.url + root, data=data, headers=sent, params=query
        ) as response:
            return Reply(response.status, response.headers, await response.read())

    async def get(self, path: str, **given: Any) -> Reply:
        return await self.ask("GET", path, **given)

    async def post(self, path: str, body: Any = None, **given: Any) -> Reply:
        return await self.ask("POST", path, body={} if body is None else body, **given)

    async def token_of(self, role: str) -> str:
        """Make a token with a role."""
        made = await self.post("tokens", {"name": role, "role": role})
        assert made.status == 201, made.content
        return made.json["token"]

    async def node(self, name: str = "one", **given: Any) -> "FakeNode":
        """Have a node join and connect, with a checkout of the shop."""
        node = FakeNode(self, name)
        await node.join()
        await node.connect()
        await node.report(**given)
        return node

    async def task(self, title: str = "Sort the shelves", **given: Any) -> dict[str, Any]:
        """Make a task of the shop."""
        made = await self.post("tasks", {"project": "shop", "title": title, **given})
        assert made.status == 201, made.content
        return made.json


class FakeNode:
    """A node as the hive sees it: it joins, connects, reports, and answers calls."""

    def __init__(self, running: RunningHive, name: str) -> None:
        self.running = running
        self.name = name
        self.key = Ed25519PrivateKey.generate()
        self.public = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.id = ""
        self.epoch = 7
        self.seq = 0
        self.connect_no = 0
        self.link_no = 0
        self.calls: list[Call] = []
        self.cancelled: list[str] = []
        self.told: list[HiveMessage] = []
        self.needs: list[Need] = []
        self.answers: dict[str, Answer] = {}
        self.closed: ErrorCode | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.started = 0

    async def join(self) -> None:
        token = (await self.running.post("join-tokens")).json["join_token"]
        said = await self.running.post("/v1/enrol", self.enrolment(token), token=None)
        assert said.status == 200, said.content
        self.id = said.json["node_id"]

    def enrolment(self, join_token: str) -> dict[str, str]:
        proof = self.key.sign(enrol_bytes(join_token, self.public))
        return {
            "join_token": join_token,
            "public_key": base64.b64encode(self.public).decode(),
            "proof": base64.b64encode(proof).decode(),
            "name": self.name,
        }

    async def connect(self, *, slots: int = 2) -> None:
        """Take a link, as the gateway does after a hello."""
        hive = self.running.hive
        self.connect_no += 1
        self.closed = None
        hello = Hello(
            node_id=self.id,
            instance=self.epoch,
            connect_no=self.connect_no,
            host="",
            signature=b"",
            version="0.1.0",
            epochs=[EpochState(self.epoch, 1, self.seq, EMPTY)],
        )
        challenged = hive.gateway.next_order()
        self.link_no = await hive.store.accept_link(
            hello, challenged_at=challenged, accepted_at=hive.gateway.next_order()
        )
        now_ms = int(time.time() * 1000)
        live = NodeLive(
            node_id=self.id,
            link_no=self.link_no,
            since_ms=now_ms,
            slots_total=slots,
            last_frame_ms=now_ms,
        )
        hive.registry.attach(live, self)
        await hive.gateway.on_change(self.id)
        await hive.gateway.on_live(self.id)

    async def leave(self) -> None:
        """Lose the link."""
        self.running.hive.registry.detach(self.id, self)
        await self.running.hive.gateway.on_change(self.id)

    # --- what the registry asks of a connection -----------------------------------------------

    async def send(self, message: HiveMessage) -> None:
        self.told.append(message)
        if isinstance(message, Need):
            self.needs.append(message)
        elif isinstance(message, Cancel):
            self.cancelled.append(message.call_id)
        elif isinstance(message, Call):
            self.calls.append(message)
            task = asyncio.create_task(self._answer(message))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def close(self, code: ErrorCode) -> None:
        self.closed = code
        await self.leave()

    async def _answer(self, call: Call) -> None:
        registry = self.running.hive.registry
        answer = self.answers.get(call.operation)
        if answer is None:
            return
        try:
            reply = await answer(call)
        except OperationError as error:
            registry.answered(self.id, Result(call_id=call.call_id, error=error.body()))
            return
        if isinstance(reply, tuple):
            head, pieces = reply
            body = msgspec.msgpack.encode(head)
            registry.answered(self.id, Opened(call_id=call.call_id, body=body))
            for number, piece in enumerate(pieces):
                if isinstance(piece, OperationError):
                    end = End(call_id=call.call_id, error=piece.body())
                    registry.answered(self.id, end)
                    return
                registry.answered(self.id, Part(call_id=call.call_id, n=number, data=piece))
            registry.answered(self.id, End(call_id=call.call_id))
        else:
            body = msgspec.msgpack.encode(reply)
            registry.answered(self.id, Result(call_id=call.call_id, body=body))

    # --- facts --------------------------------------------------------------------------------

    async def tell(self, *facts: tuple[OpKind, str, Any]) -> None:
        """Commit ops, as they come over the link."""
        ops = [
            Op(kind.value, entity, int(time.time() * 1000), encode_body(body))
            for kind, entity, body in facts
        ]
        first, self.seq = self.seq + 1, self.seq + len(ops)
        await self.running.hive.ingest.ops(self.id, self.link_no, self.epoch, first, ops)

    async def tells_of(self, *told: Session | Message) -> None:
        """Report sessions and messages."""
        kinds = {Session: OpKind.SESSION, Message: OpKind.MESSAGE}
        await self.tell(*((kinds[type(one)], one.id, one) for one in told))

    def messages(self, session: Session, first: int, count: int = 1) -> list[Message]:
        """Messages of a session, from this place on."""
        return [
            Message(
                id=f"{self.id[:24]}{(int(session.id[-4:], 16) << 24) + seq:012x}",
                session_id=session.id,
                attempt_id=session.attempt_id,
                seq=seq,
                role=MessageRole.ASSISTANT,
                author_kind=AuthorKind.AGENT,
                author="scripted",
                content=f"said {seq}",
            )
            for seq in range(first, first + count)
        ]

    async def report(
        self, *, executors: tuple[str, ...] = ("command",), checkout: bool = True
    ) -> None:
        """Say what the node is, and which repository it has."""
        state = entities.NodeState(
            id=self.id, name=self.name, slots=2, executors=list(executors), version="0.1.0"
        )
        await self.tell((OpKind.NODE, self.id, state))
        if checkout:
            await self.tell(
                (
                    OpKind.CHECKOUT,
                    self.checkout_id,
                    entities.Checkout(
                        id=self.checkout_id,
                        path=f"/home/{self.name}/shop",
                        name="shop",
                        identity=IDENTITY,
                        default_branch="main",
                    ),
                )
            )

    @property
    def checkout_id(self) -> str:
        return f"{self.id[:24]}{'c' * 12}"

    def attempt(self, number: int = 1, **given: Any) -> entities.Attempt:
        """An attempt of this node, running."""
        values = {
            "id": f"{self.id[:24]}{number:012x}",
            "task_id": f"{self.id[:24]}{number + 4096:012x}",
            "task_title": "Sort the shelves",
            "checkout_id": self.checkout_id,
            "project_identity": IDENTITY,
            "project_name": "shop",
            "executor": "command",
            "branch": f"skep/sort-{number}",
            "phase": AttemptPhase.RUNNING,
            "created_at_ms": 1_000_000 + number,
        }
        return entities.Attempt(**{**values, **given})

    async def has_attempt(self, number: int = 1, **given: Any) -> entities.Attempt:
        """Report an attempt."""
        attempt = self.attempt(number, **given)
        await self.tell((OpKind.ATTEMPT, attempt.id, attempt))
        return attempt

    async def runs(self, attempt: entities.Attempt, number: int = 1, **given: Any) -> str:
        """Report an execution of an attempt; return its id."""
        execution = entities.Execution(
            id=f"{attempt.id[:24]}{number + 8192 * int(attempt.id[-4:], 16):012x}",
            attempt_id=attempt.id,
            **{
                "kind": ExecutionKind.AGENT,
                "argv": ["make", "test"],
                "status": ExecutionStatus.RUNNING,
                "started_at_ms": 1_000_000 + number,
                **given,
            },
        )
        named = msgspec.structs.replace(attempt, executions=[*attempt.executions, execution.id])
        await self.tell(
            (OpKind.EXECUTION, execution.id, execution), (OpKind.ATTEMPT, attempt.id, named)
        )
        return execution.id

    async def prints(
        self, execution_id: str, *lines: str, chunk: int = 1, entry: int = 1, stderr: bool = False
    ) -> None:
        """Have a chunk of lines come over the link."""
        segment = Segment(STDERR if stderr else STDOUT, 1_000_000, "".join(lines).encode())
        chunks = seal_all([segment], execution_id=execution_id, chunk_seq=chunk, first_entry=entry)
        await self.running.hive.ingest.chunks(self.id, self.link_no, chunks)

    async def ends_log(self, execution_id: str, *, chunks: int, entries: int) -> None:
        """Say what the whole log is."""
        end = entities.LogEnd(execution_id=execution_id, chunks=chunks, entries=entries, bytes=0)
        await self.tell((OpKind.LOG_END, execution_id, end))

    async def ends(self, attempt: entities.Attempt, executions: list[str]) -> None:
        """Report that an attempt has ended well."""
        ended = msgspec.structs.replace(
            attempt,
            phase=AttemptPhase.ENDED,
            outcome=AttemptOutcome.SUCCEEDED,
            executions=executions,
            ended_at_ms=2_000_000,
        )
        await self.tell((OpKind.ATTEMPT, attempt.id, ended))

    def starts(self, *, ops: bool = True) -> None:
        """Answer `start` with a fresh attempt; with `ops`, report it too."""

        async def start(call: Call) -> AttemptReply:
            self.started += 1
            asked = msgspec.msgpack.decode(call.body)
            attempt = self.attempt(
                100 + self.started,
                task_id=asked["task_id"],
                task_title=asked["task_title"],
                phase=AttemptPhase.CREATED,
                start_key=call.idempotency_key,
            )
            if ops:
                await self.tell((OpKind.ATTEMPT, attempt.id, attempt))
            return AttemptReply(attempt=attempt)

        self.answers["start"] = start

    def streams(self, operation: str, *pieces: Any, media_type: str = "application/json") -> None:
        """Answer a streamed operation with these pieces."""

        async def answer(call: Call) -> Any:
            del call
            return StreamHead(media_type=media_type), pieces

        self.answers[operation] = answer


@contextlib.asynccontextmanager
async def running_hive(folder: Path, **flags: Any) -> AsyncIterator[RunningHive]:
    """Found a hive in `folder` and serve it."""
    config = load(folder / "hive", flags={"port": 0, "drain_s": 0.5, **flags}, environment={})
    token = (await found(config)).admin_token
    async with serving_again(folder, token, **flags) as running:
        yield running


@contextlib.asynccontextmanager
async def serving_again(folder: Path, token: str, **flags: Any) -> AsyncIterator[RunningHive]:
    """Serve the hive that is in `folder`."""
    config = load(folder / "hive", flags={"port": 0, "drain_s": 0.5, **flags}, environment={})
    async with opened(config, asyncio.Event()) as hive, served(hive) as (port, _):
        running = RunningHive(hive, port, token)
        async with aiohttp.ClientSession() as running.session:
            yield running
