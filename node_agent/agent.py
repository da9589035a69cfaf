"""The node agent's composition root: opens the stores, takes up what runs, starts the loops.

Owns the order of beginning and end. Executions outlive it: nothing here ends one.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from node_agent import config as node_config
from node_agent import failpoints, own_log
from node_agent.acp.discovery import AGENTS_FOLDER, installed_agents
from node_agent.api.direct import DirectListener
from node_agent.api.exchange import ApiReply, ApiRequest
from node_agent.api.routes import answer
from node_agent.api.server import LocalApi
from node_agent.attempt_runner import AttemptRunner
from node_agent.changes import Changes
from node_agent.config import NodeConfig
from node_agent.data_folder import DataFolderLock, socket_to_serve
from node_agent.direct_exposure import direct_exposure
from node_agent.elsewhere import Elsewhere
from node_agent.executors import EXECUTORS
from node_agent.forge.credentials import ForgeAccess
from node_agent.hive_tools import HiveTools
from node_agent.identity import NodeIdentity, NodeRecord, open_identity, read_record
from node_agent.local_node import JOURNAL, LocalNode
from node_agent.membership import Membership
from node_agent.notices import Notices
from node_agent.operations.asking import Asking
from node_agent.operations.dispatcher import OperationDispatcher
from node_agent.operations.table import functions_of
from node_agent.recovery import recover
from node_agent.run_context import RunContext
from node_agent.secret_values import read_secrets, values_to_hide
from node_agent.self_description import name_of, node_state, slots_of, version
from node_agent.sessions.request_deadlines import RequestDeadlines
from node_agent.sessions.request_steps import RequestPolicy
from node_agent.sessions.upkeep import SessionUpkeep
from node_agent.stamps import now_ms
from node_agent.store import attempts, node_states, plans
from node_agent.stores import Stores, open_stores
from node_agent.turn_steps import runs_since
from node_agent.upkeep import Upkeep
from node_agent.worktree_upkeep import WorktreeUpkeep
from protocol.attempt_requests import StartRequest
from protocol.request_rules import RequestRules

log = logging.getLogger(__name__)

#: A command that answers from the stores holds the data folder for a moment.
_FOLDER_WAIT_S = 5.0


def run_agent(config: NodeConfig) -> None:
    """Run the agent until SIGTERM or SIGINT. Raises SkepError where it cannot go on."""
    own_log.set_up(config.log_level, as_json=config.log_json)
    failpoints.arm(config.failpoint)
    lock = DataFolderLock(config.data_dir)
    lock.acquire(wait_s=_FOLDER_WAIT_S)
    try:
        asyncio.run(_run_agent(config))
    finally:
        lock.close()


async def _run_agent(config: NodeConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    identity = open_identity(config.data_dir)
    async with open_stores(config) as stores:
        await Agent(config, identity, stores).run(stop)


class Agent:
    """One running node agent."""

    def __init__(self, config: NodeConfig, identity: NodeIdentity, stores: Stores) -> None:
        record = read_record(config.data_dir) or NodeRecord(node_id=identity.node_id)
        self._config = config
        self._identity = identity
        self._stores = stores
        self._record = record
        self._changes = Changes()
        self._context = replace(_run_context(config, record, stores), live=self._say_live)
        self._runner = AttemptRunner(self._context)
        self._dispatcher = OperationDispatcher(
            functions_of(
                stores,
                self._changes,
                worktrees_dir=config.worktrees_dir,
                runner=self._runner,
                git_identity=config.git_identity,
                node_name=lambda: name_of(config, self._record),
                forge=ForgeAccess.of(config),
                secrets=self._context.secrets,
            ),
            stores.ledger,
            node_id=identity.node_id,
            refused=config.refuse,
            runs_of=self._agent_runs,
            began_by=self._began_by,
        )
        self._upkeep = Upkeep(
            database=stores.database,
            logs=stores.logs,
            journal=stores.journal,
            chunks=stores.chunks,
            ledger=stores.ledger,
            notices=self._context.notices,
            joined=lambda: self._membership.record.hive is not None,
            kept_days=config.logs_kept_days,
            kept_bytes=config.logs_kept_bytes,
            keys_kept_days=config.operation_keys_kept_days,
        )
        self._worktree_upkeep = WorktreeUpkeep(
            stores.database, self._context.notices, config.worktrees_dir
        )
        self._session_upkeep = SessionUpkeep(stores.database, self._context.clock)
        self._membership = Membership(
            config,
            identity,
            database=stores.database,
            logs=stores.logs,
            journal=stores.journal,
            chunks=stores.chunks,
            answers=stores.answers,
            dispatcher=self._dispatcher,
            changes=self._changes,
            version=version(),
            slots=lambda: slots_of(config, self._record),
            safe_moved=self._upkeep.safe_moved,
            worktrees_over=self._worktree_upkeep.over,
        )
        self._request_deadlines = RequestDeadlines(
            stores.database,
            clock=self._context.clock,
            linked_since_ms=self._membership.linked_since_ms,
        )
        self._hive_tools = HiveTools(
            config.data_dir,
            identity,
            lambda: self._membership.enrolment,
            self._membership.hive_now_s,
        )
        self._elsewhere = Elsewhere(config.data_dir, lambda: self._membership.enrolment)

    def _say_live(self, session_id: str, message_id: str, at: int, text: str, role: str) -> None:
        self._membership.say_live(session_id, message_id, at, text, role)

    async def run(self, stop: asyncio.Event) -> None:
        """Take up what runs, then serve until `stop` is set. Raises where a store breaks."""
        stores = self._stores
        async with contextlib.AsyncExitStack() as closing:
            for undo in self._wake_watchers():
                closing.callback(undo)
            closing.push_async_callback(self._runner.close)
            await stores.journal.open_epoch(self._identity.instance)
            await self._describe()
            # Before its attempt goes on, which would make the branch again that was renamed.
            await self._dispatcher.settle_unsettled({"rename_branch"})
            # Before anything is reported: what the hive hears of running work must be so.
            await recover(self._context, self._runner)
            await self._tell_of_damage()
            await self._dispatcher.settle_unsettled()
            closing.push_async_callback(self._dispatcher.close, within_s=self._config.drain_s)
            path = socket_to_serve(self._config)
            closing.push_async_callback(self._elsewhere.close)
            api = LocalApi(path, self._answer, node_id=self._identity.node_id)
            await api.start()
            closing.push_async_callback(api.close)
            await self._open_direct(closing)
            # Whoever joined before the socket was there could not tell us.
            await self._enrolment_changed()
            name = name_of(self._config, self._record)
            log.info("ready: node %s (%s) at %s", name, self._identity.node_id, path)
            await self._serve(stop)
            log.info("stopping; what runs goes on without the agent")

    async def _agent_runs(self, asking: Asking) -> list[str]:
        seen = asking.expected_execution
        if asking.operation.queues:
            # A run that the one before it in the queue began is one that its author expected.
            return await self._stores.database.read(runs_since, asking.attempt_id, seen)
        return await self._stores.database.read(attempts.agent_runs, asking.attempt_id)

    async def _began_by(self, attempt_id: str) -> StartRequest | None:
        return await self._stores.database.read(plans.began_by, attempt_id)

    async def _tell_of_damage(self) -> None:
        if (aside := self._stores.logs.replaced) is not None:
            await self._context.notices.tell(
                "error",
                "logs_damaged",
                f"the database of logs was damaged; it is kept as {aside}",
                hint="Check the disk. Logs the hive has not got are in that file only.",
            )

    async def _serve(self, stop: asyncio.Event) -> None:
        loops = [
            asyncio.create_task(self._membership.run(), name="membership"),
            asyncio.create_task(self._upkeep.run(), name="upkeep"),
            asyncio.create_task(self._worktree_upkeep.run(), name="worktree upkeep"),
            asyncio.create_task(self._session_upkeep.run(), name="session upkeep"),
            asyncio.create_task(self._request_deadlines.run(), name="request deadlines"),
        ]
        stopping = asyncio.create_task(stop.wait(), name="stop")
        broken = self._stores.broken
        waited: list[asyncio.Future[Any]] = [*loops, stopping, broken]
        try:
            done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*loops, stopping):
                task.cancel()
            # A call of the hive that is being carried out is given a while, and settled later.
            await asyncio.wait((*loops, stopping), timeout=self._config.drain_s)
        if broken.done():
            raise broken.result()
        for task in loops:
            # A loop ends by cancellation alone: whatever else it ended by is a bug to be seen.
            if task in done:
                task.result()

    async def _enrolment_changed(self) -> None:
        """Take up that the operator joined or left: another hive, perhaps another name."""
        record = read_record(self._config.data_dir)
        if record is None:
            return
        if record == self._record:
            # Joined again, as a hive asks that had lost this node: no reason to wait any longer.
            self._membership.hurry()
            return
        self._record = record
        self._context = replace(
            self._context,
            node_name=name_of(self._config, record),
            slots=slots_of(self._config, record),
        )
        self._runner.take(self._context)
        await self._describe()
        self._membership.enrolment_changed(record)

    async def _describe(self) -> None:
        """Have the journal tell what this node is, where that changed."""
        agents = installed_agents(self._config.data_dir, node_config.process_environment())
        said = node_state(self._config, self._record, list(EXECUTORS), agents)
        await self._stores.database.write(node_states.tell, said, now_ms())

    def _wake_watchers(self) -> list[Callable[[], None]]:
        changes = self._changes
        return [
            self._stores.journal.listen(lambda _: changes.changed(JOURNAL)),
            self._stores.chunks.listen(lambda grew: changes.changed(grew.execution_id)),
        ]

    async def _open_direct(self, closing: contextlib.AsyncExitStack) -> None:
        """Serve direct connections, where the operator wants that."""
        exposure = direct_exposure(self._config)
        if exposure is None:
            return
        listener = DirectListener(
            exposure,
            node=self._local_node,
            word=self._membership.hive,
            origins=self._membership.page_origins,
        )
        await listener.start()
        closing.push_async_callback(listener.close)

    async def _answer(self, method: str, path: str, asked: ApiRequest) -> ApiReply:
        return await answer(self._local_node(), method, path, asked)

    def _local_node(self) -> LocalNode:
        return LocalNode(
            config=self._config,
            record=lambda: self._record,
            name=name_of(self._config, self._record),
            slots=slots_of(self._config, self._record),
            database=self._stores.database,
            journal=self._stores.journal,
            chunks=self._stores.chunks,
            dispatcher=self._dispatcher,
            running=True,
            changes=self._changes,
            link=self._membership.view,
            marks=self._membership.marks,
            enrolment_changed=self._enrolment_changed,
            elsewhere=self._elsewhere,
            secrets=self._context.secrets,
            open_request=self._context.open_request,
            hive_tools=self._hive_tools,
        )


def _run_context(config: NodeConfig, record: NodeRecord, stores: Stores) -> RunContext:
    for folder in (config.runs_dir, config.worktrees_dir):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return RunContext(
        database=stores.database,
        chunks=stores.chunks,
        notices=Notices(stores.database),
        node_id=record.node_id,
        node_name=name_of(config, record),
        slots=slots_of(config, record),
        worktrees_dir=config.worktrees_dir,
        runs_dir=config.runs_dir,
        environment=node_config.process_environment(),
        secrets=lambda: values_to_hide(config.secrets_file),
        git_identity=config.git_identity,
        profiles=config.profiles,
        secrets_by_name=lambda: read_secrets(config.secrets_file),
        grace_s=config.grace_s,
        spool_quota_bytes=config.spool_quota_bytes,
        agents_bin=config.data_dir / AGENTS_FOLDER / "node_modules" / ".bin",
        silence_s=config.agent_silence_minutes * 60,
        open_request=RequestPolicy(
            rules=RequestRules(allow=config.requests_allow, deny=config.requests_deny),
            deadline_ms=round(config.request_deadline_h * 3_600_000),
        ).open,
        data_dir=config.data_dir,
    )
