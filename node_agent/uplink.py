"""The link to the hive, over and over: dials, hands the socket to a session, waits, dials again.

Owns the backoff and what people see of the link. Nothing here decides anything about an attempt:
with no hive, the node works on.
"""

import asyncio
import contextlib
import logging
import random
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from node_agent.hive_clock import HiveClock
from node_agent.identity import HiveIdentity, NodeIdentity
from node_agent.link_session import Hooks, LinkSession, Sources
from node_agent.reconnect import Backoff
from node_agent.refused_ops import RefusedOps
from protocol import limits, node_link
from protocol.errors import SkepError
from protocol.messages import SUBPROTOCOLS, Draining, Fork, LiveText, Welcome

log = logging.getLogger(__name__)

_HINTS: Final = {
    4401: "The key is not the one this node enrolled with, or the hive's address is not its own.",
    4403: "An admin of the hive sees why: hive nodes show NODE.",
    4406: "Upgrade the older of the two.",
}


@dataclass(frozen=True, kw_only=True)
class Dial:
    """Where the hive is and how to reach it.

    `tls` is asked at each dial what the hive is verified with, None for plain http: which authority
    is trusted may change under a running agent.
    """

    url: str
    hive_id: str
    keys: Mapping[str, bytes]
    tls: Callable[[], ssl.SSLContext | None]

    @property
    def link_url(self) -> str:
        parts = urlsplit(self.url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/v1/link"

    @property
    def host(self) -> str:
        """The host and port dialled, as the hello names and signs them."""
        return urlsplit(self.url).netloc.rpartition("@")[2].lower()


@dataclass
class UplinkState:
    """What `node-agent status` shows of the link."""

    connected: bool = False
    since_ms: int | None = None
    link_no: int = 0
    generation: int = 0
    problem: str = ""
    hint: str = ""
    next_dial_ms: int | None = None


@dataclass
class Holder:
    """What tells this process from another holder of the node's key, for as long as it lives.

    Kept over leaving and joining again: a hive that saw a number twice would see two holders.
    """

    instance: int
    connect_no: int = 0


class Uplink:
    """Keeps one link to the hive, from start to stop of the agent."""

    def __init__(
        self,
        *,
        identity: NodeIdentity,
        dial: Dial,
        version: str,
        generation_seen: int,
        sources: Sources,
        holder: Holder | None = None,
        clock: HiveClock | None = None,
    ) -> None:
        self.state = UplinkState(generation=generation_seen)
        self._identity = identity
        self._dial = dial
        self._version = version
        self._sources = sources
        self._holder = holder or Holder(identity.instance)
        self._session: LinkSession | None = None
        self._retry_after_s = 0.0
        self._refused_ops = RefusedOps()
        self._under_way: tuple[int, int] | None = None
        self._own_end = False
        self._hurry = asyncio.Event()
        self._forks: list[Fork] = []
        self._detached: set[asyncio.Task[None]] = set()
        self._keys = dict(dial.keys)
        self._clock = clock or HiveClock()

    # --- asked by the rest of the agent -------------------------------------------------------

    @property
    def hive(self) -> HiveIdentity:
        """What the hive's tokens are judged by, as of its last word."""
        return HiveIdentity(self._dial.hive_id, self.state.generation, self._keys)

    def hive_now_s(self) -> float:
        """Return the hive's time, as far as it was heard of."""
        return self._clock.now_s()

    # --- told by the rest of the agent --------------------------------------------------------

    def journal_grew(self, epoch: int, last: int) -> None:
        """Op `last` of `epoch` is committed."""
        if self._session is not None:
            self._session.journal_grew(epoch, last)

    def log_grew(self, execution_id: str, *, next_chunk: int, open_: bool) -> None:
        """Chunks of a log before `next_chunk` are committed, or it was closed."""
        if self._session is not None:
            self._session.log_grew(execution_id, next_chunk, open_)

    def status_changed(self) -> None:
        """The activity or the slots changed: tell the hive soon."""
        if self._session is not None:
            self._session.status_changed()

    def say_live(self, piece: LiveText) -> None:
        """Show those who look at the hive what an agent is just writing; dropped with no link."""
        if self._session is not None:
            self._session.say_live(piece)

    async def redial(self) -> None:
        """End the link and dial at once: what the hello says has changed."""
        if self._session is not None:
            self._own_end = True
            await self._session.close()

    def hurry(self) -> None:
        """Dial now, whatever the backoff says."""
        self._hurry.set()

    # --- life ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Dial, serve, wait, dial again; ends by cancellation alone."""
        backoff = Backoff()
        try:
            while True:
                started = time.monotonic()
                close_code = await self._one_link()
                self.state.connected = False
                self.state.since_ms = _now_ms()
                await self._settle_forks()
                if self._own_end:
                    # Nothing went wrong, so nothing has to be waited out.
                    self._own_end = False
                    continue
                lived_s = time.monotonic() - started
                backoff.closed(lived_s=lived_s, close_code=close_code)
                await self._withhold_refused(close_code, lived_s)
                await self._wait(backoff)
        finally:
            # Changing operations whose link is gone: their outcome is looked up by key later.
            await asyncio.gather(*self._detached, return_exceptions=True)

    async def _withhold_refused(self, close_code: int | None, lived_s: float) -> None:
        under_way, self._under_way = self._under_way, None
        refused = self._refused_ops.closed(
            close_code=close_code, lived_s=lived_s, under_way=under_way
        )
        if refused is not None:
            log.error(
                "op %d of epoch %d is refused by the hive; it is withheld", *reversed(refused)
            )
            # Told again it would only be refused again.
            await self._sources.journal.withhold(*refused, "refused", told_again=False)

    async def _wait(self, backoff: Backoff) -> None:
        jitter = random.random()  # noqa: S311  spreads a fleet, guards nothing
        wait_s = backoff.wait_s(jitter, retry_after_s=self._retry_after_s)
        self._retry_after_s = 0.0
        self.state.next_dial_ms = _now_ms() + int(wait_s * 1000)
        log.info("dialling the hive again in %.1f s", wait_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._hurry.wait()
        self._hurry.clear()

    async def _one_link(self) -> int | None:
        """Serve one link; return its close code, or None where it never came to one."""
        self._holder.connect_no += 1
        try:
            async with connect(
                self._dial.link_url,
                subprotocols=[Subprotocol(name) for name in SUBPROTOCOLS],
                max_size=limits.FRAME_BYTES_MAX,
                max_queue=16,
                compression=None,
                ssl=self._dial.tls(),
                open_timeout=limits.HANDSHAKE_S_MAX,
                close_timeout=2,
                # Our own frames prove life; see `LinkSession._run_reader`.
                ping_interval=None,
                proxy=None,
                user_agent_header=f"skep-node/{self._version}",
            ) as socket:
                session = LinkSession(
                    socket,
                    self._caller(),
                    self._dial.keys,
                    self._sources,
                    Hooks(
                        accepted=self._accepted,
                        forked=self._forks.append,
                        draining=self._draining,
                    ),
                    self._detached,
                    self._clock,
                    singly=self._refused_ops.singly,
                )
                self._session = session
                try:
                    return await session.run()
                finally:
                    self._under_way = session.under_way()
                    self._session = None
        except ConnectionClosed as closed:
            return self._closed(closed)
        except SkepError as error:
            self._problem(error.message, error.hint)
            return error.meaning.close_code
        except ssl.SSLError as error:
            self._problem(f"TLS: {error}", "Check the hive's certificate, its name and its CA.")
        except (OSError, InvalidHandshake, InvalidURI, TimeoutError, EOFError) as error:
            self._problem(f"the hive cannot be reached: {error}", "Is it running at this address?")
        except Exception as error:
            # Whatever a hive says, it ends one link and never the node agent.
            log.exception("the link broke")
            self._problem(
                f"the link broke: {type(error).__name__}", "The node agent's log has more."
            )
        return None

    def _caller(self) -> node_link.Caller:
        return node_link.Caller(
            node_id=self._identity.node_id,
            instance=self._holder.instance,
            connect_no=self._holder.connect_no,
            host=self._dial.host,
            hive_id=self._dial.hive_id,
            generation_seen=self.state.generation,
            version=self._version,
            sign=self._identity.sign,
        )

    # --- events of the link -------------------------------------------------------------------

    def _accepted(self, welcome: Welcome) -> None:
        self._keys.update(welcome.keys)
        self.state = UplinkState(
            connected=True,
            since_ms=_now_ms(),
            link_no=welcome.link_no,
            generation=max(self.state.generation, welcome.generation),
        )
        log.info("connected to the hive (link %d)", welcome.link_no)

    def _draining(self, draining: Draining) -> None:
        # No hive is away on purpose for longer than one that refused is left alone.
        asked_s = draining.retry_after_ms / 1000
        self._retry_after_s = min(max(asked_s, 0.0), limits.RECONNECT_REFUSED_S)

    async def _settle_forks(self) -> None:
        """Go on under a new epoch that holds again all the hive lacks of a forked one."""
        while self._forks:
            fork = self._forks.pop()
            agreed = 0
            for seq, digest in sorted(fork.digests, reverse=True):
                if await self._sources.journal.digest_at(fork.epoch, seq) == digest:
                    agreed = seq
                    break
            self._holder.instance = random.SystemRandom().getrandbits(63) or 1
            self._holder.connect_no = 0
            await self._sources.journal.refork(fork.epoch, agreed, self._holder.instance)
            # Nothing failed that time would mend: both ends know how to go on.
            self.hurry()

    def _closed(self, closed: ConnectionClosed) -> int | None:
        if closed.rcvd is None:
            self._problem("the connection to the hive broke", "")
            return None
        code = closed.rcvd.code
        self._problem(closed.rcvd.reason or "the hive closed the link", _HINTS.get(code, ""))
        return code

    def _problem(self, problem: str, hint: str) -> None:
        self.state.problem, self.state.hint = problem, hint
        log.warning("no link to the hive: %s%s", problem, f" ({hint})" if hint else "")


def _now_ms() -> int:
    return int(time.time() * 1000)
