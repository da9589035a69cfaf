"""This node's membership of a hive: dials the hive that is joined, and does what its word asks.

Owns the uplink and its change when the operator joins or leaves while the agent runs. With no
hive joined it waits, and nothing else of the node notices.
"""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from node_agent.changes import Changes
from node_agent.config import NodeConfig
from node_agent.identity import Enrolment, HiveWord, NodeIdentity, NodeRecord, read_record
from node_agent.join import tls_context
from node_agent.link_calls import Dispatcher
from node_agent.link_session import Sources
from node_agent.local_node import JOURNAL
from node_agent.need_answers import AnswerStore
from node_agent.store import attempts, checkouts, hive_change, settings
from node_agent.store.contract import ChunkStore, JournalGrew, JournalStore, LogGrew
from node_agent.store.database import Database
from node_agent.uplink import Dial, Holder, Uplink
from node_agent.uplink_view import LinkView
from protocol.errors import SkepError
from protocol.messages import Heartbeat, Links, LiveText, OutboxState, Safe, WorktreeOver
from protocol.states import AttemptPhase

log = logging.getLogger(__name__)

#: After this pause what several ops changed is told to the hive in one heartbeat.
_ACTIVITY_PAUSE_S: Final = 0.05


class Membership:
    """Keeps the link to whichever hive `node.json` names."""

    def __init__(
        self,
        config: NodeConfig,
        identity: NodeIdentity,
        *,
        database: Database,
        logs: Database,
        journal: JournalStore,
        chunks: ChunkStore,
        answers: AnswerStore,
        dispatcher: Dispatcher,
        changes: Changes,
        version: str,
        slots: Callable[[], int],
        safe_moved: Callable[[Safe], Awaitable[None]],
        worktrees_over: Callable[[Sequence[WorktreeOver]], None],
    ) -> None:
        self._config = config
        self._identity = identity
        self._holder = Holder(identity.instance)
        self._database = database
        self._logs = logs
        self._journal = journal
        self._chunks = chunks
        self._sources = Sources(
            journal=journal, chunks=chunks, answers=answers, dispatcher=dispatcher, agent=self
        )
        self._changes = changes
        self._version = version
        self._slots = slots
        self._safe_moved = safe_moved
        self._worktrees_over = worktrees_over
        self._record = read_record(config.data_dir)
        self._changed = asyncio.Event()
        self._uplink: Uplink | None = None
        self._unstreamed: frozenset[str] = frozenset()
        self._marks: dict[int, int] = {}
        self._generation_kept = 0
        self._problem: SkepError | OSError | None = None

    # --- what people see ----------------------------------------------------------------------

    @property
    def record(self) -> NodeRecord:
        """What `node.json` says, as it was read last."""
        return self._record or NodeRecord(node_id=self._identity.node_id)

    @property
    def enrolment(self) -> Enrolment | None:
        """The hive that is joined."""
        return self.record.hive

    def view(self) -> LinkView | None:
        """Return how the link stands; None where no hive is joined."""
        enrolment = self.enrolment
        if enrolment is None:
            return None
        if self._uplink is None:
            problem = "" if self._problem is None else str(self._problem)
            return LinkView(url=enrolment.url, hive_id=enrolment.hive_id, problem=problem)
        state = self._uplink.state
        return LinkView(
            url=enrolment.url,
            hive_id=enrolment.hive_id,
            instance=str(self._holder.instance),
            connected=state.connected,
            since_ms=state.since_ms,
            problem="" if state.connected else state.problem,
            hint="" if state.connected else state.hint,
            next_dial_ms=None if state.connected else state.next_dial_ms,
        )

    def linked_since_ms(self) -> int | None:
        """Return since when the joined hive is linked; 0 with none joined, None while it is not."""
        view = self.view()
        if view is None:
            return 0
        return view.since_ms if view.connected else None

    def hive(self) -> HiveWord | None:
        """Return what the joined hive's tokens are judged by; None where there is none."""
        uplink = self._uplink
        return None if uplink is None else HiveWord(hive=uplink.hive, now_s=uplink.hive_now_s())

    def hive_now_s(self) -> float:
        """Return the hive's clock as far as it is known, else this machine's."""
        word = self.hive()
        return time.time() if word is None else word.now_s

    def page_origins(self) -> set[str]:
        """Return the pages that may call this node's own listener."""
        joined = [] if self.enrolment is None else [self.enrolment.url]
        return {*self._config.direct_origins, *joined}

    async def marks(self) -> dict[int, int]:
        """Return how far the hive is with each epoch, as of its last word."""
        return {**await self._journal.marks_seen(), **self._marks}

    def say_live(self, session_id: str, message_id: str, at: int, text: str, role: str) -> None:
        """Show those who look at the hive what an agent is just writing; kept nowhere."""
        if self._uplink is not None:
            self._uplink.say_live(
                LiveText(session_id=session_id, message_id=message_id, role=role, at=at, text=text)
            )

    def hurry(self) -> None:
        """Dial now where the link is down: the operator says that the hive will answer."""
        if self._uplink is not None:
            self._uplink.hurry()

    def enrolment_changed(self, record: NodeRecord) -> None:
        """Take what `node.json` says now: the operator has joined or left."""
        self._record = record
        self._changed.set()

    # --- life ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Link to the joined hive, whichever it is at the time; ends by cancellation alone."""
        await self._read_policies()
        forget = [self._journal.listen(self._journal_grew), self._chunks.listen(self._log_grew)]
        telling = asyncio.create_task(self._run_activity(), name="activity")
        try:
            while True:
                self._changed.clear()
                enrolment = self.enrolment
                if enrolment is None:
                    log.info("no hive is joined; the node works alone")
                    await self._changed.wait()
                else:
                    await self._link_until_changed(enrolment)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            for undo in forget:
                undo()

    async def _link_until_changed(self, enrolment: Enrolment) -> None:
        try:
            await self._forget_other_hive(enrolment)
            uplink = await self._made(enrolment)
        except (SkepError, OSError) as error:
            self._problem = error
            log.warning("the hive at %s cannot be dialled: %s", enrolment.url, error)
            await self._changed.wait()
            return
        self._uplink, self._problem = uplink, None
        tasks = [
            asyncio.create_task(uplink.run(), name="uplink"),
            asyncio.create_task(self._changed.wait(), name="enrolment changed"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._uplink = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _forget_other_hive(self, enrolment: Enrolment) -> None:
        """Where marks and acknowledgements are another hive's, begin with none."""
        known = await self._database.read(hive_change.hive_of_marks)
        if known == enrolment.hive_id:
            return
        self._marks.clear()
        if known is not None:
            log.info("another hive than before is joined; it is told everything")
            # Nothing is in its backups yet, so nothing may be deleted on the word of the other.
            await self._safe_moved(Safe(epochs=[], logs=[], backups=True))
            # Also writes down what is still to be written of the other's acknowledgements.
            await self._chunks.outbox()
            await self._logs.write(hive_change.forget_acknowledgements)
        # Last: a crash before this one begins again.
        await self._database.write(hive_change.take_marks_of, enrolment.hive_id)
        await self._read_policies()

    async def _made(self, enrolment: Enrolment) -> Uplink:
        kept = await self._database.read(settings.get, _generation_name(enrolment))
        self._generation_kept = int(kept or 0)
        return Uplink(
            identity=self._identity,
            dial=Dial(
                url=enrolment.url,
                hive_id=enrolment.hive_id,
                keys=enrolment.keys,
                tls=functools.partial(tls_context, enrolment, self._config.data_dir),
            ),
            version=self._version,
            generation_seen=self._generation_kept,
            sources=self._sources,
            holder=self._holder,
        )

    # --- told by the stores -------------------------------------------------------------------

    def _journal_grew(self, grew: JournalGrew) -> None:
        if self._uplink is not None:
            self._uplink.journal_grew(grew.epoch, grew.seq)

    def _log_grew(self, grew: LogGrew) -> None:
        if self._uplink is not None and grew.checkout_id not in self._unstreamed:
            self._uplink.log_grew(
                grew.execution_id, next_chunk=grew.next_chunk, open_=not grew.closed
            )

    async def _run_activity(self) -> None:
        """Have the hive know at once when a slot is taken or free."""
        told = None
        with self._changes.watch(JOURNAL) as changed:
            while True:
                await changed.wait()
                changed.clear()
                now = await self._activity()
                if now != told and self._uplink is not None:
                    self._uplink.status_changed()
                told = now
                await asyncio.sleep(_ACTIVITY_PAUSE_S)

    async def _activity(self) -> tuple[str, int]:
        running = await self._database.read(attempts.unended)
        if not running:
            return "idle", 0
        waiting = all(one.phase is AttemptPhase.AWAITING_INPUT for one in running)
        return "waiting" if waiting else "busy", len(running)

    # --- asked and told by the link -----------------------------------------------------------

    async def heartbeat(self, n: int) -> Heartbeat:
        """Return what the node is doing and what it still has to send."""
        await self._keep_generation()
        activity, busy = await self._activity()
        await self._keep_marks()
        ops = await self._journal.pending(await self._journal.marks_seen())
        chunks = await self._chunks.outbox(self._unstreamed)
        oldest = [at_ms for at_ms in (ops.oldest_ms, chunks.oldest_ms) if at_ms]
        return Heartbeat(
            n=n,
            activity=activity,
            slots_total=self._slots(),
            slots_busy=busy,
            outbox=OutboxState(
                ops=ops.ops,
                chunks=chunks.chunks,
                bytes=ops.bytes + chunks.bytes,
                oldest_ms=min(oldest, default=None),
            ),
        )

    async def linked(self, links: Links) -> None:
        """Keep which projects the hive made of the checkouts; have worktrees go that are over."""
        self._worktrees_over(links.over)
        told = {
            link.checkout_id: link.problem for link in await self._database.read(checkouts.links)
        }
        await self._database.write(checkouts.save_links, links.links)
        if await self._read_policies() and self._uplink is not None:
            # Which logs stream is said in the hello.
            await self._uplink.redial()
        for link in links.links:
            # The hive says it all again with each checkout; a person reads it once.
            if link.problem and link.problem != told.get(link.checkout_id):
                log.warning(
                    "the hive has no project for checkout %s: %s; "
                    "`node-agent checkout add PATH --project NAME` asks for another name",
                    link.checkout_id,
                    link.problem,
                )

    async def safe_moved(self, safe: Safe) -> None:
        """Let what is in every backup of the hive be deleted here."""
        await self._safe_moved(safe)

    def marks_moved(self, marks: Mapping[int, int]) -> None:
        """Take note how far the hive is; written down at the next heartbeat, not at each ack."""
        self._marks.update(marks)

    async def _keep_marks(self) -> None:
        """Keep how far the hive is, for people to see while it is away."""
        if self._marks:
            marks, self._marks = self._marks, {}
            await self._journal.saw_marks(marks)

    def unstreamed(self) -> frozenset[str]:
        """Return the checkouts whose logs the hive fetches itself, or never keeps."""
        return self._unstreamed

    async def _read_policies(self) -> bool:
        """Read how much of each checkout's logs the hive wants; True where that changed."""
        before = self._unstreamed
        self._unstreamed = await self._database.read(checkouts.unstreamed)
        return self._unstreamed != before

    async def _keep_generation(self) -> None:
        """Keep the highest generation seen: a hive restored from a backup learns it from us."""
        if self._uplink is None or self.enrolment is None:
            return
        seen = self._uplink.state.generation
        if seen > self._generation_kept:
            name = _generation_name(self.enrolment)
            with contextlib.suppress(SkepError):
                await self._database.write(settings.put, name, b"%d" % seen)
                self._generation_kept = seen


def _generation_name(enrolment: Enrolment) -> str:
    return f"generation of {enrolment.hive_id}"
