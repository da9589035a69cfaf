"""Claude Code, Codex and Copilot as npm has them, all real; only the model is a stub."""

import json
import os
from pathlib import Path

import pytest

from tests.agents.model_server import ModelServer
from tests.end_to_end.agents import NodeConversation
from tests.end_to_end.installation import Installation
from tests.end_to_end.node_program import NodeProgram
from tests.end_to_end.waiting import until

#: Agents start slowly on a busy machine.
_AGENT_S: float = 120.0

#: A provider of models of one's own, as Codex is told of it.
_CODEX_CONFIG = """
model = "gpt-5.1-codex"
model_provider = "stub"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.stub]
name = "Stub"
base_url = "{url}/v1"
wire_api = "responses"
requires_openai_auth = false
env_key = "STUB_KEY"
"""

#: The profiles of the node: what reaches the stub in place of a model, and a secret as its key.
_SETTINGS = """
[profiles.claude-here]
agent = "claude"
[profiles.claude-here.environment]
ANTHROPIC_BASE_URL = "{url}"
ANTHROPIC_API_KEY = "secret:MODEL_KEY"
CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC = "1"
DISABLE_TELEMETRY = "1"
IS_SANDBOX = "1"
[profiles.codex-here]
agent = "codex"
environment = {{ STUB_KEY = "secret:MODEL_KEY" }}
[profiles.copilot-here]
agent = "copilot"
[profiles.copilot-here.environment]
COPILOT_OFFLINE = "true"
COPILOT_PROVIDER_BASE_URL = "{url}/v1"
COPILOT_PROVIDER_API_KEY = "secret:MODEL_KEY"
COPILOT_MODEL = "stub"
"""
SECRET = "the-key-of-the-stub-model"


class Story:
    """A node with one agent, and what the tests do with it."""

    def __init__(
        self, installation: Installation, repository: Path, agents: Path, model: ModelServer
    ) -> None:
        self.hive = installation.hive
        self.installation = installation
        self.model = model
        self.node: NodeProgram = installation.new_node("node1")
        home = installation.folder / "home"
        home.mkdir()
        self.node.environment |= {
            "PATH": f"{agents}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(home),
        }
        (home / ".codex").mkdir()
        (home / ".codex" / "config.toml").write_text(_CODEX_CONFIG.format(url=model.url))
        settings = _SETTINGS.format(url=model.url)
        self.node.data_dir.mkdir(mode=0o700)
        (self.node.data_dir / "config.toml").write_text(settings)
        assert self.node.call("secrets", "set", "MODEL_KEY", stdin=SECRET).returncode == 0
        self.node.json("join", self.hive.url, installation.join_token(), "--name", "node1")
        self.node.json("checkout", "add", str(repository))
        self.node.start()
        self.hive.wait_node("node1")
        installation.wait_project(repository.name, "node1")
        self.attempt = ""

    def begin(self, agent: str, prompt: str) -> None:
        """Start an attempt from the hive's command line."""
        task = self.installation.task("project")
        self.attempt = self.hive.json(
            *("tasks", "run", task, "--node", "node1", "--executor", "acp"),
            *("--profile", f"{agent}-here", "--prompt", prompt),
        )["id"]

    @property
    def conversation(self) -> NodeConversation:
        return NodeConversation(self.node, self.attempt)

    @property
    def worktree(self) -> Path:
        return Path(self.node.attempt(self.attempt)["worktree"])

    def open_request(self) -> dict:
        """The one open request, as the hive's command line lists it."""

        def look() -> list[dict]:
            attempt = self.hive.attempt(self.attempt)
            assert attempt["phase"] != "ended", (attempt, self.conversation.told())
            return self.hive.json("requests", "--open")["items"]

        (request,) = until(look, "the hive knows what the agent asks", within_s=_AGENT_S)
        return request

    def allow(self, request: dict) -> None:
        """Answer with the option that allows it once."""
        once = next(one["id"] for one in request["options"] if one["kind"] == "allow_once")
        self.hive.json("requests", "answer", request["id"], once)

    def wait_ended(self) -> dict:
        return self.hive.json("attempts", "wait", self.attempt, "--timeout", str(_AGENT_S))

    def wait_ended_allowing(self) -> dict:
        """Wait for its end; what it asks meanwhile is allowed."""

        def look() -> dict:
            for request in self.hive.json("requests", "--open")["items"]:
                self.allow(request)
            return self.hive.attempt(self.attempt)

        return until(
            look,
            "the attempt has ended",
            holds=lambda it: it["phase"] == "ended",
            within_s=_AGENT_S,
        )

    def die_and_come_back(self) -> None:
        """Kill the node agent, and start it again."""
        self.node.kill()
        self.node.process = None
        self.node.start()
        self.hive.wait_node("node1")


