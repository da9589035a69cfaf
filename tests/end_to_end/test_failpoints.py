"""Kill -9 at every named point of both programs, once: what follows is as if nothing had been.

The names are collected from the source. A point that no story here reaches fails the sweep, and
so does a name that stands here and nowhere in the source.
"""

import contextlib
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.errors import SkepError
from tests.end_to_end.branch_stories import ChangeBranches
from tests.end_to_end.conversation_stories import TalkToAnAgent, WaitForALimit
from tests.end_to_end.crash_stories import (
    AddACheckout,
    AskForState,
    DamagedChunk,
    DamagedOp,
    Fork,
    OpenALazyLog,
    OpenAPullRequest,
    PruneOps,
    PurgeLogs,
    RestoreTheDisk,
    RestoreTheHive,
    RunAnAttempt,
    StopAnAttempt,
    StopAnAttemptLater,
    Story,
    Sweep,
)
from tests.end_to_end.hive_program import HiveProgram
from tests.end_to_end.life_stories import (
    CleanUpAnAttempt,
    FollowUpAnAttempt,
    InterruptATurn,
    RunAScript,
)
from tests.end_to_end.programs import CHECKOUT, Program
from tests.end_to_end.waiting import NotInTimeError, until

#: Which story reaches which point.
REACHED_BY: dict[type[Story], str] = {
    RunAnAttempt: """
        node.start.committed node.attempt.worktree_made node.attempt.prepared node.attempt.saved
        node.attempt.decided node.attempt.leftovers_committed node.attempt.ended
        node.execution.recorded node.execution.log_opened node.execution.started
        node.execution.process_recorded node.execution.log_closed node.execution.ended
        node.log.before_commit node.log.after_commit node.logs.committed node.journal.appended
        node.store.before_commit node.store.after_commit node.link.before_reply
        node.link.before_send_ops node.link.after_send_ops node.link.ops_acked
        node.link.before_send_chunk node.link.after_send_chunk node.link.before_log_ack_stored
        hive.commit.before_accept_link hive.link.accepted hive.link.before_welcome
        hive.commit.before_ops hive.ingest.ops_committed hive.ingest.before_publish
        hive.link.before_ack hive.link.after_ack hive.commit.before_chunks
        hive.ingest.chunks_committed hive.link.before_log_ack hive.link.after_log_ack
        hive.store.before_commit hive.store.after_commit hive.operation.recorded
        hive.operation.answered hive.operation.settled
    """,
    StopAnAttempt: """
        node.stop.recorded node.operation.after_intent node.operation.before_result
        node.operation.after_result
    """,
    StopAnAttemptLater: "hive.deferred.left hive.deferred.answered",
    FollowUpAnAttempt: """
        node.follow_up.committed node.turn.begun node.turn.worktree_made
    """,
    InterruptATurn: "node.interrupt.recorded",
    RunAScript: "node.script.recorded",
    CleanUpAnAttempt: "node.removal.planned node.removal.done",
    ChangeBranches: """
        node.operation.planned node.branch.brought node.branch.moved node.push.pushed
        node.rename.renamed node.stash.stored node.stash.put_back node.rebase.in_place
        node.abort.done
    """,
    OpenAPullRequest: "node.pull_request.asked node.pull_request.made",
    TalkToAnAgent: """
        node.conversation.opened node.conversation.before_step node.conversation.stepped
        node.conversation.asked node.conversation.said node.conversation.answered
        node.conversation.turn_begun node.conversation.closing node.conversation.input_closed
        node.conversation.ended
    """,
    WaitForALimit: "node.turn.unparked",
    AddACheckout: "node.checkout.saved node.api.before_reply",
    OpenALazyLog: """
        node.link.before_send_answer hive.needs.before_store hive.needs.stored
        hive.needs.before_done hive.ingest.need_committed
    """,
    AskForState: "hive.commit.before_records hive.ingest.records_committed",
    PurgeLogs: "node.logs.purge_planned node.logs.purged_some",
    PruneOps: "node.journal.pruned",
    RestoreTheHive: """
        node.link.before_send_snapshot hive.commit.before_snapshot hive.ingest.snapshot_committed
        hive.commit.before_skip hive.ingest.skip_committed
    """,
    RestoreTheDisk: "node.link.before_adopt node.logs.adopted",
    Fork: "node.journal.reforked",
    DamagedOp: "node.journal.withheld",
    DamagedChunk: "node.logs.gap_made",
}
POINTS = {point: story for story, points in REACHED_BY.items() for point in points.split()}
#: Points of commands that run beside the hive; see below.
OF_COMMANDS = {
    "hive.backup.verified",
    "hive.backup.written",
    "hive.restore.ready",
    "hive.restore.folded",
    "hive.restore.aside",
    "hive.restore.in_place",
}
DEATH_S_MAX = 30.0
_ACTS_MAX = 3


