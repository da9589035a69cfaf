"""`create_pr`, `attach_pr`, `pr`: an attempt's pull request at the forge of its origin.

Creating looks before it asks, keeps what it asks for before it asks, and after a crash looks
again: it never asks a second time by itself.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from node_agent.failpoints import failpoint
from node_agent.forge.credentials import ForgeAccess
from node_agent.forge.errors import PrExists, PrNotFound, PrUnknown
from node_agent.forge.places import Place, number_of, place_of
from node_agent.forge.pull_requests import Pull, entity_of, reply_of, state_of
from node_agent.git.branch_errors import ExpectedHeadMoved
from node_agent.git.errors import BranchMissing, InvalidInput
from node_agent.git.merge import check_finished
from node_agent.git.push_branch import push_branch
from node_agent.git.refs import branch_ref, check_branch_name
from node_agent.git.sources import Source
from node_agent.operations.asking import Asking
from node_agent.operations.attempts import attempt_of
from node_agent.operations.work import WorkReading
from node_agent.stamps import now_ms
from node_agent.store import attempts
from node_agent.store import pull_requests as stored
from node_agent.store.database import Database
from node_agent.store.pull_requests import AskedPr
from node_agent.store.transaction import Transaction
from protocol.entities import Attempt, OperationRecord, PullRequest
from protocol.errors import ErrorCode, OperationError, SkepError
from protocol.operation_values import Request
from protocol.pull_requests import (
    AttachPrRequest,
    CreatePrReply,
    CreatePrRequest,
    PrReply,
)

if TYPE_CHECKING:
    from node_agent.forge.github import GitHub

TITLE_CHARACTERS_MAX: Final = 256
BODY_CHARACTERS_MAX: Final = 65_536
#: Of an operation's deadline, what is left for everything but the forge.
_OWN_S: Final = 5.0
_PUSH_S_MAX: Final = 60.0
#: How long a start waits for a forge to say what became of what was asked for before a crash.
_SETTLE_S_MAX: Final = 10.0
#: The forge is asked anew after this; viewers of one page ask at the same time.
_FRESH_S: Final = 10.0
_KEPT_MAX: Final = 256


class PullRequests:
    """The pull requests of this node's attempts; without an agent it writes nothing down."""

    def __init__(
        self, database: Database, worktrees_dir: Path, access: ForgeAccess, *, writes: bool
    ) -> None:
        self._database = database
        self._work = WorkReading(database, worktrees_dir)
        self._access = access
        self._writes = writes
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._replies: OrderedDict[str, tuple[float, PrReply]] = OrderedDict()

    # --- creating -----------------------------------------------------------------------------

    async def create(self, asking: Asking) -> CreatePrReply:
        """Push the attempt's branch where need be, and open a pull request from it."""
        request = asking.request
        assert isinstance(request, CreatePrRequest)  # noqa: S101  the table's own pairing
        _check(request)
        until_s = time.monotonic() + asking.operation.deadline_s - _OWN_S
        # Two at a time would both see that there is none.
        lock = self._locks.setdefault(asking.attempt_id, asyncio.Lock())
        async with lock:
            attempt, source = await self._work.source(asking)
            head = await _head(source, asking.expected_head)
            place = await self._place(source)
            async with self._github(place, until_s) as github:
                for pull in await github.pulls_from(attempt.branch):
                    raise PrExists(pull.html_url, pull.number)
                target = await _target(github, attempt, request.target)
                left_s = max(1.0, min(_PUSH_S_MAX, until_s - time.monotonic()))
                await push_branch(source.repository, attempt.branch, head, timeout_s=left_s)
                asked = AskedPr(
                    key=asking.key or "",
                    attempt_id=attempt.id,
                    owner=place.owner,
                    name=place.name,
                    branch=attempt.branch,
                    title=request.title.strip(),
                    target=target,
                    head=head,
                )
                await self._database.write(stored.ask, asked)
                failpoint("node.pull_request.asked")
                made = await self._make(github, asked, request)
                failpoint("node.pull_request.made")
                return await self._keep_made(asked, made)

    async def _make(self, github: "GitHub", asked: AskedPr, request: CreatePrRequest) -> Pull:
        from node_agent.forge.github import NewPull

        return await github.create(
            NewPull(
                title=asked.title,
                body=request.body,
                branch=asked.branch,
                target=asked.target,
                draft=request.draft,
            )
        )

    async def _keep_made(self, asked: AskedPr, made: Pull) -> CreatePrReply:
        reply = CreatePrReply(
            url=made.html_url,
            number=made.number,
            state=state_of(made),
            target_branch=made.base.ref,
            head=asked.head,
        )
        await self._database.write(stored.made, asked, reply, entity_of(made), now_ms())
        self._replies.pop(asked.attempt_id, None)
        return reply

    async def settle_create(self, record: OperationRecord, _: Request | None) -> CreatePrReply:
        """After a crash: look whether it was made. It is not asked for again."""
        attempt_id = record.attempt_id or ""
        asked = await self._database.read(stored.asked_under, attempt_id, record.key)
        if asked is None:
            raise OperationError(
                ErrorCode.CANCELLED,
                "the node stopped before it asked for the pull request: none was made",
                hint="Ask again under another key.",
            )
        if asked.reply is not None:
            return asked.reply
        host = self._access.forge.host
        try:
            async with asyncio.timeout(_SETTLE_S_MAX):
                until_s = time.monotonic() + _SETTLE_S_MAX
                async with self._github(Place(asked.owner, asked.name), until_s) as github:
                    found = await github.pulls_from(asked.branch)
        except (SkepError, OSError, TimeoutError) as error:
            said = error.message if isinstance(error, SkepError) else "it did not answer in time"
            raise PrUnknown(host, f"the node stopped in between, and now {said}") from error
        for pull in found:
            if (pull.title, pull.base.ref) != (asked.title, asked.target):
                raise PrExists(pull.html_url, pull.number)
            return await self._keep_made(asked, pull)
        raise PrUnknown(host, "the node stopped in between, and none is open from its branch now")

    # --- attaching ----------------------------------------------------------------------------

    async def attach(self, asking: Asking) -> PullRequest:
        """Have the attempt's pull request be one that is there."""
        request = asking.request
        assert isinstance(request, AttachPrRequest)  # noqa: S101  the table's own pairing
        if request.url is not None and request.number is not None:
            raise InvalidInput("number", str(request.number), "Give the number or the url.")
        if request.number is not None and not 0 < request.number < 10**9:
            raise InvalidInput("number", str(request.number), "It is 1 or more.")
        started_at_ms = now_ms()
        attempt = await attempt_of(self._database, asking)
        repository = await self._work.repository(attempt)
        place = place_of(self._access.forge, await repository.setting("remote.origin.url"))
        number = request.number
        if request.url is not None:
            number = number_of(self._access.forge, place, request.url)
        async with self._github(place, _until_s(asking)) as github:
            pull = await _found(github, attempt.branch, number)
        record = OperationRecord(
            key=asking.key or "",
            operation=asking.operation.name,
            attempt_id=attempt.id,
            actor=asking.actor,
            started_at_ms=started_at_ms,
            ended_at_ms=now_ms(),
        )
        self._replies.pop(attempt.id, None)
        return await self._database.write(
            stored.attach, record, asking.body_hash, attempt.id, entity_of(pull)
        )

    # --- reading ------------------------------------------------------------------------------

    async def state(self, asking: Asking) -> PrReply:
        """Answer how the attempt's pull request stands."""
        attempt = await attempt_of(self._database, asking)
        at_s, known = self._replies.get(attempt.id, (0.0, None))
        if known is not None and time.monotonic() - at_s < _FRESH_S:
            return known
        repository = await self._work.repository(attempt)
        place = place_of(self._access.forge, await repository.setting("remote.origin.url"))
        number = None if attempt.pr is None else attempt.pr.number
        async with self._github(place, _until_s(asking)) as github:
            pull = await _found(github, attempt.branch, number, whole=True)
            checks = await github.checks(pull.head.sha)
        reply = reply_of(pull, checks, now_ms())
        self._replies[attempt.id] = (time.monotonic(), reply)
        while len(self._replies) > _KEPT_MAX:
            self._replies.popitem(last=False)
        if self._writes and attempt.pr is not None and attempt.pr != entity_of(pull):
            await self._database.write(_refresh, attempt, entity_of(pull))
        return reply

    # --- the forge ----------------------------------------------------------------------------

    async def _place(self, source: Source) -> Place:
        origin = await source.repository.setting("remote.origin.url")
        return place_of(self._access.forge, origin)

    @contextlib.asynccontextmanager
    async def _github(self, place: Place, until_s: float) -> AsyncIterator["GitHub"]:
        # Most commands that load this module never speak to a forge.
        import aiohttp

        from node_agent.forge.github import GitHub

        token = await self._access.token()
        async with aiohttp.ClientSession() as session:
            yield GitHub(
                session,
                self._access.forge,
                place,
                token,
                secret=self._access.secret,
                until_s=until_s,
            )


