"""A tiny agent of the Agent Client Protocol, whose prompts are its script. For tests of the node.

`python tiny_agent.py FOLDER`: each line of a prompt is an order: `say TEXT`, `write FILE TEXT`,
`ask TITLE`, `until FILE`, `note WORD` (a line in FOLDER/notes), `env NAME` (likewise),
`crash`, `hang`, `deaf`, `limit [WORDS]`, `late TEXT` (said in one breath with the turn's end),
`once FILE WORDS` (a limit too, unless the file is there, which it is from then on). After FOLDER:
`forgetful`, which cannot take a session up again, `losing`, which says it can, or `loading`, which
tells again what was said when it does, and answers nothing it does not know. It says that it can be
steered, and never answers who does.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])
KIND = sys.argv[2] if len(sys.argv) > 2 else ""
INBOX: "queue.Queue[dict[str, Any] | None]" = queue.Queue()


class Cancelled(Exception):  # noqa: N818  what happened
    """The turn is to end."""


def say(**frame: Any) -> None:
    """Print one frame."""
    print_frames(frame)


def print_frames(*frames: dict[str, Any]) -> None:
    """Print frames in one breath."""
    sys.stdout.write("".join(json.dumps({"jsonrpc": "2.0", **one}) + "\n" for one in frames))
    sys.stdout.flush()


def note(word: str) -> None:
    """Leave a word that outlives the process."""
    with (FOLDER / "notes").open("a") as file:
        file.write(word + "\n")


def listen() -> None:
    """Put what comes into the inbox, and None at its end."""
    for line in sys.stdin:
        INBOX.put(json.loads(line))
    INBOX.put(None)


class Session:
    """The one session."""

    def __init__(self) -> None:
        self.id = ""
        self.late = ""

    def update(self, **update: Any) -> None:
        say(method="session/update", params={"sessionId": self.id, "update": update})

    def text(self, text: str) -> None:
        content = {"type": "text", "text": text}
        self.update(sessionUpdate="agent_message_chunk", content=content)

    def obey(self, order: str) -> None:
        """Do one line of a prompt."""
        word, _, rest = order.strip().partition(" ")
        if word == "say":
            for piece in rest.split(" "):
                self.text(piece + " ")
        elif word == "write":
            name, _, content = rest.partition(" ")
            Path(name).write_text(content + "\n")
            call = {"toolCallId": f"w{name}", "title": f"Write {name}", "kind": "edit"}
            self.update(sessionUpdate="tool_call", **call, status="completed")
        elif word == "ask":
            self.text(f"was answered {self.ask(rest)}")
        elif word == "until":
            while not (FOLDER / rest).exists():
                self.look()
        elif word == "note":
            note(rest)
        elif word == "env":
            note(f"env {rest}={os.environ.get(rest)}")
        elif word == "late":
            self.late = rest
        elif word == "crash":
            os._exit(3)
        elif word == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(1)
        elif word == "hang":
            while True:
                self.look()

    def ask(self, title: str) -> str:
        """Ask for permission, and wait."""
        call = {"toolCallId": uuid.uuid4().hex, "title": title, "kind": "execute"}
        options = [
            {"optionId": "yes", "name": "Allow", "kind": "allow_once"},
            {"optionId": "no", "name": "Reject", "kind": "reject_once"},
        ]
        number = f"ask-{uuid.uuid4().hex}"
        params = {"sessionId": self.id, "toolCall": call, "options": options}
        note(f"asked {title}")
        say(id=number, method="session/request_permission", params=params)
        cancelled = False
        while True:
            frame = INBOX.get()
            if frame is None:
                os._exit(0)
            if frame.get("id") == number:
                outcome = frame["result"]["outcome"]
                note(f"answered {outcome.get('optionId', outcome['outcome'])}")
                if cancelled:
                    raise Cancelled
                return str(outcome.get("optionId", outcome["outcome"]))
            cancelled = cancelled or frame.get("method") == "session/cancel"

    def look(self) -> None:
        """Look whether the turn is to end."""
        try:
            frame = INBOX.get(timeout=0.02)
        except queue.Empty:
            return
        if frame is None:
            os._exit(0)
        if frame.get("method") == "session/cancel":
            raise Cancelled
        if frame.get("method") == "_session/steering":
            note("steered")

    def prompt(self, params: dict[str, Any]) -> dict[str, Any]:
        text = "\n".join(block.get("text", "") for block in params["prompt"])
        note(f"prompt {text.splitlines()[0]}")
        for order in text.splitlines():
            word, _, rest = order.strip().partition(" ")
            if word == "limit":
                raise RuntimeError(f"usage limit reached{rest and ', '}{rest}")
            if word == "once" and not (FOLDER / rest.partition(" ")[0]).exists():
                (FOLDER / rest.partition(" ")[0]).touch()
                raise RuntimeError(f"usage limit reached, {rest.partition(' ')[2]}")
            self.obey(order)
        return {"stopReason": "end_turn"}


def answer(session: Session, frame: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a request."""
    method = frame["method"]
    params = frame.get("params", {})
    if method == "initialize":
        can: dict[str, Any] = {} if KIND == "forgetful" else {"resume": {}}
        capabilities: dict[str, Any] = {"sessionCapabilities": can}
        if KIND == "loading":
            capabilities = {"loadSession": True}
        return {
            "protocolVersion": 1,
            "agentCapabilities": capabilities,
            "agentInfo": {"name": "tiny", "version": "1"},
            "_meta": {"steering": {"supported": True}},
        }
    if method == "session/new":
        session.id = uuid.uuid4().hex
        note("new")
        return {"sessionId": session.id}
    if method == "session/load":
        session.id = params["sessionId"]
        session.text("said before")
        note("loaded")
        return {}
    if method == "session/resume" and KIND == "losing":
        raise RuntimeError("there is no such session")
    if method == "session/resume":
        session.id = params["sessionId"]
        note("resumed")
        return {}
    return session.prompt(params)


def main() -> None:
    """Serve until the input ends."""
    threading.Thread(target=listen, daemon=True).start()
    session = Session()
    while (frame := INBOX.get()) is not None:
        if "id" not in frame or frame.get("method") in {None, "_session/steering"}:
            continue
        if KIND == "loading" and frame["method"].startswith("_"):
            continue
        try:
            session.late = ""
            answered = {"id": frame["id"], "result": answer(session, frame)}
            content = {"type": "text", "text": session.late}
            update = {"sessionUpdate": "agent_message_chunk", "content": content}
            behind = {
                "method": "session/update",
                "params": {"sessionId": session.id, "update": update},
            }
            print_frames(answered, *([behind] if session.late else []))
        except Cancelled:
            say(id=frame["id"], result={"stopReason": "cancelled"})
        except RuntimeError as error:
            say(id=frame["id"], error={"code": 429, "message": str(error)})
    time.sleep(0)


if __name__ == "__main__":
    main()
