"""The environment a program of an attempt gets: the node agent's own, without what is Skep's.

Pure. A name that has no value here is unset, never empty.
"""

from collections.abc import Mapping
from typing import Final

from protocol.entities import Attempt
from protocol.errors import ErrorCode, OperationError
from protocol.secret_names import holds_secret

#: Settings of the node agent, among them its address book and test switches, are not the agent's.
_OWN_PREFIX: Final = "SKEP_"
#: They would lead git in the worktree to another repository, index or object store.
_OF_ANOTHER_REPOSITORY: Final = frozenset(
    {
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_COMMON_DIR",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_NAMESPACE",
        "GIT_PREFIX",
        "GIT_CEILING_DIRECTORIES",
        "GIT_SHALLOW_FILE",
    }
)
#: What the service manager told the node agent alone.
_OF_THE_SERVICE: Final = frozenset(
    {
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "CREDENTIALS_DIRECTORY",
    }
)


def secrets_in(environment: Mapping[str, str]) -> list[bytes]:
    """Return the values that, by their names, nobody should read in a log."""
    return [
        value.encode("utf-8", "surrogateescape")
        for name, value in sorted(environment.items())
        if holds_secret(name, value)
    ]


def check_environment(environment: Mapping[str, str]) -> None:
    """Raise OperationError (INVALID) where a requested environment cannot be one."""
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise OperationError(
                ErrorCode.INVALID,
                f"environment: {name!r} cannot be set",
                hint="A name has no '=' and no NUL, and neither has a value a NUL.",
                field="environment",
            )
        if name.startswith(_OWN_PREFIX):
            raise OperationError(
                ErrorCode.INVALID,
                f"environment: {name} is Skep's own to set",
                hint="Take a name that does not begin with SKEP_.",
                field="environment",
            )


def environment_of(
    base: Mapping[str, str],
    attempt: Attempt,
    *,
    node_id: str,
    execution_id: str,
    identity: Mapping[str, str],
    requested: Mapping[str, str],
    session_id: str | None = None,
) -> dict[str, str]:
    """Return the whole environment of one execution.

    `identity` is what git commits with; a request may say otherwise, but never what Skep sets.
    """
    environment = {
        name: value
        for name, value in base.items()
        if not name.startswith(_OWN_PREFIX)
        and name not in _OF_ANOTHER_REPOSITORY
        and name not in _OF_THE_SERVICE
    }
    environment.update(identity)
    environment.update(requested)
    own = {
        "SKEP_NODE_ID": node_id,
        "SKEP_PROJECT_ID": attempt.project_id,
        "SKEP_TASK_ID": attempt.task_id,
        "SKEP_ATTEMPT_ID": attempt.id,
        "SKEP_EXECUTION_ID": execution_id,
        "SKEP_SESSION_ID": session_id,
        "SKEP_BRANCH": attempt.branch,
        "SKEP_TARGET_BRANCH": attempt.target_branch,
    }
    environment.update({name: value for name, value in own.items() if value})
    return environment
