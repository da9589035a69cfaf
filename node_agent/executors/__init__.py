"""The executors this node has, by name. One more is one file here and one line in this table."""

from collections.abc import Mapping
from typing import Final

from node_agent.acp.presets import PRESETS
from node_agent.executors.acp import AcpExecutor
from node_agent.executors.adapter import Conversing, Executor, Launch
from node_agent.executors.command import CommandExecutor
from protocol.errors import ErrorCode, OperationError

_KNOWN_AGENTS: Final = {
    preset.name: Launch(
        argv=preset.argv(),
        environment=dict(preset.sets),
        conversing=Conversing(
            mode=preset.mode,
            auth_method=preset.auth_method, login_variables=preset.login_variables
        ),
    )
    for preset in PRESETS.values()
}
EXECUTORS: Final[Mapping[str, Executor]] = {
    executor.name: executor for executor in (CommandExecutor(), AcpExecutor(_KNOWN_AGENTS))
}


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


def executor_named(name: str) -> Executor:
    """Return the executor of that name. Raises ExecutorUnavailable."""
    try:
        return EXECUTORS[name]
    except KeyError:
        raise ExecutorUnavailable(name) from None
