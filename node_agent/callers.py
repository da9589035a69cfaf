"""Who asks over the local socket: a person of this machine, or a program of one of our attempts.

It keeps an agent from helping itself, as with an answer to its own question. It is no wall: a
program of the node agent's user can reach all that is this user's. Reads /proc (another root in
tests); where there is none, only what a caller says of itself counts.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from node_agent.process_identity import PROC, read_stat
from protocol.errors import ErrorCode, OperationError

NODE_VARIABLE: Final = "SKEP_NODE_ID"
ATTEMPT_VARIABLE: Final = "SKEP_ATTEMPT_ID"
#: What a command sends along of its own environment, for systems without /proc.
NODE_HEADER: Final = "Skep-Within-Node"
ATTEMPT_HEADER: Final = "Skep-Within-Attempt"
#: What stands for the attempt of a program that cannot be placed: gone, or hidden too deep.
UNPLACED: Final = ""
#: No person's shell stands below so many processes.
_ANCESTORS_MAX: Final = 1_000


def attempt_in(environment: Mapping[str, str], node_id: str) -> str | None:
    """Return the attempt of this node that an environment is of; None for none of this node."""
    attempt_id = environment.get(ATTEMPT_VARIABLE)
    return attempt_id if attempt_id and environment.get(NODE_VARIABLE) == node_id else None


def attempt_behind(pid: int, node_id: str, proc: Path = PROC) -> str | None:
    """Return the attempt of this node that a process belongs to, by its ancestors or itself.

    A program may drop what its environment says, but not what that of its supervisor does, whose
    descendant it stays, whatever it forks and leaves, for as long as the supervisor lives.
    """
    if not (proc / "self").exists():
        return None
    child = 0
    for _ in range(_ANCESTORS_MAX):
        stat = read_stat(pid, proc)
        if stat is None:
            # It ended, and its child was given to another; or we may not look (hidepid).
            below = read_stat(child, proc) if child else None
            if below is None:
                return UNPLACED
            if below.parent_pid == pid:
                return None
            pid = below.parent_pid
            continue
        attempt_id = attempt_in(_environment_of(pid, proc), node_id)
        if attempt_id is not None:
            return attempt_id
        child, pid = pid, stat.parent_pid
        if pid <= 0:
            return None
    return UNPLACED


def check_person(attempt_id: str | None) -> None:
    """Raise OperationError (FORBIDDEN) where a program of an attempt asks for a person's change."""
    if attempt_id is None:
        return
    raise OperationError(
        ErrorCode.FORBIDDEN,
        "a program of an attempt may not do this",
        hint="Ask people with the tool ask_human, or do it yourself, outside of any attempt.",
        **({"attempt_id": attempt_id} if attempt_id else {}),
    )


def _environment_of(pid: int, proc: Path) -> dict[str, str]:
    """Return what a process was started with; nothing where we may not look."""
    try:
        content = (proc / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in content.split(b"\0"))
    wanted = {NODE_VARIABLE.encode(), ATTEMPT_VARIABLE.encode()}
    return {
        name.decode(): value.decode("utf-8", "replace")
        for name, _, value in pairs
        if name in wanted
    }
