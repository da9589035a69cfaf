"""The Responses API of OpenAI, as far as Codex asks for it: what it was told, what it says."""

import json
import uuid
from typing import Any, Final

from tests.agents.model_script import Action, Call, Run, Said, Speak

#: Calls that only pass the time until a tool is offered: Codex starts its servers meanwhile.
_WAITS: Final = "wait_"


def history(body: dict[str, Any]) -> list[Said]:
    """Return the conversation that a request carries."""
    said = []
    for item in body["input"]:
        kind = item.get("type", "message")
        if kind == "message":
            content = item["content"]
            parts = [{"text": content}] if isinstance(content, str) else content
            said += [Said(item["role"], part.get("text", "")) for part in parts]
        elif kind.endswith("_output") and not item.get("call_id", "").startswith(_WAITS):
            said.append(Said("result", json.dumps(item.get("output"))))
    return said


def _item(body: dict[str, Any], action: Action) -> dict[str, Any]:
    if isinstance(action, Speak) or not body.get("tools"):
        said = action.text if isinstance(action, Speak) else "Work"
        content = [{"type": "output_text", "text": said, "annotations": []}]
        return {
            "type": "message",
            "id": f"msg_{uuid.uuid4().hex}",
            "role": "assistant",
            "status": "completed",
            "content": content,
        }
    called: dict[str, Any] = {
        "type": "function_call",
        "id": f"fc_{uuid.uuid4().hex}",
        "call_id": f"call_{uuid.uuid4().hex}",
        "status": "completed",
    }
    if isinstance(action, Run):
        return {**called, **_command(body, action)}
    assert isinstance(action, Call)
    return {**called, **_tool(body, action)}


def _command(body: dict[str, Any], action: Run) -> dict[str, Any]:
    """Return the call of whichever tool for commands is offered, asking for a person's leave."""
    names = {tool.get("name") for tool in body.get("tools", [])}
    leave = {"sandbox_permissions": "require_escalated", "justification": "It writes a file."}
    if "exec_command" in names:
        name, arguments = "exec_command", {"cmd": action.command, **leave}
    elif "shell_command" in names:
        name, arguments = "shell_command", {"command": action.command, **leave}
    else:
        name, arguments = "shell", {"command": ["bash", "-c", action.command], **leave}
    return {"name": name, "arguments": json.dumps(arguments)}


def _tool(body: dict[str, Any], action: Call) -> dict[str, Any]:
    """Return the call of a tool of Skep's; until it is offered, one that asks for what is."""
    arguments = json.dumps(action.arguments)
    for tool in body.get("tools", []):
        if tool.get("type") == "namespace" and "skep" in tool["name"]:
            return {"name": action.tool, "namespace": tool["name"], "arguments": arguments}
    waiting = f"{_WAITS}{uuid.uuid4().hex}"
    return {"name": "list_mcp_resources", "call_id": waiting, "arguments": "{}"}


def events(body: dict[str, Any], action: Action) -> list[dict[str, Any]]:
    """Return what is said, as the events of a stream."""
    item = _item(body, action)
    response = {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "model": body["model"],
        "output": [],
    }
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 15,
    }
    done = {**response, "status": "completed", "output": [item], "usage": usage}
    return [
        {"type": "response.created", "response": {**response, "status": "in_progress"}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": done},
    ]
