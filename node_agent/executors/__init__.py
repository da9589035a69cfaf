"""The executors this node has, by name. One more is one file here and one line in this table."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from node_agent.acp.presets import PRESETS
from node_agent.executors.acp import AcpExecutor
from node_agent.executors.adapter import Conversing, Executor, Launch
from node_agent.executors.command import CommandExecutor
from protocol.errors import ErrorCode, OperationError
from protocol.profiles import CUSTOM, Profile

_KNOWN_AGENTS: Final = {
    preset.name: Launch(
        argv=preset.argv(),
        environment=dict(preset.sets),
        tools_word=preset.tools_word,
        conversing=Conversing(
            mode=preset.mode, auth_method=preset.auth_method, login_variables=preset.login_variables
        ),
    )
    for preset in PRESETS.values()
}
EXECUTORS: Final[Mapping[str, Executor]] = {
    executor.name: executor for executor in (CommandExecutor(), AcpExecutor(_KNOWN_AGENTS))
}


def launches_of(node: Mapping[str, Profile], project: Mapping[str, Profile]) -> dict[str, Launch]:
    """Return what each name runs: a project's profile before the node's, both before the agent.

    A project's stands on what its agent's name means at this node: what the operator put around an
    agent stays around it.
    """
    here = {**_KNOWN_AGENTS, **{key: _launch(one, _KNOWN_AGENTS) for key, one in node.items()}}
    return {**here, **{key: _launch(one, here) for key, one in project.items()}}


def _launch(profile: Profile, agents: Mapping[str, Launch]) -> Launch:
    bare = Launch(argv=[], conversing=Conversing())
    agent = bare if profile.agent == CUSTOM else agents.get(profile.agent, bare)
    conversing = agent.conversing or Conversing()
    return replace(
        agent,
        argv=[*agent.argv, *profile.arguments],
        chosen_environment={**agent.chosen_environment, **profile.environment},
        conversing=replace(
            conversing,
            mode=profile.mode or conversing.mode,
            model=profile.model or conversing.model,
        ),
    )


class ExecutorUnavailable(OperationError):  # noqa: N818  named as its code is
    """This node has no such executor."""

    def __init__(self, name: str) -> None:
        known = sorted(EXECUTORS)
        super().__init__(
            ErrorCode.EXECUTOR_UNAVAILABLE,
            f"this node has no executor {name!r}",
            hint=f"It has: {', '.join(known)}.",
            executor=name,
            known=known,
        )


def executor_named(
    name: str,
    node: Mapping[str, Profile] | None = None,
    project: Mapping[str, Profile] | None = None,
) -> Executor:
    """Return the executor of that name, with the node's profiles and those a project sent along.

    Raises ExecutorUnavailable.
    """
    if (node or project) and name == AcpExecutor.name:
        return AcpExecutor(launches_of(node or {}, project or {}))
    try:
        return EXECUTORS[name]
    except KeyError:
        raise ExecutorUnavailable(name) from None
