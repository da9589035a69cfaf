"""GitHub's REST API, as far as pull requests need it: asked within a deadline, patiently, once.

Reading is repeated after what may pass. What creates is never repeated before a look whether the
last try did it. Must not know of attempts, nor where the token comes from.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeVar

import aiohttp
import gidgethub
import msgspec
import tenacity
from gidgethub.abc import GitHubAPI

from node_agent.config import proxy_of
from node_agent.forge.errors import (
    ForgeError,
    ForgeFailed,
    ForgeRefused,
    NotAllowed,
    NotLoggedIn,
    PrExists,
    PrNotFound,
    PrUnknown,
    RepositoryMoved,
    RepositoryUnseen,
    SlowedDown,
    TargetMissing,
)
from node_agent.forge.places import Forge, Place
from node_agent.forge.pull_requests import (
    CheckRun,
    CheckRuns,
    CombinedStatus,
    Pull,
    Status,
    checks_of,
    from_branch,
    says_exists,
    says_no_target,
    told,
)
from protocol.pull_requests import PrChecks

T = TypeVar("T")
_LOG: Final = logging.getLogger(__name__)
_REQUESTER: Final = "skep"
_API_VERSION: Final = "2022-11-28"
_REQUEST_S_MAX: Final = 20.0
_CONNECT_S_MAX: Final = 10.0
_ANSWER_BYTES_MAX: Final = 8 * 1024 * 1024
_TRIES_MAX: Final = 4
_WAIT_S_FIRST: Final = 0.5
_WAIT_S_MAX: Final = 8.0
#: A limit that names no time is tried again after this long.
_LIMIT_WAIT_S: Final = 5.0
#: Pauses between looks for a pull request whose making nobody confirmed.
_LOOK_AGAIN_S: Final = (0.0, 1.0, 3.0)
_PAGE: Final = 100
_CHECK_PAGES_MAX: Final = 3


@dataclass(frozen=True)
class NewPull:
    """A pull request that is wanted."""

    title: str
    body: str
    branch: str
    target: str
    draft: bool = False


class _Transient(Exception):  # noqa: N818  says what it is, and never leaves this module
    """A try that came to nothing; the next may do better."""

    def __init__(
        self, error: ForgeError, *, wait_s: float | None = None, sent: bool, ended: bool = True
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_s = wait_s
        #: Whether the forge may have carried the request out, and whether it is through with it.
        self.sent = sent
        self.ended = ended


class _Exists(Exception):  # noqa: N818  says what it is, and never leaves this module
    """The forge has a pull request of this branch already."""


class _Api(GitHubAPI):
    """The library's requests on our session: bounded in time and size, no redirects followed."""

    def __init__(self, session: aiohttp.ClientSession, forge: Forge, token: str) -> None:
        super().__init__(_REQUESTER, oauth_token=token, base_url=forge.api_url)
        self._session = session
        self._forge = forge
        self.until_s = 0.0

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes = b""
    ) -> tuple[int, Mapping[str, str], bytes]:
        left_s = max(0.01, self.until_s - time.monotonic())
        host = self._forge.host
        try:
            async with self._session.request(
                method,
                url,
                headers={**headers, "x-github-api-version": _API_VERSION},
                data=body or None,
                # A token is for this host alone.
                allow_redirects=False,
                proxy=proxy_of(url),
                timeout=aiohttp.ClientTimeout(
                    total=min(left_s, _REQUEST_S_MAX), connect=min(left_s, _CONNECT_S_MAX)
                ),
            ) as response:
                content = bytearray()
                async for piece in response.content.iter_any():
                    content += piece
                    if len(content) > _ANSWER_BYTES_MAX:
                        large = ForgeFailed(host, f"an answer of over {_ANSWER_BYTES_MAX} bytes")
                        raise _Transient(large, sent=True)
                return response.status, response.headers, bytes(content)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            said = ForgeFailed(host, f"it cannot be reached: {type(error).__name__}: {error}")
            raise _Transient(said, sent=False) from error
        except TimeoutError as error:
            raise _Transient(
                ForgeFailed(host, "it does not answer in time"), sent=True, ended=False
            ) from error
        except aiohttp.ClientError as error:
            said = ForgeFailed(host, f"the connection broke: {type(error).__name__}: {error}")
            raise _Transient(said, sent=True, ended=False) from error

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class GitHub:
    """One repository at its GitHub, for one operation that ends by `until_s` (monotonic)."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        forge: Forge,
        place: Place,
        token: str,
        *,
        secret: str,
        until_s: float,
    ) -> None:
        self._api = _Api(session, forge, token)
        self._api.until_s = until_s
        self._until_s = until_s
        self._host = forge.host
        self._place = place
        self._secret = secret

    # --- reading ------------------------------------------------------------------------------

    async def default_branch(self) -> str:
        """Return the branch the repository's work goes to."""
        said = await self._get("", dict)
        branch = said.get("default_branch")
        if not isinstance(branch, str) or not branch:
            raise self._unusable("it names no default branch")
        return branch

    async def check_branch(self, branch: str) -> None:
        """Raise TargetMissing where the repository has no such branch."""
        await self._get(
            "/branches/{branch}", dict, missing=TargetMissing(branch), url_vars={"branch": branch}
        )

    async def pull(self, number: int) -> Pull:
        """Return a pull request by its number. Raises PrNotFound."""
        missing = PrNotFound(f"{self._place.full_name}#{number}")
        return await self._get(f"/pulls/{number}", Pull, missing=missing)

    async def pulls_from(self, branch: str, *, state: str = "open") -> list[Pull]:
        """Return the pull requests that come from a branch of this repository, newest first."""
        found = await self._get(
            "/pulls{?state,head,sort,direction,per_page}",
            list[Pull],
            url_vars={
                "state": state,
                "head": f"{self._place.owner}:{branch}",
                "sort": "created",
                "direction": "desc",
                "per_page": str(_PAGE),
            },
        )
        return from_branch(found, self._place, branch)

    async def checks(self, commit: str) -> PrChecks:
        """Return what checks said of a commit; `unknown` where the token may not read them."""
        try:
            runs, more = await self._check_runs(commit)
            combined = await self._get(
                "/commits/{commit}/status{?per_page}",
                CombinedStatus,
                url_vars={"commit": commit, "per_page": str(_PAGE)},
            )
        except (NotAllowed, RepositoryUnseen):
            return PrChecks()
        statuses: list[Status] = combined.statuses
        return checks_of(runs, statuses, more)

    async def _check_runs(self, commit: str) -> tuple[list[CheckRun], int]:
        runs: list[CheckRun] = []
        for page in range(1, _CHECK_PAGES_MAX + 1):
            found = await self._get(
                "/commits/{commit}/check-runs{?per_page,page}",
                CheckRuns,
                url_vars={"commit": commit, "per_page": str(_PAGE), "page": str(page)},
            )
            runs += found.check_runs
            if len(runs) >= found.total_count or not found.check_runs:
                return runs, 0
        return runs, found.total_count - len(runs)

    async def _get(
        self,
        path: str,
        kind: type[T],
        *,
        missing: ForgeError | None = None,
        url_vars: Mapping[str, str] | None = None,
    ) -> T:
        async def once() -> T:
            said = await self._once(self._api.getitem, path, url_vars, missing=missing)
            return self._convert(said, kind)

        return await self._patiently(once)

    # --- creating -----------------------------------------------------------------------------

    async def create(self, wanted: NewPull) -> Pull:
        """Open a pull request; the caller has seen that none is open from this branch.

        A try whose end is not known is followed by a look, and by another try only where the
        forge is through with it and there is nothing. Raises PrExists, TargetMissing,
        ForgeRefused, and PrUnknown where it may or may not be there.
        """
        tried = False

        async def once() -> Pull:
            nonlocal tried
            try:
                return await self._post(wanted)
            except _Exists:
                found = await self._look(wanted, (0.0,))
                if found is not None and tried and _is_ours(found, wanted):
                    return found
                if found is None:
                    raise ForgeRefused(
                        self._host, "it has such a pull request already, and does not show it", []
                    ) from None
                raise PrExists(found.html_url, found.number) from None
            except _Transient as transient:
                if not transient.sent:
                    raise
                tried = True
                found = await self._look(wanted, (0.0,) if transient.ended else _LOOK_AGAIN_S)
                if found is not None and _is_ours(found, wanted):
                    return found
                if found is not None:
                    raise PrExists(found.html_url, found.number) from transient
                if not transient.ended:
                    raise PrUnknown(self._host, transient.error.message) from transient
                raise

        return await self._patiently(once)

    async def _post(self, wanted: NewPull) -> Pull:
        content = {
            "title": wanted.title,
            "body": wanted.body,
            "head": wanted.branch,
            "base": wanted.target,
            "draft": wanted.draft,
        }
        said = await self._once(
            lambda url, known: self._api.post(url, known, data=content),
            "/pulls",
            target=wanted.target,
        )
        try:
            return self._convert(said, Pull)
        except ForgeFailed as error:
            # It was taken, and what came back is no answer: a look says which it is.
            raise _Transient(error, sent=True) from error

    async def _look(self, wanted: NewPull, pauses_s: tuple[float, ...]) -> Pull | None:
        """Look whether a try that failed made it after all. Raises PrUnknown."""
        for pause_s in pauses_s:
            if pause_s and time.monotonic() + pause_s > self._until_s:
                break
            await asyncio.sleep(pause_s)
            try:
                found = await self.pulls_from(wanted.branch)
            except ForgeError as error:
                raise PrUnknown(self._host, error.message) from error
            if found:
                return found[0]
        return None

    # --- one request --------------------------------------------------------------------------

    async def _once(
        self,
        call: Callable[[str, Mapping[str, str]], Awaitable[Any]],
        path: str,
        url_vars: Mapping[str, str] | None = None,
        *,
        missing: ForgeError | None = None,
        target: str = "",
    ) -> Any:
        known = {"owner": self._place.owner, "name": self._place.name, **(url_vars or {})}
        try:
            return await call("/repos/{owner}/{name}" + path, known)
        except gidgethub.HTTPException as refusal:
            raise self._meaning(refusal, missing, target) from refusal
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            # What the library meets in an answer that is none: half a JSON, an unknown status.
            raise _Transient(self._unusable(type(error).__name__), sent=True) from error

    def _meaning(
        self, refusal: gidgethub.HTTPException, missing: ForgeError | None, target: str
    ) -> Exception:
        """Return what an answer that is no success means."""
        status, said = refusal.status_code, str(refusal)
        wait_s = _wait_s(refusal)
        if _is_limit(refusal):
            limited = SlowedDown(self._host, wait_s)
            return _Transient(limited, wait_s=wait_s or _LIMIT_WAIT_S, sent=False)
        if isinstance(refusal, gidgethub.GitHubBroken):
            broken = ForgeFailed(self._host, f"HTTP {status.value} {said}")
            return _Transient(broken, wait_s=wait_s, sent=True)
        if isinstance(refusal, gidgethub.RedirectionException):
            now_at = refusal.headers.get("location", "")
            return RepositoryMoved(self._host, self._place.full_name, now_at)
        if isinstance(refusal, gidgethub.InvalidField | gidgethub.ValidationError):
            if says_exists(refusal.errors):
                return _Exists()
            if target and says_no_target(refusal.errors):
                return TargetMissing(target)
            return ForgeRefused(self._host, said, told(refusal.errors))
        match status:
            case HTTPStatus.UNAUTHORIZED:
                return NotLoggedIn(self._host, self._secret, said)
            case HTTPStatus.FORBIDDEN:
                return NotAllowed(self._host, said)
            case HTTPStatus.NOT_FOUND | HTTPStatus.GONE:
                return missing or RepositoryUnseen(self._host, self._place.full_name)
        return ForgeRefused(self._host, f"HTTP {status.value} {said}", [])

    def _convert(self, said: Any, kind: type[T]) -> T:
        try:
            return msgspec.convert(said, kind)
        except msgspec.ValidationError as error:
            raise self._unusable(str(error)) from error

    def _unusable(self, why: str) -> ForgeFailed:
        return ForgeFailed(self._host, f"what it answered cannot be used: {why}")

    # --- patience -----------------------------------------------------------------------------

    async def _patiently(self, once: Callable[[], Awaitable[T]]) -> T:
        """Try again after what may pass, as long as a wait ends before the deadline."""
        trying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_Transient),
            stop=self._is_enough,
            wait=_next_wait_s,
            before_sleep=lambda state: _LOG.info("%s: trying again", _reason(state)),
            reraise=True,
        )
        try:
            return await trying(once)
        except _Transient as transient:
            raise transient.error from transient

    def _is_enough(self, state: tenacity.RetryCallState) -> bool:
        late = time.monotonic() + state.upcoming_sleep >= self._until_s
        return late or state.attempt_number >= _TRIES_MAX


