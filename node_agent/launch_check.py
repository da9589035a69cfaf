"""Whether this node can run what is wished for, looked at before anything of it begins.

Names what is missing: the profile, a secret of it, the agent's program. Must not start anything.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from node_agent.acp.discovery import AGENTS_FOLDER
from node_agent.acp.presets import PRESETS
from node_agent.executors import executor_named
from node_agent.executors.adapter import Executor, Launch, Wish
from node_agent.profiles import check_launchable, with_secrets
from node_agent.run_context import RunContext
from protocol.attempt_requests import StartRequest
from protocol.errors import ErrorCode, OperationError


class AgentMissing(OperationError):  # noqa: N818  named as what is so
    """The program of an agent is not on this machine."""

    def __init__(self, program: str, install: str) -> None:
        super().__init__(
            ErrorCode.EXECUTOR_UNAVAILABLE,
            f"the agent is not installed at this node: there is no {program[:100]}",
            hint=install,
            field="profile",
            program=program[:100],
        )


def executor_of(request: StartRequest, context: RunContext) -> Executor:
    """Return the executor of an attempt, with all profiles that count for it."""
    return executor_named(request.executor, context.profiles, request.profiles)


def check_launch(request: StartRequest, wish: Wish, context: RunContext) -> Executor:
    """Return the executor a wish goes to; raises OperationError naming what is missing here."""
    executor = executor_of(request, context)
    launch = executor.launch(wish)
    named = request.profiles.get(wish.profile or "")
    if named is not None and wish.command is None and executor.converses:
        check_launchable(wish.profile or "", named)
    with_secrets(launch.chosen_environment, context.secrets_by_name())
    if wish.command is None and executor.converses:
        _check_program(launch, request.environment, context)
    return executor


def agents_path(context: RunContext) -> str:
    """Return where agents are looked for: those installed for this node alone come first."""
    path = context.environment.get("PATH", "")
    return path if context.agents_bin is None else f"{context.agents_bin}{os.pathsep}{path}"


def _check_program(launch: Launch, asked: Mapping[str, str], context: RunContext) -> None:
    program = launch.argv[0]
    if os.sep in program and not Path(program).is_absolute():
        # Of the worktree, which is not there yet.
        return
    set_for_it = {**launch.chosen_environment, **asked}
    if shutil.which(program, path=set_for_it.get("PATH", agents_path(context))) is None:
        raise AgentMissing(program, _install(program, context))


def _install(program: str, context: RunContext) -> str:
    for preset in PRESETS.values():
        if preset.program == program:
            own = str(context.data_dir / AGENTS_FOLDER)
            return f"At the node: {preset.install_hint(own)}"
    return "Install it at the node, where the node agent's PATH finds it."
