"""Ending tasks whose owner goes away.

Owns that the owner is not kept by one of them. Must not decide which end.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Final

LOG: Final = logging.getLogger(__name__)
#: So long a task may take to clean up before it is cancelled again.
_CLEAN_UP_S: Final = 10.0


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until each has ended; what they raise is theirs.

    One cancel is not always enough: where it comes in the moment in which what is awaited is
    there as well, `asyncio.wait_for` of Python 3.11 keeps it to itself, and the task goes on.
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=_CLEAN_UP_S)
        for task in waiting:
            LOG.warning("%s does not end, and is told so again", task.get_name())
