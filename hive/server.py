"""One running hive: opens the store, puts the parts together, serves, and stops in order.

Owns the order of starting and stopping. Ready is said only when the store is open and the
generation is written; stopping tells nodes first, then ends what is under way.
"""

import asyncio
import contextlib
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web

from hive import failpoints
from hive.access import Principal
from hive.api.context import CONTEXT, HiveContext, now_ms
from hive.api.middleware import TokenCache, errors, guard, safe_headers
from hive.api.routes import add_routes
from hive.backfill import Backfill
from hive.checkup import certificate
from hive.config import HiveConfig, check_exposure
from hive.deferred_operations import DeferredOperations
from hive.direct_access import DirectAccess
from hive.external_sessions import ExternalSessions
from hive.history import History
from hive.ingest import Ingest
from hive.live_feed import LiveFeed
from hive.live_texts import LiveTexts
from hive.minute_limit import MinuteLimit
from hive.node_briefing import OVER_MAX, NodeBriefing
from hive.node_gateway import HiveFacts, NodeGateway
from hive.node_registry import NodeRegistry, Signer
from hive.operation_proxy import OperationProxy
from hive.operation_records import StoredRecords
from hive.safe_backups import SafeBackups, of_epochs
from hive.store import attempts, identity, journal, needs, nodes, operations, worktrees
from hive.store.backend import Change, IngestPolicy, Lacking, StoreBroken, Transaction
from hive.store.credentials import (
    Revocations,
    apply_revocations,
    find_token,
    touch_token,
    use_is_worth_noting,
)
from hive.store.folder_lock import FolderLock
from hive.store.ingest_store import SqliteIngestStore
from hive.store.signing_key import SigningKey, load_or_make_signing_key
from hive.store.sqlite import SqliteDatabase
from hive.tls import server_context
from protocol import limits
from protocol.attempt_tokens import SEPARATOR, check_attempt_token, node_named
from protocol.errors import ErrorCode, SkepError
from protocol.messages import Links, NeedDone, Safe
from protocol.operations import Role
from protocol.states import AttemptPhase

log = logging.getLogger(__name__)

#: How often nodes that are connected are written down as seen, for the time after a crash.
_SEEN_INTERVAL_S: Final = 30.0
#: Headers and request line a caller may send.
_HEADER_BYTES_MAX: Final = 16 * 1024


class BackfillingIngest(Ingest):
    """Ingest that has backfill go on where a need was answered."""

    backfill: Backfill
    #: Reads which attempts a need asked for logs of.
    attempts_asked: Callable[[str], Awaitable[list[str]]]

    async def need_done(self, node_id: str, link_no: int, done: NeedDone) -> None:
        """Store what became of each id of a need, and look what else is lacking."""
        await super().need_done(node_id, link_no, done)
        cut_short = await self.attempts_asked(done.request_id) if done.more else []
        self.backfill.answered(node_id, cut_short)


