"""The ways by which an operation can be asked of an attempt, each as a user would go it.

Owns how a request becomes a call, a path or a command line. Must not look at what came of it.
"""

import abc
import contextlib
import json
import re
import subprocess
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from hive.client import HiveClient
from protocol.errors import ErrorBody, SkepError, operation_error
from protocol.operations import Operation
from tests.end_to_end.installation import Installation
from tests.end_to_end.node_program import NodeProgram
from tests.end_to_end.programs import BIN, Program


@dataclass(frozen=True)
class Asked:
    """What is asked: an operation of one attempt, and the request's fields."""

    operation: Operation
    request: Mapping[str, Any]
    attempt: str
    task: str
    project: str


#: For an answer; the operations' own deadlines are what counts.
ANSWER_S_MAX = 200.0
#: For updates of a live diff to come.
FOLLOW_S_MAX = 120.0


class Ground:
    """The installation the ways lead through: a hive, the node that owns attempts, another one."""

    def __init__(self, installation: Installation, owner: NodeProgram, other: NodeProgram) -> None:
        self.installation = installation
        self.owner = owner
        self.other = other

    @contextlib.contextmanager
    def hive_client(self) -> Iterator[HiveClient]:
        """A client of the hive with a connection of its own."""
        hive = self.installation.hive
        with HiveClient(hive.url, hive.environment["SKEP_TOKEN"]) as client:
            yield client


class Way(abc.ABC):
    """One way to ask. An answer is JSON; of a file its bytes, of a log its entries."""

    name: str

    @abc.abstractmethod
    def ask(self, ground: Ground, asked: Asked) -> Any:
        """Ask, and return the answer. Raises SkepError."""

    @abc.abstractmethod
    def follow(
        self, ground: Ground, asked: Asked
    ) -> contextlib.AbstractContextManager[Iterator[Any]]:
        """Give the updates of an operation whose answer does not end."""


# --- over HTTP ------------------------------------------------------------------------------------


class Relay(Way):
    """The hive's API, by the attempt."""

    name = "relay"

    def path(self, asked: Asked) -> str:
        return _path(f"attempts/{asked.attempt}", asked)

    def query(self, asked: Asked) -> dict[str, Any]:
        # The hive has the log too; what is meant is the node's.
        return {"source": "node"} if asked.operation.name == "log" else {}

    def ask(self, ground: Ground, asked: Asked) -> Any:
        with ground.hive_client() as client:
            return _ask_http(client, self.path(asked), asked, self.query(asked), _key())

    @contextlib.contextmanager
    def follow(self, ground: Ground, asked: Asked) -> Iterator[Iterator[Any]]:
        with ground.hive_client() as client:
            yield _updates(client, self.path(asked), asked)


class ByTask(Relay):
    """The hive's API, by the task; what changes something names the attempt that was seen."""

    name = "by task"

    def path(self, asked: Asked) -> str:
        return _path(f"tasks/{asked.task}/attempt", asked)

    def query(self, asked: Asked) -> dict[str, Any]:
        return {"attempt": asked.attempt} if asked.operation.changing else {}


class Direct(Way):
    """The node's own listener: a token of a stream to read, a capability for each change."""

    name = "direct"

    def ask(self, ground: Ground, asked: Asked) -> Any:
        key = _key()
        with self._client(ground, asked, key) as client:
            return _ask_http(client, _path(f"attempts/{asked.attempt}", asked), asked, {}, key)

    @contextlib.contextmanager
    def follow(self, ground: Ground, asked: Asked) -> Iterator[Iterator[Any]]:
        with self._client(ground, asked, "") as client:
            yield _updates(client, _path(f"attempts/{asked.attempt}", asked), asked)

    def _client(self, ground: Ground, asked: Asked, key: str) -> HiveClient:
        about = f"attempts/{asked.attempt}"
        with ground.hive_client() as hive:
            # A start makes an attempt: it has no capability, and is refused without one.
            if asked.operation.changing and asked.operation.name != "start":
                wanted = {"operation": asked.operation.name, "request": dict(asked.request)}
                told = hive.post(f"{about}/direct-calls", wanted, key=key)
            else:
                told = hive.get(f"{about}/stream-connection-info")
        return HiveClient(told["direct_urls"][0], told["token"])


def _key() -> str:
    return uuid.uuid4().hex


def _path(below: str, asked: Asked) -> str:
    path = asked.operation.path.format_map(
        {name: quote(str(value), safe="/") for name, value in asked.request.items()}
        | {"task_id": asked.task}
    )
    return path if path.startswith(("tasks/", "executions/")) else f"{below}/{path}"


def _fields(asked: Asked) -> dict[str, Any]:
    """The request's fields that the path does not name."""
    named = re.findall(r"\{(\w+)\}", asked.operation.path)
    return {name: value for name, value in asked.request.items() if name not in named}


