"""What the scripted agent does with a prompt: each line that begins with `@` is one thing it does.

Standard library only; imported by `agent.py` beside it, which is run by its path.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

Fields = dict[str, Any]

#: What it writes into where a prompt in plain words does not say.
NOTES: Final = "SKEP-NOTES.md"

HELP: Final = """
lines of a prompt:
  @say TEXT               says it, word by word
  @think TEXT             thinks it
  @plan A; B; C           makes a plan; `@plan` alone does its next step
  @write PATH TEXT        writes a file, as a tool call
  @permit PATH TEXT       asks whether it may, then writes the file or does not
  @run COMMAND            runs a command line, as a tool call
  @question TEXT | A | B  asks a question, with options or without
  @form SCHEMA            asks with a form, as JSON
  @open URL TEXT          asks people to open an address
  @usage USED SIZE [COST] tells of its usage
  @recall                 says what this session was told before
  @hear                   waits for a steering text, and says it
  @sleep SECONDS, @await PATH  waits, until interrupted; @deaf PATH does not hear that
  @huge BYTES             says so much in one line
  @unknown                sends what no client knows
  @garbage [COUNT]        prints lines that are no messages
  @raw LINE               prints a line
  @crash                  ends the process within a tool call
  @silence                does nothing, until interrupted
  @race                   waits for the interrupt, then ends as if there had been none
  @late                   waits for the interrupt, then asks for permission all the same
  @limit [EPOCH_S]        ends the turn at a usage limit, which ends then
  @error CODE MESSAGE     ends the turn with an error
  @stop REASON            ends the turn for this reason