class Hive:
    """The parts of one running hive. Make it by `opened`."""

    def __init__(
        self,
        config: HiveConfig,
        database: SqliteDatabase,
        row: identity.HiveRow,
        signing: SigningKey,
    ) -> None:
        self.config = config
        self.database = database
        self.generation = row.generation
        self.store = SqliteIngestStore(
            database,
            clock=now_ms,
            policy=IngestPolicy(nodes_may_create_projects=config.nodes_may_create_projects),
        )
        self.feed = LiveFeed(config.viewer_events_max)
        signer = Signer(
            hive_id=row.hive_id,
            key_id=signing.key_id,
            key=signing.key,
            generation=lambda: self.generation,
        )
        self.registry = NodeRegistry(signer)
        self.backfill = Backfill(
            self.store,
            self.registry,
            self._lack_of,
            sweep_interval_s=config.sweep_interval_s,
        )
        self.safe = SafeBackups(config.backups, row.hive_id)
        self.briefing = NodeBriefing(
            self.registry, self._links_of, self._safe_of, self._nodes_of_task
        )
        self.ingest = BackfillingIngest(self.store, database, self._publish)
        self.ingest.backfill = self.backfill
        self.ingest.attempts_asked = self._attempts_asked
        self.gateway = NodeGateway(
            facts=HiveFacts(
                hive_id=row.hive_id,
                generation=self._heard_generation,
                keys={signing.key_id: signing.public_key},
                hosts=hosts_of(config),
            ),
            store=self.store,
            ingest=self.ingest,
            registry=self.registry,
            on_live=self._on_live,
            on_change=self._on_change,
            on_caught_up=self.backfill.caught_up,
            connects=MinuteLimit("links", config.node_connects_per_minute_max),
            on_said=LiveTexts(database, self.feed).say,
        )
        self.proxy = OperationProxy(self.registry, StoredRecords(database))
        self.deferred = DeferredOperations(database, self.proxy, self.registry.is_online, now_ms)
        self.sessions = ExternalSessions(
            database, now_ms, idle_s=config.session_idle_s, age_s=config.session_age_s
        )
        self.history = History(database, now_ms, kept_days=config.history_kept_days)
        self.context = HiveContext(
            config=config,
            hive_id=row.hive_id,
            keys={signing.key_id: signing.public_key},
            generation=lambda: self.generation,
            version=version("skep"),
            database=database,
            revocations=Revocations(config.revocations),
            feed=self.feed,
            registry=self.registry,
            backfill=self.backfill,
            proxy=self.proxy,
            deferred=self.deferred,
            direct=DirectAccess(signer),
            sessions=self.sessions,
            tokens=TokenCache(self._authenticate, config.token_cached_s),
            enrol_failures=MinuteLimit("failures", config.enrol_failures_per_minute_max),
            url=config.url,
        )

    # --- what the parts ask of each other -----------------------------------------------------

    def _publish(self, changes: Sequence[Change]) -> None:
        self.feed.publish(changes)
        self.briefing.on_changes(changes)

    async def _heard_generation(self, reported: int) -> int:
        if reported > self.generation:
            self.generation = await self.database.write(
                identity.heard_generation, "", reported, int(time.time())
            )
        return self.generation

    async def _on_live(self, node_id: str) -> None:
        await self.briefing.connected(node_id)
        self.backfill.reconnected(node_id)
        self.deferred.connected(node_id)

    async def _on_change(self, node_id: str) -> None:
        await self.database.write(_seen_and_changed, node_id, now_ms())

    async def _lack_of(self, attempt_id: str) -> tuple[str, Lacking] | None:
        return await self.database.read(attempts.lack_of, attempt_id)

    async def _attempts_asked(self, request_id: str) -> list[str]:
        return await self.database.read(needs.attempts_asked, request_id)

    async def _links_of(self, node_id: str) -> Links:
        links = await self.database.read(nodes.project_links, node_id)
        over = await self.database.read(worktrees.over, node_id, now_ms=now_ms(), limit=OVER_MAX)
        return Links(links=links, over=over)

    async def _nodes_of_task(self, task_id: str) -> list[str]:
        return await self.database.read(worktrees.nodes_of_task, task_id)

    async def _safe_of(self, node_id: str) -> Safe:
        safe = await self.safe.of_node(node_id, now_ms())
        if len(safe.epochs) <= limits.HELLO_EPOCHS_MAX:
            return safe
        # No node names more in its hello: it has pruned the older ones.
        newest = await self.database.read(journal.newest_epochs, node_id, limits.HELLO_EPOCHS_MAX)
        return of_epochs(safe, newest)

    async def _authenticate(self, token: str) -> Principal | None:
        now = now_ms()
        if SEPARATOR in token:
            return await self._agent_of(token, now)
        row = await self.database.read(find_token, token, now)
        if row is None:
            return None
        if use_is_worth_noting(row, now):
            await self.database.write(touch_token, row.id, now)
        return Principal(token_id=row.id, name=row.name, role=Role[row.role.upper()])

    async def _agent_of(self, token: str, now: int) -> Principal | None:
        """Return the attempt whose node signed a token for its agent; None where it may not ask."""
        try:
            node = await self.database.read(nodes.get_node, node_named(token))
            if node.revoked_at_ms is not None or node.quarantined_at_ms is not None:
                return None
            proven = check_attempt_token(
                token,
                node_id=node.id,
                public_key=node.public_key,
                hive_id=self.context.hive_id,
                now_s=now / 1000,
            )
            attempt = await self.database.read(attempts.get_attempt, proven.attempt_id)
        except SkepError as error:
            log.info("a token of an attempt was refused: %s", error)
            return None
        if attempt.node_id != node.id or attempt.phase == AttemptPhase.ENDED:
            return None
        return Principal(
            token_id=proven.jti,
            name=f"attempt {attempt.id[-8:]}",
            role=Role.OPERATOR,
            attempt_id=attempt.id,
            task_id=attempt.task_id,
            project_id=attempt.project_id,
        )

    # --- tasks --------------------------------------------------------------------------------

    async def run_seen(self) -> None:
        """Write down, now and then, that connected nodes were heard of."""
        while True:
            await asyncio.sleep(_SEEN_INTERVAL_S)
            with contextlib.suppress(SkepError):
                # Only for people to see; the next round says it again.
                await self.database.write(_all_seen, sorted(self.registry.online()), now_ms())

    def application(self) -> web.Application:
        """Return the HTTP application."""
        app = web.Application(
            middlewares=[errors, guard(self.config, self.context.tokens)],
            client_max_size=self.config.body_bytes_max,
        )
        app[CONTEXT] = self.context
        app.on_response_prepare.append(safe_headers(self.config))
        add_routes(app, self.gateway.handle, server_url=self.config.url)
        return app


