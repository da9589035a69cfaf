"""Judges both ends of a conversation by the protocol's own schema, as its Python package has it.

Independent of how our code reads and writes: a message is right if the schema takes it and gives it
back as it was, so that no field is misspelt, left out or of another type.
"""

import json
from typing import Any

from acp import schema
from pydantic import TypeAdapter

Fields = dict[str, Any]

#: Method -> (who asks, what it asks with, what is answered).
CALLS: dict[str, tuple[str, Any, Any]] = {
    "initialize": ("client", schema.InitializeRequest, schema.InitializeResponse),
    "authenticate": ("client", schema.AuthenticateRequest, schema.AuthenticateResponse),
    "session/new": ("client", schema.NewSessionRequest, schema.NewSessionResponse),
    "session/load": ("client", schema.LoadSessionRequest, schema.LoadSessionResponse),
    "session/resume": ("client", schema.ResumeSessionRequest, schema.ResumeSessionResponse),
    "session/fork": ("client", schema.ForkSessionRequest, schema.ForkSessionResponse),
    "session/set_mode": ("client", schema.SetSessionModeRequest, schema.SetSessionModeResponse),
    "session/set_config_option": (
        "client",
        schema.SetSessionConfigOptionSelectRequest,
        schema.SetSessionConfigOptionResponse,
    ),
    "session/prompt": ("client", schema.PromptRequest, schema.PromptResponse),
    "session/request_permission": (
        "agent",
        schema.RequestPermissionRequest,
        schema.RequestPermissionResponse,
    ),
    "elicitation/create": (
        "agent",
        schema.CreateElicitationRequest,
        schema.CreateElicitationResponse,
    ),
}
NOTICES: dict[str, tuple[str, Any]] = {
    "session/cancel": ("client", schema.CancelNotification),
    "session/update": ("agent", schema.SessionNotification),
    "elicitation/complete": ("agent", schema.CompleteElicitationNotification),
}


class Judge:
    """Remembers what was asked, so that answers can be judged too."""

    def __init__(self) -> None:
        self.asked: dict[tuple[str, str], str] = {}
        self.judged: set[str] = set()

    def hears(self, who: str, line: bytes) -> None:
        """Fail where this line of `agent` or `client` is not as the schema says."""
        message = json.loads(line)
        assert message.pop("jsonrpc") == "2.0"
        method, rpc_id = message.get("method"), json.dumps(message.get("id"))
        if method is None:
            self._answer(who, rpc_id, message)
        elif "id" in message:
            assert set(message) == {"id", "method", "params"}
            self.asked[who, rpc_id] = method
            if not method.startswith("_"):
                asker, shape, _ = CALLS[method]
                assert asker == who
                self._fits(method, shape, message["params"])
        elif not method.startswith("_"):
            assert set(message) == {"method", "params"}
            sender, shape = NOTICES[method]
            assert sender == who
            self._fits(method, shape, message["params"])

    def _answer(self, who: str, rpc_id: str, message: Fields) -> None:
        other = "client" if who == "agent" else "agent"
        method = self.asked.pop((other, rpc_id), None)
        assert method is not None, f"{who} answers what nobody asked, or a second time: {rpc_id}"
        assert set(message) in ({"id", "result"}, {"id", "error"})
        if "error" in message:
            self._fits("error", schema.Error, message["error"])
        elif not method.startswith("_"):
            self._fits(f"{method} answered", CALLS[method][2], message["result"])

    def _fits(self, what: str, shape: Any, value: Fields) -> None:
        adapter: TypeAdapter[Any] = TypeAdapter(shape)
        read = adapter.validate_json(json.dumps(value))
        again = adapter.dump_python(read, mode="json", by_alias=True, exclude_unset=True)
        assert again == value, what
        self.judged.add(what)
