"""The first words with an agent: what we say we can, what it says it can, how its session begins.

Builds and reads values only; the order in which they are said is the machine's.
"""

from typing import Any, Final

import msgspec

from node_agent.acp.state import AgentAbilities
from node_agent.acp.steps import AgentReady, McpServer, Opening, Prompt
from node_agent.acp.wire import mapping_in, mappings_in, text_in

PROTOCOL_VERSION: Final = 1
STEER_METHOD: Final = "_session/steering"
#: A method that no agent has: to each request there is an answer, if only that.
PING_METHOD: Final = "_skep/ping"
_AUTH_METHODS_MAX: Final = 8
_CHOICES_SHOWN_MAX: Final = 20


def initialize_params(opening: Opening) -> dict[str, Any]:
    """Return who we are. Files and terminals are the agent's own: it works in the worktree."""
    return {
        "protocolVersion": PROTOCOL_VERSION,
        "clientCapabilities": {
            "fs": {"readTextFile": False, "writeTextFile": False},
            "terminal": False,
            "elicitation": {"form": {}, "url": {}},
        },
        "clientInfo": {"name": "skep", "title": "Skep", "version": opening.client_version or "0"},
    }


def read_abilities(result: dict[str, Any]) -> tuple[AgentReady, AgentAbilities]:
    """Return who the agent says it is, and what of that we go by."""
    said = mapping_in(result, "agentCapabilities")
    sessions, prompts = (
        mapping_in(said, "sessionCapabilities"),
        mapping_in(said, "promptCapabilities"),
    )
    mcp = mapping_in(said, "mcpCapabilities")
    offered = {
        "load": said.get("loadSession") is True,
        "resume": isinstance(sessions.get("resume"), dict),
        "fork": isinstance(sessions.get("fork"), dict),
        "images": prompts.get("image") is True,
        "mcp_http": mcp.get("http") is True,
        "steer": mapping_in(mapping_in(result, "_meta"), "steering").get("supported") is True,
    }
    names = [name for name, has in offered.items() if has]
    info = mapping_in(result, "agentInfo")
    methods = mappings_in(result, "authMethods")[:_AUTH_METHODS_MAX]
    hints = [
        ": ".join(filter(None, (_cut(one, "name"), _cut(one, "description")))) for one in methods
    ]
    abilities = AgentAbilities(
        names=names,
        login_hint="; ".join(filter(None, hints)),
        auth_methods=[_cut(one, "id") for one in methods],
    )
    ready = AgentReady(name=_cut(info, "name"), version=_cut(info, "version"), capabilities=names)
    return ready, abilities


def _cut(fields: dict[str, Any], name: str) -> str:
    return text_in(fields, name)[:300]


def session_params(
    opening: Opening, abilities: AgentAbilities, agent_session_id: str | None = None
) -> dict[str, Any]:
    """Return what a session begins with; with the id of one that is there, what it goes on with."""
    servers = [server for server in opening.mcp_servers if can_have(server, abilities)]
    params: dict[str, Any] = {"cwd": opening.cwd, "mcpServers": [_server(one) for one in servers]}
    if agent_session_id is not None:
        params["sessionId"] = agent_session_id
    return params


def can_have(server: McpServer, abilities: AgentAbilities) -> bool:
    """Whether the agent can use this MCP server: programs always, addresses where it says so."""
    return server.url is None or "mcp_http" in abilities.names


def _server(server: McpServer) -> dict[str, Any]:
    if server.url is not None:
        headers = [{"name": name, "value": value} for name, value in server.headers.items()]
        return {"type": "http", "name": server.name, "url": server.url, "headers": headers}
    environment = [{"name": name, "value": value} for name, value in server.environment.items()]
    return {
        "name": server.name,
        "command": server.command[0] if server.command else "",
        "args": server.command[1:],
        "env": environment,
    }


def prompt_blocks(prompt: Prompt, abilities: AgentAbilities) -> list[dict[str, Any]]:
    """Return a prompt as content; images only where the agent takes them."""
    blocks: list[dict[str, Any]] = [{"type": "text", "text": prompt.text}]
    if "images" in abilities.names:
        for media_type, encoded in prompt.images:
            blocks.append({"type": "image", "mimeType": media_type, "data": encoded})
    return blocks


class Setting(msgspec.Struct):
    """How a wish for a mode or a model is put to the agent; no method: it is not offered."""

    method: str | None = None
    params: dict[str, str] = {}
    offered: list[str] = []


def chosen_setting(result: dict[str, Any], what: str, wish: str) -> Setting:
    """Find the wish, by value or by name, in what an opened session says it offers."""
    offered: list[str] = []
    for option in mappings_in(result, "configOptions"):
        if what not in (option.get("category"), option.get("id")):
            continue
        choices = [
            (text_in(one, "value"), text_in(one, "name"))
            for group in mappings_in(option, "options")
            for one in (mappings_in(group, "options") or [group])
        ]
        if (value := _choice(choices, wish)) is not None:
            params = {"configId": text_in(option, "id"), "value": value}
            return Setting(method="session/set_config_option", params=params)
        offered += [value for value, _ in choices if value]
    # How agents offered it before there were options.
    offers = mappings_in(mapping_in(result, f"{what}s"), f"available{what.capitalize()}s")
    id_name = "id" if what == "mode" else "modelId"
    choices = [(text_in(one, id_name), text_in(one, "name")) for one in offers]
    if (value := _choice(choices, wish)) is not None:
        return Setting(method=f"session/set_{what}", params={f"{what}Id": value})
    offered += [value for value, _ in choices if value and value not in offered]
    return Setting(offered=offered[:_CHOICES_SHOWN_MAX])


def _choice(choices: list[tuple[str, str]], wish: str) -> str | None:
    if any(value == wish for value, _ in choices):
        return wish
    for value, name in choices:
        if value and wish.casefold() in {value.casefold(), name.casefold()}:
            return value
    return None
