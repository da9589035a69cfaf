"""The executors this node has, by name. One more is one file here and one line in this table."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from node_agent.acp.presets import PRESETS
from node_agent.executors.acp import AcpExecutor
from node_agent.executors.adapter import Conversing, Executor, Launch
from node_agent.executors.command import CommandExecutor
from node_agent.profiles import Profile
from protocol.errors import ErrorCode, OperationError

_KNOWN_AGENTS: Final = {
    preset.name: Launch(
        argv=preset.argv(),
        environment=dict(preset.sets),
        conversing=Conversing(
            mode=preset.mode, auth_method=preset.auth_method, login_variables=preset.login_variables
        ),
    )
    for preset in PRESETS.values()
}
EXECUTORS: Final[Mapping[str, Executor]] = {
    executor.name: executor for executor in (CommandExecutor(), AcpExecutor(_KNOWN_AGENTS))
}


def launch_of(profile: Profile) -> Launch:
    """Return what a profile runs: its agent's own launch, with what the profile says."""
    agent = _KNOWN_AGENTS.get(profile.agent) or Launch(argv=[], conversing=Conversing())
    conversing = agent.conversing or Conversing()
    return replace(
        agent,
        argv=[*agent.argv, *profile.arguments],
        chosen_environment=dict(profile.environment),
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


def executor_named(name: str, profiles: Mapping[str, Profile] | None = None) -> Executor:
    """Return the executor of that name, with this node's profiles. Raises ExecutorUnavailable."""
    if profiles and name == AcpExecutor.name:
        own = {key: launch_of(one) for key, one in profiles.items()}
        return AcpExecutor({**_KNOWN_AGENTS, **own})
    try:
        return EXECUTORS[name]
    except KeyError:
        raise ExecutorUnavailable(name) from None
