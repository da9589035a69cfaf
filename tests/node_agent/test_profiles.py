"""A node's profiles: how its settings have them, and that secrets stay names until the launch."""

from pathlib import Path

import pytest

from node_agent.config import ConfigError, load
from node_agent.executors import executor_named
from node_agent.executors.adapter import Wish
from node_agent.profiles import check_launchable, with_secrets
from protocol.errors import ErrorCode, OperationError
from protocol.profiles import Profile, StrictProfile

SETTINGS = """
[profiles.careful]
agent = "claude"
model = "opus"
mode = "plan"
arguments = ["--verbose"]
environment = { ANTHROPIC_API_KEY = "secret:MODEL_KEY", PLAIN = "as it is" }
[profiles.mine]
agent = "custom"
arguments = ["my-agent", "--acp"]
"""


def profiles(folder: Path, text: str = SETTINGS) -> dict[str, StrictProfile]:
    """The profiles of a settings file."""
    (folder / "config.toml").write_text(text)
    return load(folder, environment={}).profiles


def test_a_profile_says_how_its_agent_is_run(tmp_path: Path) -> None:
    """The agent's own words come first; model and mode are the profile's, the secret a name."""
    executor = executor_named("acp", profiles(tmp_path))
    launch = executor.launch(Wish(profile="careful"))
    assert launch.argv == ["claude-agent-acp", "--verbose"]
    assert launch.conversing is not None
    assert (launch.conversing.model, launch.conversing.mode) == ("opus", "plan")
    assert launch.chosen_environment["ANTHROPIC_API_KEY"] == "secret:MODEL_KEY"
    assert launch.environment == {"DISABLE_AUTOUPDATER": "1"}
    assert executor.launch(Wish(profile="mine")).argv == ["my-agent", "--acp"]
    # An agent's name stands for itself, in the mode in which it asks.
    bare = executor.launch(Wish(profile="claude"))
    assert bare.conversing is not None
    assert (bare.argv, bare.conversing.mode) == (["claude-agent-acp"], "default")


def test_an_unknown_profile_is_refused(tmp_path: Path) -> None:
    """The error names the field, and all there are."""
    with pytest.raises(OperationError) as caught:
        executor_named("acp", profiles(tmp_path)).launch(Wish(profile="carefull"))
    assert caught.value.code is ErrorCode.EXECUTOR_UNAVAILABLE
    assert caught.value.details["field"] == "profile"
    assert all(name in caught.value.hint for name in ("careful", "mine", "claude", "codex"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[profiles.a]\nagent = "clod"', "profiles.a: no agent is called 'clod'"),
        ('[profiles.a]\nagent = "custom"', "`arguments` is the command line"),
        ('[profiles."a b"]\nagent = "claude"', "'a b' cannot name a profile"),
        ('[profiles.a]\nagent = "claude"\nmodell = "x"', "modell"),
        ('[profiles.a]\nagent = "claude"\nenvironment = { SKEP_NODE_ID = "x" }', "SKEP_NODE_ID"),
        ('[profiles.a]\nagent = "gemini"\narguments = ["--acp=false"]', "--acp is not a profile's"),
    ],
)
def test_a_profile_that_cannot_be_one(tmp_path: Path, text: str, said: str) -> None:
    """The settings are refused as the node agent starts, by the words that are wrong."""
    with pytest.raises(ConfigError) as caught:
        profiles(tmp_path, text)
    assert said in caught.value.message


def test_of_a_custom_agent_all_words_are_its_own() -> None:
    """Its whole command line is the profile's: there nothing is Skep's to say."""
    check_launchable("a", Profile(agent="custom", arguments=["gemini", "--acp"]))


def test_secrets_are_looked_up_by_name() -> None:
    """A value that names a secret is replaced by it; one that is not there is refused by name."""
    environment = {"KEY": "secret:MODEL_KEY", "PLAIN": "as it is"}
    assert with_secrets(environment, {"MODEL_KEY": "hush-hush"}) == {
        "KEY": "hush-hush",
        "PLAIN": "as it is",
    }
    with pytest.raises(OperationError) as caught:
        with_secrets(environment, {})
    assert caught.value.details["field"] == "profile"
    assert "node-agent secrets set MODEL_KEY" in caught.value.hint
