"""How an agent's offers are read, and wishes put to it."""

from typing import Any

import pytest

from node_agent.acp.opening import chosen_setting, read_abilities, session_params
from node_agent.acp.state import AgentAbilities
from node_agent.acp.steps import McpServer, Opening

MODELS = {
    "configOptions": [
        {"id": "effort", "category": "thought_level", "options": [{"value": "opus"}]},
        {
            "id": "m",
            "category": "model",
            "options": [
                {"group": "g", "options": [{"value": "claude-opus", "name": "Opus"}]},
                {"value": "small", "name": "Small"},
            ],
        },
    ],
    "models": {"availableModels": [{"modelId": "old", "name": "Old"}]},
    "modes": {"availableModes": [{"id": "plan", "name": "Plan Mode"}]},
}


@pytest.mark.parametrize(
    ("what", "wish", "method", "params"),
    [
        ("model", "small", "session/set_config_option", {"configId": "m", "value": "small"}),
        ("model", "OPUS", "session/set_config_option", {"configId": "m", "value": "claude-opus"}),
        ("model", "old", "session/set_model", {"modelId": "old"}),
        ("mode", "plan mode", "session/set_mode", {"modeId": "plan"}),
    ],
)
def test_a_wish_is_put_as_the_agent_offers_it(
    what: str, wish: str, method: str, params: dict[str, Any]
):
    """By its options, groups included; else as agents offered it before; by value or name."""
    setting = chosen_setting(MODELS, what, wish)
    assert (setting.method, setting.params) == (method, params)


def test_a_wish_that_is_not_offered():
    """Nothing is set, and what there is instead is known."""
    setting = chosen_setting(MODELS, "model", "huge")
    assert setting.method is None
    assert setting.offered == ["claude-opus", "small", "old"]
    assert chosen_setting({"configOptions": 5, "modes": []}, "mode", "plan").offered == []
    odd = {"configOptions": [{"category": [], "id": {}, "options": [7]}]}
    assert chosen_setting(odd, "mode", "plan").offered == []


def test_abilities_are_what_the_agent_says():
    """What is missing or of another type is not there."""
    said: dict[str, Any] = {
        "agentCapabilities": {
            "loadSession": True,
            "promptCapabilities": {"image": "yes"},
            "sessionCapabilities": {"resume": {}, "fork": None},
            "mcpCapabilities": [],
        },
        "agentInfo": {"name": "x" * 1000},
        "authMethods": [{"id": "a", "name": "A", "description": "do"}, {"id": "b"}, 3],
    }
    ready, abilities = read_abilities(said)
    assert ready.capabilities == abilities.names == ["load", "resume"]
    assert len(ready.name) == 300
    assert abilities.login_hint == "A: do"
    assert abilities.auth_methods == ["a", "b"]
    assert read_abilities({})[0].capabilities == []


def test_an_address_is_given_only_to_agents_that_take_one():
    """Programs are given to all."""
    program = McpServer(name="p", command=["run", "it"], environment={"A": "1"})
    opening = Opening(cwd="/w", mcp_servers=[program, McpServer(name="u", url="http://x")])
    given = session_params(opening, AgentAbilities())["mcpServers"]
    assert given == [
        {"name": "p", "command": "run", "args": ["it"], "env": [{"name": "A", "value": "1"}]}
    ]
    both = session_params(opening, AgentAbilities(names=["mcp_http"]))["mcpServers"]
    assert both[1] == {"type": "http", "name": "u", "url": "http://x", "headers": []}
