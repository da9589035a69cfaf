"""`follow_diff`: what an attempt changed, and then each change, for as long as someone reads.

Owns how many may follow at a time, and the signs of life between updates. Must not know who asks.
"""

import contextlib
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final

from node_agent.git.live_diff import LiveDiff
from node_agent.git.sources import Source
from node_agent.git.targets import diff_base
from node_agent.git.watching import WorkWatch
from node_agent.operations.asking import Asking, Streamed
from node_agent.operations.work import WorkReading, check_against
from protocol.entities import Attempt
from protocol.errors import ErrorCode, OperationError
from protocol.operation_values import StreamHead
from protocol.states import AttemptPhase
from protocol.work_requests import FollowDiffRequest

#: Each has a watch of its own, of which systems have few.
FOLLOWERS_MAX: Final = 32
#: A stream that says nothing for longer is taken for dead by those who read it.
SIGN_OF_LIFE_S: Final = 10.0
SIGN_OF_LIFE: Final = b"\n"
MEDIA_TYPE: Final = "application/x-ndjson"


class DiffFollowing:
    """Follows the diffs of this node's attempts."""

    def __init__(self, work: WorkReading) -> None:
        self._work = work
        self._followers = 0

    async def run(self, asking: Asking) -> Streamed:
        """Answer the diff and its changes. What is wrong with the request is said before."""
        request = asking.request
        assert isinstance(request, FollowDiffRequest)  # noqa: S101  the table's own pairing
        check_against(request.against)
        live = LiveDiff(against=request.against, context=request.context, path=request.path)
        if self._followers >= FOLLOWERS_MAX:
            raise OperationError(
                ErrorCode.SLOW_DOWN,
                f"{FOLLOWERS_MAX} diffs are followed on this node",
                hint="Ask for the diff itself, or follow when others have left.",
            )
        # Counted from here on, before anything is waited for.
        self._followers += 1
        try:
            attempt, source = await self._work.source(asking)
            await _base(attempt, source, request)
        except BaseException:
            self._left()
            raise
        pieces = _Followed(self._pieces(asking, request, live), self._left)
        return Streamed(StreamHead(media_type=MEDIA_TYPE), pieces)

    def _left(self) -> None:
        self._followers -= 1

    async def _pieces(
        self, asking: Asking, request: FollowDiffRequest, live: LiveDiff
    ) -> AsyncGenerator[bytes, None]:
        watch: WorkWatch | None = None
        is_first = True
        try:
            while True:
                attempt, source = await self._work.source(asking)
                if watch is None or not watch.is_of(source):
                    if watch is not None:
                        await watch.aclose()
                    watch = await WorkWatch.open(source)
                    # What changed before the watch began is seen now.
                    attempt, source = await self._work.source(asking)
                base = await _base(attempt, source, request)
                pieces = (
                    live.first(source, base, request.cursor)
                    if is_first
                    else live.following(source, base)
                )
                async with contextlib.aclosing(pieces):
                    async for piece in pieces:
                        yield piece
                is_first = False
                if source.worktree is None and attempt.phase is AttemptPhase.ENDED:
                    # Nobody works on it any more.
                    return
                while not await watch.changed(SIGN_OF_LIFE_S):
                    yield SIGN_OF_LIFE
        finally:
            if watch is not None:
                await watch.aclose()


class _Followed:
    """The pieces of one follower, who has left once: at the end, or closed before the first."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], left: Callable[[], None]) -> None:
        self._pieces = pieces
        # Also for one that is dropped before anybody reads of it.
        self._leave = weakref.finalize(self, left)
        self._leave.atexit = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._pieces)
        except BaseException:
            self._leave()
            raise

    async def aclose(self) -> None:
        try:
            await self._pieces.aclose()
        finally:
            self._leave()


async def _base(attempt: Attempt, source: Source, request: FollowDiffRequest) -> str:
    return await diff_base(
        source,
        against=request.against,
        target_branch=attempt.target_branch,
        base_commit=attempt.base_commit or None,
    )
