"""What a caller had seen of an attempt when it asked, against what is there now. Pure.

A command may have waited for days until this node was back. It is for the run that its caller saw:
one that began meanwhile is another. Must not judge the head: the operations on git do that
themselves, under their lock.
"""

from collections.abc import Sequence

from protocol.errors import ErrorCode, OperationError


def check_expected_execution(expected: str | None, runs: Sequence[str]) -> None:
    """Raise OperationError where the newest run of the agent is not the one that was expected.

    `runs` are the attempt's executions of its agent, oldest first. One that saw none yet (`""`)
    means the first.
    """
    if expected is None or not runs:
        return
    newest = runs[-1]
    if newest == expected or (not expected and len(runs) == 1):
        return
    raise OperationError(
        ErrorCode.EXPECTED_EXECUTION_MOVED,
        "the attempt has begun another run since this was asked",
        hint="Look at the attempt as it is now, and ask again if it is still meant.",
        expected_execution=expected or None,
        execution_id=newest,
    )