def test_every_point_is_swept() -> None:
    """The source's points are just those that the stories reach."""
    named = re.compile(r'failpoint\(\s*"([^"]+)"\s*\)')
    found = {
        name
        for package in ("hive", "node_agent")
        for file in (CHECKOUT / package).rglob("*.py")
        for name in named.findall(file.read_text())
    }
    assert found == set(POINTS) | OF_COMMANDS


class Shared:
    """One sweep for as long as all goes well; a point that failed leaves none to the next."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._sweep: Sweep | None = None

    @contextlib.contextmanager
    def borrowed(self) -> Iterator[Sweep]:
        """The sweep, made if there is none."""
        if self._sweep is None:
            self._sweep = Sweep(self._factory.mktemp("sweep"))
            self._sweep.prepare()
        try:
            yield self._sweep
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._sweep is not None:
            self._sweep.close()
            self._sweep = None


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """What all points share."""
    made = Shared(tmp_path_factory)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("point", sorted(POINTS))
def test_kill_at(point: str, shared: Shared) -> None:
    """The armed side dies at this point; after its next start everything arrives, once."""
    with shared.borrowed() as sweep:
        sweep.start_both()
        story = POINTS[point](sweep)
        story.prepare()
        armed: Program = sweep.hive if point.startswith("hive.") else sweep.node
        other: Program = sweep.node if armed is sweep.hive else sweep.hive
        if armed.running:
            armed.stop()
        sweep.hive.close_client()
        if not other.running:
            other.process = None
            other.start()
        before = dict(armed.environment)
        armed.environment.update(story.environment)
        armed.process = None
        armed.start(failpoint=point, wait=False)
        armed.environment = before
        _meet_death(sweep, armed, story)
        story.restart()
        story.check()


def _meet_death(sweep: Sweep, armed: Program, story: Story) -> None:
    """Act until the armed program has died of its failpoint."""
    # Some points are passed while a program starts: then there is nothing to act on.
    with contextlib.suppress(AssertionError):
        armed.wait_ready()
    wrong: list[str] = []
    if armed.running:
        sweep.node.hurry()
        wrong = _act(sweep, armed, story)
    assert armed.process is not None
    until(
        lambda: armed.process is not None and armed.process.poll() is not None,
        f"the armed program has died, after {wrong or 'an act that went well'}",
        within_s=DEATH_S_MAX,
    )
    assert armed.ended() == -signal.SIGKILL, armed.log[-2000:]


def _act(sweep: Sweep, armed: Program, story: Story) -> list[str]:
    """Act; again where that went wrong and nobody has died of it: the node was not linked yet.

    Return what went wrong.
    """
    wrong: list[str] = []
    for _ in range(_ACTS_MAX):
        try:
            # The hive may die of its point while it is asked how the node stands.
            _wait_linked(sweep, armed)
            story.act()
        except (SkepError, OSError, AssertionError) as error:
            wrong.append(repr(error))
        else:
            break
        with contextlib.suppress(NotInTimeError):
            until(lambda: not armed.running, "the armed program has died", within_s=3)
            break
    return wrong


def _wait_linked(sweep: Sweep, armed: Program) -> None:
    with contextlib.suppress(NotInTimeError):
        until(
            lambda: not armed.running or sweep.hive.node("node1")["status"] == "online",
            "the node is linked, or the armed program dead",
            within_s=10,
        )


def test_kill_a_backup_and_a_restore(tmp_path: Path) -> None:
    """A backup or restore that dies leaves what was before, or all of what is new."""
    hive = HiveProgram(tmp_path)
    hive.init()
    data, file = str(hive.data_dir), tmp_path / "copy.db"

    def killed(point: str, *args: str) -> None:
        hive.environment["SKEP_FAILPOINT"] = f"{point}:kill9"
        try:
            assert hive.call(*args).returncode == -signal.SIGKILL, point
        finally:
            del hive.environment["SKEP_FAILPOINT"]

    killed("hive.backup.verified", "backup", str(file), "--data", data)
    assert not file.exists()
    killed("hive.backup.written", "backup", str(file), "--data", data)
    hive.json("backup", str(file), "--data", data)
    target = str(tmp_path / "restored")
    # Only the first has no store to put aside.
    for step in ("ready", "folded", "aside", "in_place"):
        point = f"hive.restore.{step}"
        killed(point, "restore", str(file), "--data", target, "--force")
        hive.json("restore", str(file), "--data", target, "--force")
    hive.start()
    assert hive.json("status")["ready"]
    hive.stop()
