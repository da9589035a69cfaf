"""The Messages API of Anthropic, as far as Claude Code asks for it: what it is told and says."""

import json
import uuid
from typing import Any

from tests.agents.model_script import Action, Call, Run, Said, Speak


def history(body: dict[str, Any]) -> list[Said]:
    """Return the conversation that a request carries."""
    said = []
    for message in body["messages"]:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in blocks:
            if block["type"] == "tool_result":
                said.append(Said("result", json.dumps(block.get("content"))))
            elif block["type"] == "text":
                said.append(Said(message["role"], block["text"]))
    return said


def _block(body: dict[str, Any], action: Action) -> dict[str, Any]:
    if isinstance(action, Speak) or not body.get("tools"):
        return {"type": "text", "text": action.text if isinstance(action, Speak) else "Work"}
    called = f"toolu_{uuid.uuid4().hex}"
    if isinstance(action, Run):
        used = {"command": action.command, "description": "Make a file"}
        return {"type": "tool_use", "id": called, "name": "Bash", "input": used}
    assert isinstance(action, Call)
    name = f"mcp__skep__{action.tool}"
    return {"type": "tool_use", "id": called, "name": name, "input": action.arguments}


def whole(body: dict[str, Any], action: Action) -> dict[str, Any]:
    """Return what is said, as one answer."""
    block = _block(body, action)
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [block],
        "stop_reason": "tool_use" if block["type"] == "tool_use" else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }


def events(body: dict[str, Any], action: Action) -> list[dict[str, Any]]:
    """Return what is said, as the events of a stream."""
    message = whole(body, action)
    (block,) = message["content"]
    if block["type"] == "text":
        empty = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": block["text"]}
    else:
        empty = {**block, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    ends = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    return [
        {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ends, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
