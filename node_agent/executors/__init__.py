"""The executors this node has, by name. One more is one file here and one line in this table."""

from collections.abc import Mapping
from typing import Final

from node_agent.executors.acp import AcpExecutor
from node_agent.executors.adapter import Executor
from node_agent.executors.command import CommandExecutor
from protocol.errors import ErrorCode, OperationError

EXECUTORS: Final[Mapping[str, Executor]] = {
    executor.name: executor for executor in (CommandExecutor(), AcpExecutor())
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