def _ask_http(
    client: HiveClient, path: str, asked: Asked, query: Mapping[str, Any], key: str
) -> Any:
    operation, fields = asked.operation, _fields(asked)
    if operation.method == "GET":
        content = b"".join(client.pieces(path, timeout_s=ANSWER_S_MAX, **query, **fields))
        if operation.name == "read_file":
            return content
        answer = json.loads(content)
        return answer["entries"] if operation.name == "log" else answer
    if operation.method == "DELETE":
        return client.request(
            "DELETE", path, query={**query, **fields}, key=key, timeout_s=ANSWER_S_MAX
        )
    return client.request(
        operation.method, path, query=query, body=fields, key=key, timeout_s=ANSWER_S_MAX
    )


def _updates(client: HiveClient, path: str, asked: Asked) -> Iterator[Any]:
    waiting = b""
    for piece in client.pieces(path, timeout_s=FOLLOW_S_MAX, **_fields(asked)):
        *lines, waiting = (waiting + piece).split(b"\n")
        yield from (json.loads(line) for line in lines if line)


# --- by commands ----------------------------------------------------------------------------------


class HiveCommand(Way):
    """`hive attempt OPERATION A`, and `hive tasks run` for a start."""

    name = "hive command"

    def words(self, ground: Ground, asked: Asked) -> list[str]:
        request = dict(asked.request)
        if asked.operation.name == "start":
            node = f"--node={request.pop('node_id')}"
            return ["tasks", "run", "--json", node, *_flags(request), "--", asked.task]
        places = [request.pop(name) for name in ("name", "path") if name in request]
        flags = _flags({name.removesuffix("_id"): value for name, value in request.items()})
        if asked.operation.name in {"diff", "compare"}:
            flags += [f"--path={place}" for place in places]
            places = []
        return [
            *("attempt", asked.operation.command, "--json"),
            *(*flags, "--", asked.attempt, *places),
        ]

    def program(self, ground: Ground) -> Program:
        return ground.installation.hive

    def ask(self, ground: Ground, asked: Asked) -> Any:
        program = self.program(ground)
        done = subprocess.run(
            [str(BIN / program.name), *self.words(ground, asked)],
            env=_environment(program),
            capture_output=True,
            check=False,
            timeout=ANSWER_S_MAX,
        )
        if done.returncode:
            raise _told(done.stderr)
        if asked.operation.name == "log":
            return [json.loads(line) for line in done.stdout.splitlines()]
        answer = json.loads(done.stdout)
        if asked.operation.name == "read_file":
            assert answer["encoding"] == "utf-8"
            return answer["content"].encode()
        return answer

    @contextlib.contextmanager
    def follow(self, ground: Ground, asked: Asked) -> Iterator[Iterator[Any]]:
        program = self.program(ground)
        with subprocess.Popen(
            [str(BIN / program.name), *self.words(ground, asked)],
            env=_environment(program),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            ends = threading.Timer(FOLLOW_S_MAX, process.kill)
            ends.start()
            try:
                assert process.stdout is not None
                yield (json.loads(line) for line in process.stdout if line.strip())
            finally:
                ends.cancel()
                process.kill()


class NodeCommand(HiveCommand):
    """`node-agent attempt OPERATION A` at the node that owns it, by its local API."""

    name = "node command"

    def words(self, ground: Ground, asked: Asked) -> list[str]:
        request = dict(asked.request)
        if asked.operation.name == "start":
            del request["node_id"]
            flags = [f"--project={asked.project}", "--title=Do it", *_flags(request)]
            return ["start", "--json", *flags]
        if asked.operation.name == "log":
            chosen = f"--execution={request['execution_id']}"
            return ["logs", "--json", chosen, "--", asked.attempt]
        required = {
            field.encode_name
            for field in msgspec.structs.fields(asked.operation.request)
            if field.required and field.encode_name not in {"title", "items"}
        }
        places = [request.pop(name) for name in list(request) if name in required]
        return [
            *("attempt", asked.operation.command, "--json", *_flags(request)),
            *("--", asked.attempt, *places),
        ]

    def program(self, ground: Ground) -> Program:
        return ground.owner


class NodeToNode(NodeCommand):
    """`node-agent attempt OPERATION A` at another node, by whom signed in there."""

    name = "node to node"

    def program(self, ground: Ground) -> Program:
        return ground.other


def _environment(program: Program) -> dict[str, str]:
    environment = program.full_environment()
    if isinstance(program, NodeProgram):
        environment["SKEP_NODE_DATA_DIR"] = str(program.data_dir)
    return environment


def _flags(request: Mapping[str, Any]) -> list[str]:
    flags = []
    for name, value in request.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            flags.append(flag)
        elif isinstance(value, list):
            flags.append(f"{flag}={json.dumps(value)}")
        else:
            flags.append(f"{flag}={value}")
    return flags


def _told(stderr: bytes) -> SkepError:
    """The error a command told on the last line of what it said to standard error."""
    said = stderr.decode()
    try:
        body = msgspec.convert(json.loads(said.splitlines()[-1])["error"], ErrorBody)
    except (ValueError, IndexError, KeyError) as error:
        raise AssertionError(said) from error
    return operation_error(body)


WAYS: tuple[Way, ...] = (
    Relay(),
    HiveCommand(),
    ByTask(),
    NodeCommand(),
    Direct(),
    NodeToNode(),
)