async def _seen_and_changed(tx: Transaction, node_id: str, at_ms: int) -> None:
    await nodes.seen(tx, node_id, at_ms)
    tx.note(Change(kind="node.changed", ids={"node": node_id}))


async def _all_seen(tx: Transaction, node_ids: list[str], at_ms: int) -> None:
    for node_id in node_ids:
        await nodes.seen(tx, node_id, at_ms)


def hosts_of(config: HiveConfig) -> frozenset[str]:
    """Return the addresses a node may have dialled; empty where the admin named none.

    This machine's own nodes may always use its own address.
    """
    if not config.public_urls:
        return frozenset()
    named = {urlsplit(url).netloc.lower() for url in config.public_urls}
    return frozenset(named | {f"{host}:{config.port}" for host in ("127.0.0.1", "localhost")})


# --- life -----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def opened(config: HiveConfig, fatal: asyncio.Event) -> AsyncIterator[Hive]:
    """Open the store and yield the hive, its generation written; close all of it after."""

    def on_fatal(error: StoreBroken) -> None:
        log.critical("%s %s", error, error.hint)
        fatal.set()

    database = await SqliteDatabase.open(config.database, on_fatal=on_fatal)
    try:
        signing = await asyncio.to_thread(load_or_make_signing_key, config.signing_key)
        await database.write(identity.start_generation, int(time.time()))
        await database.write(operations.lose_sight, now_ms())
        revoked = Revocations(config.revocations).read()
        if revoked:
            await database.write(apply_revocations, revoked, now_ms())
        row = await database.read(identity.hive_row)
        hive = Hive(config, database, row, signing)
        # What an older release kept because it did not know its kind.
        await hive.store.apply_unknown()
        yield hive
    finally:
        await database.close()


def run(config: HiveConfig) -> None:
    """Run a hive until SIGTERM or SIGINT; exits 1 where its store failed."""
    exposure = check_exposure(config)
    if not config.database.exists():
        raise SkepError(
            ErrorCode.NOT_FOUND,
            f"there is no hive in {config.data_dir}",
            hint=f"Set one up: hive init --data {config.data_dir}",
        )
    failpoints.arm(config.failpoint)
    with FolderLock(config.lock):
        if not _with_fast_loop(config, exposure):
            sys.exit(1)