async def _refresh(tx: Transaction, attempt: Attempt, pr: PullRequest) -> None:
    """Keep a newer state, unless the attempt has another pull request by now."""
    if (await attempts.get(tx, attempt.id)).pr == attempt.pr:
        await stored.keep(tx, attempt.id, pr, now_ms())


async def _found(github: "GitHub", branch: str, number: int | None, *, whole: bool = False) -> Pull:
    """Return the pull request of that number, else the branch's: an open one before others."""
    if number is None:
        found = await github.pulls_from(branch, state="all")
        found.sort(key=lambda pull: pull.state != "open")
        if not found:
            raise PrNotFound(f"of the branch {branch}")
        if not whole:
            return found[0]
        number = found[0].number
    return await github.pull(number)


async def _target(github: "GitHub", attempt: Attempt, wanted: str | None) -> str:
    """Return the branch to pull into, which is at the remote. Raises TargetMissing."""
    target = wanted or (attempt.target_branch or "").removeprefix("origin/")
    if not target:
        return await github.default_branch()
    await github.check_branch(target)
    return target


async def _head(source: Source, expected: str | None) -> str:
    """Return the commit of the attempt's branch, where it is what the caller and the work say."""
    head = await source.repository.commit_of(branch_ref(source.branch))
    if head is None:
        raise BranchMissing("branch", source.branch)
    await check_finished(source)
    if source.worktree is not None and source.head != head:
        raise OperationError(
            ErrorCode.CONFLICT,
            "the attempt's worktree is not on its branch",
            hint="Check the branch out there, or bring its commits to it.",
            branch=source.branch,
            head=source.head,
        )
    if expected is not None and expected != head:
        raise ExpectedHeadMoved("the attempt's branch", expected, head)
    return head


def _check(request: CreatePrRequest) -> None:
    if not 0 < len(request.title.strip()) <= TITLE_CHARACTERS_MAX or "\n" in request.title.strip():
        hint = f"Give one line of 1 to {TITLE_CHARACTERS_MAX} characters."
        raise InvalidInput("title", request.title, hint)
    if len(request.body) > BODY_CHARACTERS_MAX:
        raise InvalidInput(
            "body", request.body, f"It has at most {BODY_CHARACTERS_MAX} characters."
        )
    if request.target is not None:
        check_branch_name("target", request.target)


def _until_s(asking: Asking) -> float:
    return time.monotonic() + asking.operation.deadline_s - _OWN_S
