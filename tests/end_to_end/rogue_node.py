"""A node that joined by the book and then does not keep to it: any frame, on a real link.

Owns one socket. It signs what it must sign with its own enrolled key, so that only what it says
afterwards can be what is refused.
"""

from contextlib import ExitStack
from typing import Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from node_agent.identity import open_identity
from protocol import codec, digest
from protocol.messages import (
    SUBPROTOCOLS,
    Challenge,
    Hello,
    HelloLogs,
    HiveMessage,
    NodeMessage,
    Welcome,
    WelcomeLogs,
)
from protocol.ops import EpochState, Op
from protocol.tokens import hello_bytes
from tests.end_to_end.hive_program import HiveProgram
from tests.end_to_end.node_program import NodeProgram

#: Nothing healthy takes the hive this long.
ANSWER_S_MAX = 20.0


class RogueNode:
    """A link under a node's own key, with a journal of one new epoch."""

    def __init__(self, hive: HiveProgram, node: NodeProgram) -> None:
        self.node = node
        self._identity = open_identity(node.data_dir)
        self._hive = hive
        self._socket: ClientConnection
        self._sockets = ExitStack()
        self.node_id = self._identity.node_id
        self.epoch = self._identity.instance
        self.connect_no = 1
        self.welcome: Welcome

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._sockets.close()

    def dial(self) -> Challenge:
        """Open the socket; return what the hive asks to be signed."""
        self._socket = self._sockets.enter_context(
            connect(
                f"ws://127.0.0.1:{self._hive.port}/v1/link",
                subprotocols=[Subprotocol(name) for name in SUBPROTOCOLS],
                compression=None,
                max_size=None,
                proxy=None,
                close_timeout=2,
            )
        )
        challenge = self.receive()
        assert isinstance(challenge, Challenge)
        return challenge

    def hello(self, challenge: Challenge, **changes: object) -> Hello:
        """The hello that a good node would say, but for some changes."""
        host = f"127.0.0.1:{self._hive.port}"
        signed = hello_bytes(
            challenge.hive_id, host, challenge.nonce, self.node_id, self.epoch, self.connect_no
        )
        told = {
            "node_id": self.node_id,
            "instance": self.epoch,
            "connect_no": self.connect_no,
            "host": host,
            "signature": self._identity.sign(signed),
            "version": "0",
            "epochs": [EpochState(self.epoch, 1, 0, digest.EMPTY)],
        }
        return Hello(**{**told, **changes})

    def link(self) -> Self:
        """Dial and come to be live, as a good node."""
        return self.greet(self.dial())

    def greet(self, challenge: Challenge, **changes: object) -> Self:
        """Answer the challenge, and come to be live."""
        self.send(self.hello(challenge, **changes), HelloLogs(logs=[], last=True))
        welcome = self.receive()
        assert isinstance(welcome, Welcome), welcome
        self.welcome = welcome
        marks = self.receive()
        assert isinstance(marks, WelcomeLogs)
        return self

    def op(self, kind: str, entity_id: str, body: bytes) -> Op:
        """One op, as it stands in a frame."""
        return Op(kind, entity_id, 1, body)

    def send(self, *messages: NodeMessage) -> None:
        """Send frames as they are."""
        for message in messages:
            self._socket.send(codec.encode(message))

    def send_raw(self, content: bytes | str) -> None:
        """Send anything as one frame."""
        self._socket.send(content)

    def receive(self) -> HiveMessage:
        """The next frame of the hive."""
        return codec.decode_from_hive(bytes(self._socket.recv(ANSWER_S_MAX, decode=False)))

    def closed(self) -> tuple[int, str]:
        """Wait until the hive closes the link; return its code and reason."""
        try:
            while True:
                self._socket.recv(ANSWER_S_MAX)
        except ConnectionClosed as closed:
            said = closed.rcvd
        assert said is not None, "the socket broke without a close"
        return said.code, said.reason
