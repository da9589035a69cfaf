"""An agent that does what its prompt says, word for word: the Agent Client Protocol, and no model.

Standard library only: `python scripts/demonstration/agent.py [OPTIONS]` speaks the protocol on its
pipes. Lines of a prompt that begin with `@` are what it does, in order; a prompt without such lines
is answered with a small story that really writes a file. `--help` lists both.
"""

import argparse
import json
import os
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Beside this file, and found there because this is run by its path: in a worktree, by any Python.
from agent_turn import HELP, Client, Fields, Turn, TurnEndedError


class Agent:
    """The agent: its sessions, what it can do, and the turn it is at."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.client = Client(options.journal)
        self.pace_s: float = options.pace
        self._options = options
        self._logged_in = not options.login
        self._turns: dict[str, Turn] = {}
        self._sessions: dict[str, Fields] = {}
        self._lock = threading.RLock()

    def serve(self) -> None:
        """Read until the client closes our input."""
        for line in sys.stdin.buffer:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if isinstance(message, dict):
                self._take(message)
        # Whatever a turn still waits for, nobody is there to hear of it.
        os._exit(0)

    def _take(self, message: Fields) -> None:
        method, params = message.get("method"), message.get("params") or {}
        if method is None:
            self.client.answered(message)
        elif method == "session/cancel":
            self.client.note("cancel")
            turn = self._turns.get(params.get("sessionId", ""))
            if turn is not None:
                turn.cancelled.set()
        elif method == "session/prompt":
            self._prompt(message["id"], params)
        else:
            self.client.note("called", method=method)
            self.client.send({"id": message.get("id"), **self._reply(method, params)})

    def _reply(self, method: str, params: Fields) -> Fields:
        answers: dict[str, Callable[[Fields], Fields]] = {
            "initialize": self._initialize,
            "authenticate": self._authenticate,
            "session/new": self._new,
            "session/load": self._load,
            "session/resume": self._resume,
            "session/fork": self._fork,
            "session/set_mode": lambda _: {},
            "session/set_config_option": lambda _: {"configOptions": self._config_options()},
            "_session/steering": self._steer,
        }
        if method not in answers:
            return {"error": {"code": -32601, "message": f"Method not found: {method}"}}
        try:
            return {"result": answers[method](params)}
        except TurnEndedError as ended:
            return {"error": ended.error}

    def _initialize(self, params: Fields) -> Fields:
        del params
        can = {one for one in ("resume", "fork") if one not in self._options.cannot}
        result: Fields = {
            "protocolVersion": self._options.protocol_version,
            "agentCapabilities": {
                "loadSession": "load" not in self._options.cannot,
                "promptCapabilities": {"image": "images" not in self._options.cannot},
                "mcpCapabilities": {"http": True, "sse": False},
                "sessionCapabilities": {one: {} for one in sorted(can)},
            },
            "agentInfo": {"name": "scripted-agent", "title": "Scripted agent", "version": "1.0"},
            "authMethods": [
                {"id": "word", "name": "The word", "description": "run it without --login"}
            ],
        }
        if "steer" not in self._options.cannot:
            result["_meta"] = {"steering": {"supported": True}}
        return result

    def _authenticate(self, params: Fields) -> Fields:
        if params.get("methodId") != "word":
            raise TurnEndedError(error={"code": -32602, "message": "no such method"})
        self._logged_in = True
        return {}

    def _opened(self) -> Fields:
        modes = [{"id": "default", "name": "Default"}, {"id": "plan", "name": "Plan"}]
        return {
            "modes": {"currentModeId": "default", "availableModes": modes},
            "configOptions": self._config_options(),
        }

    def _config_options(self) -> list[Fields]:
        models = [{"value": "small", "name": "Small"}, {"value": "large", "name": "Large"}]
        return [
            {
                "id": "model",
                "name": "Model",
                "category": "model",
                "type": "select",
                "currentValue": "small",
                "options": models,
            }
        ]

    def _new(self, params: Fields, history: list[list[str]] | None = None) -> Fields:
        if not self._logged_in:
            raise TurnEndedError(error={"code": -32000, "message": "Authentication required"})
        session_id = str(uuid.uuid4())
        with self._lock:
            self._sessions[session_id] = {"cwd": params["cwd"], "history": history or []}
            self._keep(session_id)
        return {"sessionId": session_id, **self._opened()}

    def _known(self, params: Fields, ability: str) -> str:
        session_id = str(params.get("sessionId"))
        if ability in self._options.cannot:
            raise TurnEndedError(error={"code": -32601, "message": "Method not found"})
        folder: Path | None = self._options.sessions
        if folder is not None and (folder / f"{session_id}.json").is_file():
            self._sessions[session_id] = json.loads((folder / f"{session_id}.json").read_text())
        if session_id not in self._sessions:
            raise TurnEndedError(error={"code": -32002, "message": f"Unknown: {session_id}"})
        return session_id

    def _resume(self, params: Fields) -> Fields:
        self._sessions[self._known(params, "resume")]["cwd"] = params["cwd"]
        return self._opened()

    def _load(self, params: Fields) -> Fields:
        session_id = self._known(params, "load")
        self._sessions[session_id]["cwd"] = params["cwd"]
        for kind, text in self.history(session_id):
            word = "user_message_chunk" if kind == "told" else "agent_message_chunk"
            update = {"sessionUpdate": word, "content": {"type": "text", "text": text}}
            params = {"sessionId": session_id, "update": update}
            self.client.send({"method": "session/update", "params": params})
        return self._opened()

    def _fork(self, params: Fields) -> Fields:
        known = self._sessions[self._known(params, "fork")]
        return self._new(params, list(known["history"]))

    def _steer(self, params: Fields) -> Fields:
        turn = self._turns.get(params.get("sessionId", ""))
        if turn is None:
            return {"outcome": "promptRequired", "reason": "noRunningTurn"}
        turn.heard.put("".join(one.get("text", "") for one in params["prompt"]))
        return {"outcome": "injected"}

    def _prompt(self, rpc_id: Any, params: Fields) -> None:
        session_id = str(params.get("sessionId"))
        if session_id not in self._sessions or session_id in self._turns:
            error = {"code": -32602, "message": "no such session, or it is at work"}
            self.client.send({"id": rpc_id, "error": error})
            return
        text = "".join(one.get("text", "") for one in params["prompt"])
        self.client.note("prompt", text=text)
        self.remember(session_id, "told", text)
        turn = self._turns[session_id] = Turn(self, rpc_id, session_id, self._script or text)
        threading.Thread(target=turn.run, daemon=True).start()

    @property
    def _script(self) -> str:
        return self._options.script.read_text() if self._options.script else ""

    def ended(self, turn: Turn, message: Fields) -> None:
        """Answer a prompt; the session is free for the next one before the client knows."""
        del self._turns[turn.session_id]
        self.client.note("ended", message=message)
        self.client.send({"id": turn.rpc_id, **message})

    def cwd_of(self, session_id: str) -> str:
        return str(self._sessions[session_id]["cwd"])

    def history(self, session_id: str) -> list[list[str]]:
        return list(self._sessions[session_id]["history"])

    def remember(self, session_id: str, kind: str, text: str) -> None:
        with self._lock:
            self._sessions[session_id]["history"].append([kind, text])
            self._keep(session_id)

    def _keep(self, session_id: str) -> None:
        folder: Path | None = self._options.sessions
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            draft = folder / f"{session_id}.draft"
            draft.write_text(json.dumps(self._sessions[session_id]))
            draft.rename(folder / f"{session_id}.json")


def main() -> None:
    """Speak the protocol until the input ends."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=Path, help="where sessions outlive the process")
    parser.add_argument("--script", type=Path, help="a file whose lines every prompt stands for")
    parser.add_argument("--journal", type=Path, help="where to write down what it was told")
    parser.add_argument("--pace", type=float, default=0.0, help="seconds after each word")
    parser.add_argument(
        "--cannot",
        type=lambda text: text.split(","),
        default=[],
        help="what it cannot: load,resume,fork,images,steer",
    )
    parser.add_argument("--login", action="store_true", help="asks to be logged in first")
    parser.add_argument("--protocol-version", type=int, default=1, help="what it says it speaks")
    parser.add_argument("--version", action="version", version="scripted-agent 1.0")
    Agent(parser.parse_args()).serve()


if __name__ == "__main__":
    main()