def _with_fast_loop(config: HiveConfig, exposure: str) -> bool:
    factory = None
    # Run behind it, not within: else each traceback would begin with that of the import.
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_serve(config, exposure))


async def _serve(config: HiveConfig, exposure: str) -> bool:
    """Serve until told to stop; return whether all went well."""
    stop, fatal = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with opened(config, fatal) as hive, served(hive) as (port, owned):
        _say_listening(config, port, exposure)
        waiting = [
            asyncio.create_task(stop.wait(), name="stop"),
            asyncio.create_task(fatal.wait(), name="fatal"),
        ]
        try:
            done, _ = await asyncio.wait([*owned, *waiting], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                # A task of ours that ends has failed: better to start anew than to limp.
                task.result()
            if not fatal.is_set():
                await _drain(hive)
        finally:
            await _cancelled(waiting)
    return not fatal.is_set()


@contextlib.asynccontextmanager
async def served(hive: Hive) -> AsyncIterator[tuple[int, list[asyncio.Task[None]]]]:
    """Listen; yield the port and the hive's own tasks, and end them after."""
    config = hive.config
    tls = None
    if config.tls_cert is not None and config.tls_key is not None:
        tls = server_context(config.tls_cert, config.tls_key)
        found = certificate(config.tls_cert, config.tls_key)
        if found.level != "ok":
            log.warning("the certificate %s: %s. %s", config.tls_cert, found.message, found.hint)
    runner = web.AppRunner(
        hive.application(),
        access_log=None,
        # A caller that leaves ends its request; what must go on is not part of one.
        handler_cancellation=True,
        max_line_size=_HEADER_BYTES_MAX,
        max_field_size=_HEADER_BYTES_MAX,
        # A request under way when the hive stops has this long.
        shutdown_timeout=config.drain_s,
    )
    await runner.setup()
    owned = [
        asyncio.create_task(hive.backfill.run(), name="backfill"),
        asyncio.create_task(hive.briefing.run(), name="briefing"),
        asyncio.create_task(hive.run_seen(), name="seen"),
        asyncio.create_task(hive.deferred.run(), name="deferred operations"),
        asyncio.create_task(hive.sessions.run(), name="external sessions"),
        asyncio.create_task(hive.history.run(), name="history"),
    ]
    try:
        port = await _listen(config, runner, tls)
        hive.context.url = (
            config.public_urls[0] if config.public_urls else config.listening_url(port)
        )
        hive.context.ready = True
        yield port, owned
    finally:
        hive.context.stopping = True
        hive.feed.close()
        await runner.cleanup()
        await hive.gateway.all_left()
        await _cancelled(owned)


async def _cancelled(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(config: HiveConfig, runner: web.AppRunner, tls: Any) -> int:
    site = web.TCPSite(runner, config.host, config.port, ssl_context=tls, backlog=1024)
    try:
        await site.start()
    except OSError as error:
        raise SkepError(
            ErrorCode.CONFLICT,
            f"cannot listen on {config.host} port {config.port}: {error.strerror or error}",
            hint="Is something else using it? Choose another with --port.",
        ) from error
    return int(runner.addresses[0][1])


def _say_listening(config: HiveConfig, port: int, exposure: str) -> None:
    address = config.listening_url(port)
    log.info("listening on %s (%s)", address, exposure, extra={"url": address, "port": port})


async def _drain(hive: Hive) -> None:
    """Tell nodes to come back soon, let operations end, then end the viewers' streams."""
    log.info("stopping: nodes are told, what is under way may end")
    hive.context.stopping = True
    hive.gateway.draining = True
    await hive.proxy.close(hive.config.drain_s)
    await hive.gateway.drain(hive.config.reconnect_after_ms)
    hive.feed.close()