"""

PERMISSIONS: Final = [
    {"optionId": "allow", "name": "Allow", "kind": "allow_once"},
    {"optionId": "always", "name": "Always allow", "kind": "allow_always"},
    {"optionId": "reject", "name": "Reject", "kind": "reject_once"},
]


class TurnEndedError(Exception):
    """The turn ends here, with this reason or this error."""

    def __init__(self, reason: str = "end_turn", error: Fields | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error


class Client:
    """The other end: messages to it, and its answers. Any thread may send."""

    def __init__(self, journal: Path | None) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, queue.Queue[Fields]] = {}
        self._journal = journal

    def note(self, kind: str, **fields: Any) -> None:
        """Write down what happened, where a journal is kept."""
        if self._journal is not None:
            line = json.dumps({"pid": os.getpid(), "kind": kind, **fields})
            with self._lock, self._journal.open("a") as file:
                file.write(line + "\n")

    def send(self, message: Fields) -> None:
        self.print(json.dumps({"jsonrpc": "2.0", **message}))

    def print(self, line: str) -> None:
        with self._lock:
            sys.stdout.buffer.write(line.encode() + b"\n")
            sys.stdout.buffer.flush()

    def ask(self, method: str, params: Fields) -> queue.Queue[Fields]:
        """Send a request; its answer will be in the queue."""
        rpc_id = uuid.uuid4().hex
        answer: queue.Queue[Fields] = queue.Queue()
        self._waiting[rpc_id] = answer
        self.note("asked", method=method)
        self.send({"id": rpc_id, "method": method, "params": params})
        return answer

    def answered(self, message: Fields) -> None:
        """Hand an answer to whoever waits for it."""
        waiting = self._waiting.pop(str(message.get("id")), None)
        self.note("answer", result=message.get("result"), known=waiting is not None)
        if waiting is not None:
            waiting.put(message)


class Host(Protocol):
    """What a turn needs of the agent whose turn it is."""

    client: Client
    pace_s: float

    def cwd_of(self, session_id: str) -> str: ...

    def history(self, session_id: str) -> list[list[str]]: ...

    def remember(self, session_id: str, kind: str, text: str) -> None: ...

    def ended(self, turn: "Turn", message: Fields) -> None: ...


class Turn:
    """One prompt being carried out."""

    def __init__(self, agent: Host, rpc_id: Any, session_id: str, text: str) -> None:
        self.agent = agent
        self.rpc_id = rpc_id
        self.session_id = session_id
        self.text = text
        self.cancelled = threading.Event()
        self.heard: queue.Queue[str] = queue.Queue()
        self._plan: list[Fields] = []

    def run(self) -> None:
        """Do what the prompt says, and answer it."""
        try:
            for word, rest in self._steps():
                self._do(word, rest)
            message: Fields = {"result": {"stopReason": "end_turn"}}
        except TurnEndedError as ended:
            message = {"result": {"stopReason": ended.reason}}
            if ended.error is not None:
                message = {"error": ended.error}
        except Exception as fault:  # noqa: BLE001  a turn without an answer would hang its client
            message = {"error": {"code": -32603, "message": repr(fault)}}
        self.agent.ended(self, message)

    def _steps(self) -> Iterator[tuple[str, str]]:
        lines = [line[1:] for line in self.text.splitlines() if line.startswith("@")]
        for line in lines or story(self.text):
            word, _, rest = line.partition(" ")
            yield word, rest.replace("\\n", "\n")

    def _do(self, word: str, rest: str) -> None:
        action: Callable[[str], None] | None = getattr(self, f"do_{word}", None)
        if action is None:
            raise TurnEndedError(error={"code": -32602, "message": f"no such line: @{word}"})
        action(rest)
        if self.cancelled.is_set():
            raise TurnEndedError("cancelled")

    def update(self, session_update: str, /, **fields: Any) -> None:
        update = {"sessionUpdate": session_update, **fields}
        params = {"sessionId": self.session_id, "update": update}
        self.agent.client.send({"method": "session/update", "params": params})

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond an interrupt."""
        if seconds > 0 and self.cancelled.wait(seconds):
            raise TurnEndedError("cancelled")

    def answer(self, method: str, params: Fields) -> Fields:
        """Ask the client, and wait for its answer; an interrupt brings one too."""
        message = self.agent.client.ask(method, {"sessionId": self.session_id, **params}).get()
        return message.get("result") or {}

    # What a line of a prompt may say.

    def do_say(self, text: str, kind: str = "agent_message_chunk") -> None:
        words = text.split(" ")
        for number, word in enumerate(words):
            piece = word if number == len(words) - 1 else word + " "
            self.update(kind, content={"type": "text", "text": piece})
            self.pause(self.agent.pace_s)
        self.agent.remember(self.session_id, "said", text)

    def do_think(self, text: str) -> None:
        self.do_say(text, "agent_thought_chunk")

    def do_plan(self, text: str) -> None:
        if text:
            contents = [one.strip() for one in text.split(";")]
            self._plan = [
                {"content": one, "status": "pending", "priority": "medium"} for one in contents
            ]
        for entry in self._plan:
            if entry["status"] == "in_progress":
                entry["status"] = "completed"
        for entry in self._plan:
            if entry["status"] == "pending":
                entry["status"] = "in_progress"
                break
        self.update("plan", entries=self._plan)

    def do_write(self, rest: str) -> None:
        path, text, call = self._file_call(rest)
        self.update("tool_call", **call, status="pending")
        self._write(path, text, call)

    def do_permit(self, rest: str) -> None:
        path, text, call = self._file_call(rest)
        self.update("tool_call", **call, status="pending")
        outcome = self.answer(
            "session/request_permission", {"toolCall": call, "options": PERMISSIONS}
        ).get("outcome", {})
        chosen = outcome.get("optionId")
        if chosen in {"allow", "always"}:
            self._write(path, text, call)
            return
        self.update("tool_call_update", toolCallId=call["toolCallId"], status="failed")
        if outcome.get("outcome") == "cancelled":
            raise TurnEndedError("cancelled")
        self.do_say(f"I was not allowed to write {path}.")

    def _file_call(self, rest: str) -> tuple[str, str, Fields]:
        path, _, text = rest.partition(" ")
        place = Path(self.agent.cwd_of(self.session_id)) / path
        before = place.read_text() if place.is_file() else None
        return (
            path,
            text + "\n",
            {
                "toolCallId": f"call-{uuid.uuid4().hex[:12]}",
                "title": f"Write {path}",
                "kind": "edit",
                "locations": [{"path": str(place)}],
                "rawInput": {"file_path": str(place), "content": text + "\n"},
                "content": [
                    {"type": "diff", "path": str(place), "oldText": before, "newText": text + "\n"}
                ],
            },
        )

    def _write(self, path: str, text: str, call: Fields) -> None:
        call_id = call["toolCallId"]
        self.update("tool_call_update", toolCallId=call_id, status="in_progress")
        self.pause(self.agent.pace_s)
        place = Path(self.agent.cwd_of(self.session_id)) / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        self.agent.client.note("wrote", path=path)
        self.update("tool_call_update", toolCallId=call_id, status="completed")

    def do_run(self, command: str) -> None:
        call_id = f"call-{uuid.uuid4().hex[:12]}"
        call: Fields = {
            "toolCallId": call_id,
            "title": command,
            "kind": "execute",
            "rawInput": {"command": command},
        }
        self.update("tool_call", **call, status="in_progress")
        ran = subprocess.run(
            ["sh", "-c", command],
            cwd=self.agent.cwd_of(self.session_id),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        output = ran.stdout.decode("utf-8", "replace")
        content = [{"type": "content", "content": {"type": "text", "text": output}}]
        status = "failed" if ran.returncode else "completed"
        self.update("tool_call_update", toolCallId=call_id, status=status, content=content)

    def do_question(self, rest: str) -> None:
        text, *options = [part.strip() for part in rest.split("|")]
        field: Fields = {"type": "string", "title": text}
        if options:
            field["oneOf"] = [{"const": one, "title": one} for one in options]
        schema = {"type": "object", "properties": {"answer": field}, "required": ["answer"]}
        self._elicit(text, schema)

    def do_form(self, schema: str) -> None:
        self._elicit("Please fill this in.", json.loads(schema))

    def _elicit(self, text: str, schema: Fields) -> None:
        params = {"mode": "form", "message": text, "requestedSchema": schema}
        said = self._elicited(params)
        shown = json.dumps(said.get("content"), sort_keys=True)
        self.do_say(f"You said {shown}" if said.get("action") == "accept" else "You declined")

    def do_open(self, rest: str) -> None:
        url, _, text = rest.partition(" ")
        known_as = uuid.uuid4().hex
        said = self._elicited(
            {"mode": "url", "elicitationId": known_as, "url": url, "message": text}
        )
        params = {"elicitationId": known_as}
        self.agent.client.send({"method": "elicitation/complete", "params": params})
        self.do_say("It was opened" if said.get("action") == "accept" else "It was not opened")

    def _elicited(self, params: Fields) -> Fields:
        said = self.answer("elicitation/create", params)
        if said.get("action") == "cancel":
            raise TurnEndedError("cancelled")
        return said

    def do_usage(self, rest: str) -> None:
        used, size, *cost = rest.split()
        fields: Fields = {"used": int(used), "size": int(size)}
        if cost:
            fields["cost"] = {"amount": float(cost[0]), "currency": "USD"}
        self.update("usage_update", **fields)

    def do_recall(self, rest: str) -> None:
        del rest
        told = [text for kind, text in self.agent.history(self.session_id) if kind == "told"]
        first_lines = [text.splitlines()[0] if text else "" for text in told[:-1]]
        self.do_say(f"Before this I was told: {json.dumps(first_lines)}")

    def do_hear(self, rest: str) -> None:
        del rest
        while not self.cancelled.is_set():
            try:
                self.do_say(f"I heard: {self.heard.get(timeout=0.05)}")
            except queue.Empty:
                continue
            return

    def do_sleep(self, seconds: str) -> None:
        self.pause(float(seconds))

    def do_await(self, path: str) -> None:
        while not (Path(self.agent.cwd_of(self.session_id)) / path).exists():
            self.pause(0.02)

    def do_deaf(self, path: str) -> None:
        while not (Path(self.agent.cwd_of(self.session_id)) / path).exists():
            time.sleep(0.02)

    def do_huge(self, size: str) -> None:
        text = "x" * int(size)
        self.update("agent_message_chunk", content={"type": "text", "text": text})

    def do_unknown(self, rest: str) -> None:
        del rest
        self.update("from_the_future", content={"type": "hologram"})
        self.agent.client.send({"method": "_skep/unheard_of", "params": {"a": 1}})
        answer = self.agent.client.ask("_skep/question", {"sessionId": self.session_id}).get()
        self.do_say(f"It was refused with {answer.get('error', {}).get('code')}")

    def do_garbage(self, count: str) -> None:
        for number in range(int(count or 1)):
            self.agent.client.print(f'{{"jsonrpc": "2.0", "method": "session/upd{number}')

    def do_raw(self, line: str) -> None:
        self.agent.client.print(line)

    def do_crash(self, rest: str) -> None:
        del rest
        self.update(
            "tool_call", toolCallId="call-crash", title="Crash", kind="other", status="in_progress"
        )
        os._exit(3)

    def do_silence(self, rest: str) -> None:
        del rest
        self.cancelled.wait()

    def _expect_interrupt(self, rest: str) -> None:
        text = rest or "Interrupt me."
        self.update("agent_message_chunk", content={"type": "text", "text": text})
        self.cancelled.wait()

    def do_race(self, rest: str) -> None:
        self._expect_interrupt(rest)
        raise TurnEndedError("end_turn")

    def do_late(self, rest: str) -> None:
        self._expect_interrupt(rest)
        call = {"toolCallId": "call-late", "title": "Too late", "kind": "other"}
        params = {"toolCall": call, "options": PERMISSIONS}
        outcome = self.answer("session/request_permission", params)
        self.agent.client.note("late", outcome=outcome)

    def do_limit(self, epoch_s: str) -> None:
        data: Fields = {"errorKind": "rate_limit"}
        message = "You've hit your limit"
        if epoch_s and time.time() >= float(epoch_s):
            return
        if epoch_s:
            message = f"Claude AI usage limit reached|{epoch_s}"
        raise TurnEndedError(error={"code": -32603, "message": message, "data": data})

    def do_error(self, rest: str) -> None:
        code, _, message = rest.partition(" ")
        raise TurnEndedError(error={"code": int(code), "message": message})

    def do_stop(self, reason: str) -> None:
        raise TurnEndedError(reason)


def story(text: str) -> list[str]:
    """What a prompt in plain words is answered with."""
    said = text.strip()[:400].replace("\\", "/").replace("\n", "\\n") or "nothing"
    if said.lower().startswith("commit"):
        commit = "git -c commit.gpgsign=false commit --quiet --message 'Write notes'"
        return [
            f"think I am asked to commit: {NOTES}, for I know of nothing else.",
            f"run git add --force -- {NOTES} && {commit} -- {NOTES} && git log --oneline -1",
            "recall",
        ]
    return [
        "think I look at what is here, then I write down what was asked.",
        "plan Look around; Write it down; Tell",
        "run git log --oneline -3",
        "plan",
        f"permit {NOTES} # Asked of the scripted agent\\n\\n{said}",
        "plan",
        f"say I wrote **{NOTES}**. That is all a scripted agent can do.",
        "plan",
        "usage 1200 200000 0.01",
    ]
