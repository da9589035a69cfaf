"""What a start means at a node: whose profile goes first, and what is missing to run it."""

import stat
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from node_agent.attempt_runner import StartKey
from node_agent.executors.adapter import Launch, Wish
from node_agent.launch_check import check_launch, executor_of
from node_agent.run_context import RunContext
from node_agent.stamps import new_id
from protocol.attempt_requests import StartRequest
from protocol.entities import Attempt
from protocol.errors import ErrorCode, OperationError
from protocol.profiles import Profile
from tests.node_agent.sessions.conversing import AGENT, Talk
from tests.node_agent.workshop import make_repository, open_workshop

SECRETS = {"MODEL_KEY": "hush-hush"}


@pytest_asyncio.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Talk]:
    """A node with one checkout, one secret and one profile of its own."""
    node = {"own": Profile(agent="claude", model="haiku", arguments=["--own"])}
    changes: dict[str, Any] = {"profiles": node, "secrets_by_name": lambda: SECRETS}
    async with open_workshop(tmp_path / "data", 11, **changes) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        yield Talk(shop, tmp_path)


def installed(context: RunContext, folder: Path, program: str = "claude-agent-acp") -> RunContext:
    """The same node with this program installed for it alone."""
    folder.mkdir(exist_ok=True)
    (folder / program).write_text("#!/bin/sh\n")
    (folder / program).chmod(stat.S_IRWXU)
    return replace(context, agents_bin=folder)


def launch(request: StartRequest, context: RunContext, **wish: Any) -> Launch:
    """What a request runs here."""
    wanted = {"profile": request.profile, "model": request.model, "mode": request.mode, **wish}
    return executor_of(request, context).launch(Wish(**wanted))


def acp(profile: str, **fields: Any) -> StartRequest:
    """A start of an agent by its profile."""
    return StartRequest(executor="acp", profile=profile, **fields)


def context_of(talk: Talk, **profiles: Profile) -> RunContext:
    """The node's surroundings, with these profiles."""
    return replace(talk.shop.context, profiles=profiles)


def test_the_order_in_which_it_is_looked_for(talk: Talk) -> None:
    """Asked for explicitly, then the project's, then the node's, then the agent's own."""
    node = {"fast": Profile(agent="claude", model="haiku", mode="plan")}
    project = {"fast": Profile(agent="claude", model="sonnet")}
    context = context_of(talk, **node)
    by_node = launch(acp("fast"), context).conversing
    assert by_node is not None
    assert (by_node.model, by_node.mode) == ("haiku", "plan")
    by_project = launch(acp("fast", profiles=project), context).conversing
    assert by_project is not None
    # The project's stands in place of the node's, not upon it: that is not its agent's name.
    assert (by_project.model, by_project.mode) == ("sonnet", "default")
    asked = launch(acp("fast", profiles=project, model="opus", mode="plan"), context).conversing
    assert asked is not None
    assert (asked.model, asked.mode) == ("opus", "plan")
    bare = launch(acp("claude", profiles=project), context).conversing
    assert bare is not None
    assert (bare.model, bare.mode) == (None, "default")


def test_a_projects_profile_stands_on_what_the_operator_put_around_its_agent(talk: Talk) -> None:
    """Where the node's own profile bears the agent's name, the agent is run as that says."""
    around = Profile(
        agent="custom", arguments=["sandbox", "claude-agent-acp"], environment={"A": "1", "B": "1"}
    )
    wanted = Profile(agent="claude", model="opus", arguments=["-v"], environment={"B": "2"})
    found = launch(acp("mine", profiles={"mine": wanted}), context_of(talk, claude=around))
    assert found.argv == ["sandbox", "claude-agent-acp", "-v"]
    assert found.chosen_environment == {"A": "1", "B": "2"}
    assert found.conversing is not None
    assert found.conversing.model == "opus"
    # A custom agent of the project is what the project says, whatever is called so here.
    custom = {"c": Profile(agent="custom", arguments=["their-agent"])}
    found = launch(acp("c", profiles=custom), context_of(talk, custom=around))
    assert found.argv == ["their-agent"]


def test_what_is_missing_is_named(talk: Talk, tmp_path: Path) -> None:
    """A profile, a secret, a program: each by its name, with what to do at which end."""
    context = context_of(talk, own=Profile(agent="claude", arguments=["--own"]))
    here = installed(context, tmp_path / "bin")
    wants = {"p": Profile(agent="claude", environment={"K": "secret:OTHER"})}
    for surroundings, request, words in (
        (here, acp("carefull"), ("'carefull'", "own", "codex")),
        (here, acp("p", profiles=wants), ("'OTHER'", "node-agent secrets set OTHER")),
        (context, acp("own"), ("claude-agent-acp", "npm install --prefix", "claude-agent-acp")),
    ):
        with pytest.raises(OperationError) as caught:
            check_launch(request, Wish(profile=request.profile), surroundings)
        assert caught.value.code is ErrorCode.EXECUTOR_UNAVAILABLE
        assert caught.value.details["field"] == "profile"
        said = f"{caught.value.message} {caught.value.hint}"
        assert all(word in said for word in words), said
    check_launch(acp("own"), Wish(profile="own"), here)


def test_no_profile_says_how_its_agent_speaks(talk: Talk, tmp_path: Path) -> None:
    """Words that would take the agent out of its protocol are refused, whoever sent them."""
    here = installed(talk.shop.context, tmp_path / "bin", "gemini")
    for word in ("--acp=false", "--prompt", "--resume=x", "-pHello"):
        profiles = {"p": Profile(agent="gemini", arguments=[word])}
        with pytest.raises(OperationError) as caught:
            check_launch(acp("p", profiles=profiles), Wish(profile="p"), here)
        assert f"{word.partition('=')[0].removesuffix('Hello')} is not" in caught.value.message
        # What is not used is not looked at: another release may know better.
        check_launch(acp("gemini", profiles=profiles), Wish(profile="gemini"), here)


async def begin(talk: Talk, profile: str, profiles: dict[str, Profile], prompt: str) -> Attempt:
    """Start an attempt by a profile that came with it."""
    request = acp(profile, profiles=profiles, prompt=prompt, task_title="Try it")
    reply = await talk.shop.runner.start(request, StartKey(new_id(), prompt, "tester"))
    return await talk.shop.runner.wait_ended(reply.attempt.id)


@pytest.mark.asyncio
async def test_a_projects_profiles_hold_for_the_whole_attempt(talk: Talk) -> None:
    """The secret is put in at the launch alone; a follow-up may name another of its profiles."""
    profiles = {
        name: Profile(
            agent="custom",
            arguments=[sys.executable, str(AGENT), str(talk.folder)],
            environment={"MODEL_KEY": "secret:MODEL_KEY", "WHO": name},
        )
        for name in ("first", "second")
    }
    attempt = await begin(talk, "first", profiles, "env MODEL_KEY\nenv WHO")
    assert (attempt.outcome, attempt.profile) == ("succeeded", "first")
    assert talk.notes[-2:] == ["env MODEL_KEY=hush-hush", "env WHO=first"]
    await talk.shop.follow_up(attempt, prompt="env WHO", profile="second")
    again = await talk.shop.runner.wait_ended(attempt.id)
    assert (again.outcome, again.profile) == ("succeeded", "second")
    assert talk.notes[-1] == "env WHO=second"
    kept = b"".join(file.read_bytes() for file in (talk.folder / "data").glob("*.db*"))
    assert b"hush-hush" not in kept
    with pytest.raises(OperationError) as caught:
        await talk.shop.follow_up(attempt, prompt="env WHO", profile="third")
    assert "'third'" in caught.value.message
