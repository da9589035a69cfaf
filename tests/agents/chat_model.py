"""The Chat Completions API of OpenAI, as agents ask for it: what it is told and what it says."""

import json
import uuid
from typing import Any, Final

from tests.agents.model_script import Action, Call, Run, Said, Speak

#: The tools for commands, by what each agent calls them.
_SHELLS: Final = ("bash", "run_shell_command")
#: Where there are many tools, most are offered once they were looked for.
_LOOKS: Final = "tool_search"
_LOOKED: Final = "look_"


def history(body: dict[str, Any]) -> list[Said]:
    """Return the conversation that a request carries."""
    said = []
    for message in body["messages"]:
        content = message.get("content") or ""
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        role = "result" if message["role"] == "tool" else message["role"]
        if role == "result" and message.get("tool_call_id", "").startswith(_LOOKED):
            continue
        if role == "result":
            said.append(Said("result", json.dumps(parts)))
        else:
            said += [Said(role, part["text"]) for part in parts if part.get("type") == "text"]
    return said


def _tool_call(body: dict[str, Any], action: Run | Call) -> dict[str, Any]:
    offered = [tool["function"]["name"] for tool in body["tools"]]
    called_as = f"call_{uuid.uuid4().hex}"
    if isinstance(action, Run):
        name = next(one for one in offered if one in _SHELLS)
        arguments: dict[str, Any] = {"command": action.command, "description": "Make a file"}
        if name == "run_shell_command":
            arguments["is_background"] = False
    else:
        arguments = action.arguments
        name = next((one for one in offered if one.endswith(action.tool)), _LOOKS)
        if name == _LOOKS:
            arguments = {"query": f"select:mcp__skep__{action.tool}"}
            called_as = f"{_LOOKED}{uuid.uuid4().hex}"
    called = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": called_as, "type": "function", "function": called}


def whole(body: dict[str, Any], action: Action) -> dict[str, Any]:
    """Return what is said, as one answer."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    if isinstance(action, Speak) or not body.get("tools"):
        message["content"] = action.text if isinstance(action, Speak) else "Work"
    else:
        message["tool_calls"] = [_tool_call(body, action)]
    ends = "tool_calls" if "tool_calls" in message else "stop"
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": ends}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def chunks(body: dict[str, Any], action: Action) -> list[dict[str, Any]]:
    """Return what is said, as the chunks of a stream."""
    answer = whole(body, action)
    ((choice,), usage) = (answer.pop("choices"), answer.pop("usage"))
    delta = {name: value for name, value in choice["message"].items() if value is not None}
    for index, call in enumerate(delta.get("tool_calls", ())):
        call["index"] = index
    chunk = {**answer, "object": "chat.completion.chunk"}
    return [
        {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {
            **chunk,
            "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}],
            "usage": usage,
        },
    ]