_BACKOFF: Final = tenacity.wait_exponential(
    multiplier=_WAIT_S_FIRST, max=_WAIT_S_MAX
) + tenacity.wait_random(0, _WAIT_S_FIRST)


def _next_wait_s(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    if isinstance(error, _Transient) and error.wait_s is not None:
        return error.wait_s
    return _BACKOFF(state)


def _reason(state: tenacity.RetryCallState) -> object:
    return state.outcome.exception() if state.outcome is not None else None


def _is_ours(found: Pull, wanted: NewPull) -> bool:
    return found.title == wanted.title and found.base.ref == wanted.target


def _is_limit(refusal: gidgethub.HTTPException) -> bool:
    if isinstance(refusal, gidgethub.RateLimitExceeded):
        return True
    if refusal.status_code is HTTPStatus.TOO_MANY_REQUESTS:
        return True
    forbidden = refusal.status_code is HTTPStatus.FORBIDDEN
    said = str(refusal).lower()
    return forbidden and ("retry-after" in refusal.headers or "rate limit" in said)


def _wait_s(refusal: gidgethub.HTTPException) -> float | None:
    """Return how long the forge asks to be left alone: in seconds, or until a time of day."""
    for name, since_s in (("retry-after", 0.0), ("x-ratelimit-reset", time.time())):
        if name == "x-ratelimit-reset" and refusal.headers.get("x-ratelimit-remaining") != "0":
            continue
        with contextlib.suppress(KeyError, ValueError):
            return max(0.0, float(refusal.headers[name]) - since_s)
    return None