@pytest.fixture
def story(
    installation: Installation, repository: Path, real_agents: Path, model: ModelServer
) -> Story:
    """A node that has these agents."""
    return Story(installation, repository, real_agents, model)


AGENTS = pytest.mark.parametrize("agent", ["claude", "codex"])


@pytest.mark.parametrize("agent", ["claude", "codex", "copilot"])
def test_a_task_and_a_follow_up(story: Story, agent: str) -> None:
    """It asks before it writes, does as it is told, and knows later what was said before."""
    story.begin(agent, "@write made.txt works\n@say written")
    request = story.open_request()
    assert "made.txt" in str(request)
    assert not (story.worktree / "made.txt").exists()
    story.allow(request)
    ended = story.wait_ended()
    assert ended["outcome"] == "succeeded", ended
    assert (story.worktree / "made.txt").read_text() == "works"
    assert story.conversation.told()[-1] == ("assistant", "written")
    assert story.model.keys == {SECRET}
    for kept in story.node.data_dir.glob("*.db*"):
        assert SECRET.encode() not in kept.read_bytes(), kept
    story.hive.json("attempt", "follow-up", story.attempt, "--prompt", "@recall")
    assert story.wait_ended()["outcome"] == "succeeded"
    (session,) = story.conversation.sessions()
    assert session.turn_count == 2
    role, said = story.conversation.told()[-1]
    assert (role, said) == ("assistant", "first: @write made.txt works / @say written")


@AGENTS
@pytest.mark.parametrize("moment", ["turn", "request"])
def test_a_node_agent_dies(story: Story, agent: str, moment: str) -> None:
    """Killed in a turn or while a question is open: the turn goes on, nothing is asked twice."""
    story.begin(agent, "@hold\n@write made.txt works\n@say written")
    assert story.model.held.wait(_AGENT_S)
    if moment == "turn":
        story.die_and_come_back()
    story.model.release()
    request = story.open_request()
    if moment == "request":
        story.die_and_come_back()
        assert story.open_request()["id"] == request["id"]
    story.allow(request)
    ended = story.wait_ended()
    assert ended["outcome"] == "succeeded", ended
    assert (story.worktree / "made.txt").read_text() == "works"
    assert [one.status.value for one in story.conversation.requests()] == ["answered"]
    assert story.conversation.told()[-1] == ("assistant", "written")
    story.hive.json("attempt", "follow-up", story.attempt, "--prompt", "@recall")
    assert story.wait_ended()["outcome"] == "succeeded"
    (session,) = story.conversation.sessions()
    assert session.turn_count == 2
    assert "@write made.txt works" in story.conversation.told()[-1][1]


@pytest.mark.parametrize("agent", ["claude", "codex", "copilot"])
def test_it_uses_a_tool(story: Story, agent: str) -> None:
    """Its own client of the tools reaches Skep's: what it reports is in the transcript."""
    told = json.dumps({"text": "Half of it", "percent": 50})
    story.begin(agent, f"@tool report_progress {told}\n@say reported")
    ended = story.wait_ended_allowing()
    assert ended["outcome"] == "succeeded", ended
    assert ("system", "Half of it (50 %)") in story.conversation.told()
    assert story.conversation.told()[-1] == ("assistant", "reported")
