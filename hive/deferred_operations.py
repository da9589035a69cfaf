"""Has kept operations leave when their nodes connect, once each, and ends those whose time is over.

Owns when each is sent, and again until its outcome is known. Must not decide whether it may still
leave: that is looked at in the transaction in which it does (`hive.store.deliveries`).
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from hive.access import Principal
from hive.failpoints import failpoint
from hive.operation_proxy import NOTHING_DONE, Intent, OperationProxy, Target
from hive.store import deliveries
from hive.store.backend import Clock, Database
from hive.store.deliveries import Delivery
from protocol.errors import ErrorCode, OperationError, SkepError

log = logging.getLogger(__name__)

#: The wall clock may be set while we wait for a time by it, and the machine may sleep.
_LOOK_AGAIN_S: Final = 60.0
#: A connected node that took nothing, or did not answer, is asked again after this, then later.
_AGAIN_S: Final = 15.0
_AGAIN_S_MAX: Final = 600.0


class DeferredOperations:
    """Delivers what waits. `run` is its task; one more runs for each node that is being told."""

    def __init__(
        self,
        database: Database,
        proxy: OperationProxy,
        is_online: Callable[[str], bool],
        clock: Clock,
    ) -> None:
        self._database = database
        self._proxy = proxy
        self._is_online = is_online
        self._clock = clock
        self._woken = asyncio.Event()
        #: Node -> when to look at it (again), by the loop's clock.
        self._due: dict[str, float] = {}
        self._tries: dict[str, int] = {}
        self._telling: dict[str, asyncio.Task[None]] = {}

    def connected(self, node_id: str) -> None:
        """A node's link is live: what waits for it may leave."""
        self._tries.pop(node_id, None)
        self.look(node_id)

    def look(self, node_id: str | None = None) -> None:
        """Something was kept, confirmed or taken back: look at that node, and at the times."""
        if node_id is not None and self._is_online(node_id):
            self._due[node_id] = time.monotonic()
        self._woken.set()

    async def run(self) -> None:
        """Expire and deliver, for ever."""
        try:
            while True:
                wait_s = await self._look()
                try:
                    async with asyncio.timeout(wait_s):
                        await self._woken.wait()
                except TimeoutError:
                    continue
        finally:
            await self._end_telling()

    async def _end_telling(self) -> None:
        tasks = list(self._telling.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> float:
        """Do what is due; return how long to wait for the next."""
        self._woken.clear()
        try:
            while await self._database.write(deliveries.expire, self._clock()):
                continue
            next_ms = await self._database.read(deliveries.next_time_ms)
        except SkepError as error:
            # A full disk: it is looked at again, and leaving looks at the time by itself.
            log.warning("kept operations could not be looked at: %s", error)
            next_ms = None
        now_s = time.monotonic()
        for node_id, due_s in list(self._due.items()):
            if due_s <= now_s and node_id not in self._telling:
                del self._due[node_id]
                self._tell(node_id)
        waits_s = [due_s - now_s for node_id, due_s in self._due.items() if due_s > now_s]
        if next_ms is not None:
            waits_s.append((next_ms - self._clock()) / 1000 + 0.001)
        return max(0.0, min([_LOOK_AGAIN_S, *waits_s]))

    # --- to one node --------------------------------------------------------------------------

    def _tell(self, node_id: str) -> None:
        task = asyncio.create_task(self._deliver_all(node_id), name=f"deferred {node_id}")
        self._telling[node_id] = task
        task.add_done_callback(lambda done: self._told(node_id, done))

    def _told(self, node_id: str, task: asyncio.Task[Any]) -> None:
        del self._telling[node_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("kept operations of node %s", node_id, exc_info=error)
            self._later(node_id)
        self._woken.set()

    def _later(self, node_id: str) -> None:
        if not self._is_online(node_id):
            # Its next connection is the next time.
            self._tries.pop(node_id, None)
            return
        tries = self._tries[node_id] = self._tries.get(node_id, 0) + 1
        wait_s = min(_AGAIN_S_MAX, _AGAIN_S * 2.0 ** min(tries - 1, 10))
        self._due.setdefault(node_id, time.monotonic() + wait_s)

    async def _deliver_all(self, node_id: str) -> None:
        """Send what waits for a node, one after the other in the order it was asked."""
        after, all_settled = (-1, ""), True
        while self._is_online(node_id):
            found = await self._database.read(deliveries.next_of_node, node_id, after)
            if found is None:
                break
            after = found
            delivery = await self._database.write(deliveries.leave, found[1], self._clock())
            if delivery is not None:
                all_settled &= await self._deliver(delivery)
        if all_settled:
            self._tries.pop(node_id, None)
        else:
            self._later(node_id)

    async def _deliver(self, delivery: Delivery) -> bool:
        """Send one; whether its outcome is known now."""
        failpoint("hive.deferred.left")
        key = delivery.row.key
        try:
            reply = await self._proxy.deliver(*_call_of(delivery))
        except SkepError as error:
            return await self._not_done(delivery, error)
        failpoint("hive.deferred.answered")
        await self._database.write(deliveries.answered, key, reply, self._clock())
        return True

    async def _not_done(self, delivery: Delivery, error: SkepError) -> bool:
        key, now_ms = delivery.row.key, self._clock()
        at_work = error.code is ErrorCode.IN_PROGRESS and error.details.get("key") == key
        if error.code is ErrorCode.UNKNOWN_OUTCOME or at_work:
            # Sent again under its key until the node says, here or by its own op.
            return False
        if error.code in NOTHING_DONE:
            if not delivery.again:
                await self._database.write(deliveries.put_back, key, error.body(), now_ms)
            return False
        await self._database.write(deliveries.refused, key, error.body(), now_ms)
        return True


def _call_of(delivery: Delivery) -> tuple[Intent, Target, bytes]:
    row, deferred = delivery.row, delivery.deferred
    if row.node_id is None or row.attempt_id is None:
        raise OperationError(ErrorCode.INTERNAL, "a kept operation is of a node's attempt")
    intent = Intent(
        operation=row.operation,
        principal=Principal(token_id=deferred.token_id, name=row.actor, role=delivery.role),
        key=row.key,
        said=b"",
        expected_head=deferred.expected_head,
        expected_execution=deferred.expected_execution,
        deadline_s=deferred.deadline_s,
    )
    target = Target(
        node_id=row.node_id,
        attempt_id=row.attempt_id,
        task_id=row.task_id,
        project_id=row.project_id,
    )
    return intent, target, deferred.body
