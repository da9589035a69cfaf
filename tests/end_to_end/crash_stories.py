"""Short stories for the failpoint sweep: each passes a set of points, and checks that all is well.

A story prepares, acts while one side is armed (and dies somewhere), and checks once both run
again. Every step may find that an earlier one was cut short by the death: so what a story does is
always done again in `check`, under the same idempotency key.
"""

import contextlib
import shutil
import sqlite3
import uuid
from pathlib import Path
from typing import Any, ClassVar

from node_agent.log_replay import CUTS_FILE
from protocol.errors import ErrorCode, SkepError
from protocol.log_chunks import GapChunk, LogChunk, open_chunk
from tests.end_to_end.installation import Installation, make_repository
from tests.end_to_end.node_program import NodeProgram
from tests.end_to_end.printing import STDERR, STDOUT, PrintingAttempt
from tests.end_to_end.stored_needs import is_open, store_need
from tests.end_to_end.waiting import until
from tests.node_agent.forge.fake_forge import FakeForge, connect, make_bare, serving

_UNACKNOWLEDGED = """
SELECT 1 FROM epoch WHERE mark_seen < last
    AND epoch <> (SELECT epoch FROM epoch ORDER BY birth DESC LIMIT 1)
"""
_OLDER_OPS = """
SELECT 1 FROM op WHERE epoch <> (SELECT epoch FROM epoch ORDER BY birth DESC LIMIT 1)
"""
POLICIES = ("full", "lazy", "metadata")


class Sweep(Installation):
    """One hive and one node that go through all stories, with a project for each policy."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.told = 0

    @property
    def node(self) -> NodeProgram:
        return self.nodes[0]

    def prepare(self) -> None:
        """Found it all."""
        self.found()
        node = self.new_node()
        node.json("join", self.hive.url, self.join_token(), "--name", "node1", "--slots", "8")
        for policy in POLICIES:
            node.json("checkout", "add", str(make_repository(self.folder / policy)))
        node.start()
        for policy in POLICIES:
            self.wait_project(policy, "node1")
        for policy in POLICIES[1:]:
            self.set_policy(node, policy, policy)

    def new_folder(self) -> Path:
        """A folder for what one story prints."""
        self.told += 1
        return self.folder / f"printed{self.told}"

    def start_both(self) -> None:
        """See to it that both run and are linked."""
        for program in (self.hive, self.node):
            if not program.running:
                program.process = None
                program.start()
        self.hive.close_client()
        self.node.hurry()
        self.hive.wait_node("node1")


class Attempt:
    """An attempt of the sweep: asked for under one key however often, and printing its copy."""

    def __init__(
        self, sweep: Sweep, project: str = "full", lines_max: int = 300, burst: int = 64
    ) -> None:
        self.sweep = sweep
        self.printing = PrintingAttempt(sweep.new_folder(), exit_code=0)
        self._project = project
        self._command = self.printing.command(lines_max, burst)
        self._key = uuid.uuid4().hex
        self._task = sweep.task(project)

    def begin(self) -> str:
        """Ask for it, again if need be."""
        body = {"node_id": "node1", "command": self._command}
        asked: str = self.sweep.hive.client.post(
            f"tasks/{self._task}/attempts", body, key=self._key
        )["id"]
        self.printing.id = asked
        return asked

    def begin_surely(self) -> None:
        """Ask for it until it is there: what was cut short may be `in_progress` for a moment."""

        def asked() -> bool:
            try:
                return bool(self.begin())
            except SkepError as error:
                if not error.meaning.retryable:
                    raise
                return False

        until(asked, "the attempt is there")

    def check(self) -> None:
        """It ran once, to its end, and the hive has all of it."""
        self.begin_surely()
        self.printing.check_whole(self.sweep.hive)


class Story:
    """What the stories share: nothing to prepare, nothing in the environment."""

    #: In the environment of the armed node.
    environment: ClassVar[dict[str, str]] = {}

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep

    def prepare(self) -> None:
        """With both running and nothing armed."""

    def act(self) -> None:
        """With one side armed; whatever it raises is the death it was to meet."""

    def restart(self) -> None:
        """Start what died."""
        self.sweep.start_both()

    def check(self) -> None:
        """With both running again."""


class RunAnAttempt(Story):
    """From the wish to the end: start, worktree, process, log, link, end."""

    def prepare(self) -> None:
        self.attempt = Attempt(self.sweep)

    def act(self) -> None:
        self.attempt.begin()

    def check(self) -> None:
        self.attempt.check()


class StopAnAttempt(Story):
    """A changing operation with an intent and a result."""

    def prepare(self) -> None:
        self.attempt = Attempt(self.sweep, lines_max=10**9)
        self.key = uuid.uuid4().hex
        self.attempt.begin()
        self.attempt.printing.wait_started()

    def act(self) -> None:
        self._stop()

    def check(self) -> None:
        hive = self.sweep.hive

        def stopped() -> bool:
            try:
                return bool(self._stop())
            except SkepError as error:
                if not error.meaning.retryable:
                    raise
                return False

        until(stopped, "the stop is carried out")
        shown = hive.wait_ended(self.attempt.printing.id)
        assert shown["outcome"] == "stopped", shown
        assert len(self.attempt.printing.pids) == 1

    def _stop(self) -> Any:
        body = {"grace_s": 1}
        path = f"attempts/{self.attempt.printing.id}/stop"
        return self.sweep.hive.client.post(path, body, key=self.key)


class StopAnAttemptLater(Story):
    """A stop that was asked while the node was away; it leaves when both are back."""

    def prepare(self) -> None:
        self.attempt = Attempt(self.sweep, lines_max=10**9)
        self.key = uuid.uuid4().hex
        self.attempt.begin()
        self.attempt.printing.wait_started()
        self.sweep.node.stop()
        self.sweep.hive.wait_node("node1", "offline")
        path = f"attempts/{self.attempt.printing.id}/stop"
        kept = self.sweep.hive.client.request(
            "POST", path, query={"when": "online"}, body={"grace_s": 1}, key=self.key
        )
        assert kept["status"] == "waiting", kept

    def check(self) -> None:
        hive = self.sweep.hive
        until(
            lambda: hive.client.get(f"operations/{self.key}"),
            "the stop is carried out",
            holds=lambda row: row["status"] == "done",
        )
        shown = hive.wait_ended(self.attempt.printing.id)
        assert shown["outcome"] == "stopped", shown
        assert len(self.attempt.printing.pids) == 1


class OpenAPullRequest(Story):
    """Something at a server that is not ours: it may be there though nobody here knows it yet."""

    def prepare(self) -> None:
        sweep = self.sweep
        folder = sweep.new_folder()
        self.closing = contextlib.ExitStack()
        self.forge = self.closing.enter_context(serving(FakeForge(make_bare(folder / "bare.git"))))
        repository = make_repository(folder / f"pulled-{uuid.uuid4().hex[:8]}")
        connect(self.forge, repository)
        sweep.node.call("secrets", "set", "github_token", stdin=self.forge.token)
        sweep.node.environment.update(self.forge.settings)
        named = {"path": str(repository), "name": repository.name}
        sweep.node.client.send("POST", "checkouts", named)
        project = sweep.wait_project(repository.name, "node1")["id"]
        work = "sh -c 'echo done > work.txt; git add work.txt; git commit -qm work'"
        self.attempt = sweep.run(project, work, sweep.node)
        sweep.hive.wait_ended(self.attempt)
        self.key = uuid.uuid4().hex

    def act(self) -> None:
        self._ask()

    def check(self) -> None:
        with self.closing:
            made = until(self._surely, "there is a pull request")
            assert [pull["html_url"] for pull in self.forge.pulls] == [made["url"]]
            until(
                lambda: self.sweep.hive.attempt(self.attempt)["pr"],
                "the attempt has it",
                holds=lambda pr: pr == {"url": made["url"], "number": 1, "state": "open"},
            )

    def _surely(self) -> Any:
        try:
            return self._ask()
        except SkepError as error:
            if error.code == ErrorCode.CANCELLED or "host" in error.details:
                # The node says that it is not there, or cannot know: a person asks anew.
                self.key = uuid.uuid4().hex
            elif not error.meaning.retryable:
                raise
            return None

    def _ask(self) -> Any:
        path = f"attempts/{self.attempt}/pr"
        return self.sweep.hive.client.post(path, {"title": "Pull it"}, key=self.key)


class AddACheckout(Story):
    """The node's own API, and a row of its own."""

    def prepare(self) -> None:
        self.path = make_repository(self.sweep.folder / f"repository-{uuid.uuid4().hex[:8]}")

    def act(self) -> None:
        self._add()

    def check(self) -> None:
        self._add()
        listed = self.sweep.node.client.get("checkouts")["items"]
        assert [one["path"] for one in listed].count(str(self.path)) == 1
        self.sweep.wait_project(self.path.name, "node1")

    def _add(self) -> None:
        self.sweep.node.client.send("POST", "checkouts", {"path": str(self.path)})


class OpenALazyLog(Story):
    """Somebody looks: a need, its answer, and what became of it."""

    def prepare(self) -> None:
        self.attempt = Attempt(self.sweep, "lazy")
        self.attempt.begin()
        until(
            lambda: self.sweep.hive.attempt(self.attempt.printing.id),
            "the lazy attempt has ended",
            holds=lambda one: one["phase"] == "ended" and one["executions"][0]["log"]["closed"],
        )

    def act(self) -> None:
        self._open()

    def check(self) -> None:
        self._open()
        self.attempt.check()

    def _open(self) -> None:
        self.sweep.hive.client.post(f"attempts/{self.attempt.printing.id}/backfill")


class AskForState(Story):
    """A need for the state of an attempt, left in the store while the hive was down."""

    def prepare(self) -> None:
        self.attempt = Attempt(self.sweep)
        self.attempt.begin()
        self.sweep.hive.wait_ended(self.attempt.printing.id)
        node_id = self.sweep.node.status()["node_id"]
        self.sweep.hive.stop()
        ids = [self.attempt.printing.id]
        self.request = store_need(self.sweep.hive, node_id, "executions", ids)

    def check(self) -> None:
        until(lambda: not is_open(self.sweep.hive, self.request), "the need is answered")
        self.attempt.check()


class PurgeLogs(Story):
    """A log that may be deleted is, at the node's start."""

    environment: ClassVar[dict[str, str]] = {"SKEP_NODE_LOGS_KEPT_BYTES": "0"}

    def prepare(self) -> None:
        # More chunks than are deleted in one commit.
        attempt = Attempt(self.sweep, "metadata", lines_max=700_000, burst=60_000)
        attempt.begin()
        until(
            lambda: self.sweep.hive.attempt(attempt.printing.id),
            "the attempt has ended",
            holds=lambda one: one["phase"] == "ended" and one["executions"][0]["log"]["closed"],
        )
        self.execution = self.sweep.hive.attempt(attempt.printing.id)["executions"][0]["id"]

    def check(self) -> None:
        node = self.sweep.node
        [(planned,)] = node.rows(
            "logs", "SELECT purged_at_ms FROM log WHERE execution_id = ?", self.execution
        )
        assert planned
        # What was begun is finished at the next start, whatever the settings are by then.
        until(
            lambda: node.rows("logs", "SELECT 1 FROM chunk WHERE execution_id = ?", self.execution),
            "the purge is finished",
            holds=lambda rows: not rows,
        )


class PruneOps(Story):
    """Old acknowledged ops are deleted, at the node's start."""

    environment: ClassVar[dict[str, str]] = {"SKEP_NODE_LOGS_KEPT_DAYS": "0.0000001"}

    def prepare(self) -> None:
        self.before = Attempt(self.sweep)
        self.before.begin()
        self.sweep.hive.wait_ended(self.before.printing.id)

    def check(self) -> None:
        attempt = Attempt(self.sweep)
        attempt.check()
        self.before.check()


class RestoreTheHive(Story):
    """A hive from an older copy, of a node that no longer has the ops: snapshot, then skip."""

    def prepare(self) -> None:
        sweep = self.sweep
        sweep.hive.stop()
        old = sweep.folder / "older-hive.db"
        shutil.copy(sweep.hive.data_dir / "hive.db", old)
        sweep.start_both()
        self.attempt = Attempt(sweep)
        self.attempt.begin()
        self.ended = sweep.hive.wait_ended(self.attempt.printing.id)
        # A start later its epoch is finished; once it is acknowledged, the next start prunes it.
        sweep.node.stop()
        sweep.node.start()
        until(
            lambda: sweep.node.rows("state", _UNACKNOWLEDGED),
            "the node knows that all is acknowledged",
            holds=lambda rows: not rows,
        )
        sweep.node.stop()
        sweep.node.environment.update(PruneOps.environment)
        sweep.node.start()
        until(
            lambda: sweep.node.rows("state", _OLDER_OPS),
            "the node has pruned its older epochs",
            holds=lambda rows: not rows,
        )
        for name in PruneOps.environment:
            del sweep.node.environment[name]
        sweep.node.stop()
        sweep.hive.stop()
        for leftover in sweep.hive.data_dir.glob("hive.db*"):
            leftover.unlink()
        shutil.copy(old, sweep.hive.data_dir / "hive.db")

    def check(self) -> None:
        shown = until(
            lambda: self.sweep.hive.attempt_or_none(self.attempt.printing.id),
            "the attempt is told again",
        )
        assert shown is not None
        assert shown["outcome"] == self.ended["outcome"]
        after = Attempt(self.sweep)
        after.check()


class RestoreTheDisk(Story):
    """A node of an older copy goes on behind what the hive has of a log.

    The notes of what it cut are of the copy too: with them it would cut the same again.
    """

    def prepare(self) -> None:
        sweep = self.sweep
        self.attempt = Attempt(sweep, lines_max=10**9)
        self.attempt.begin()
        printing = self.attempt.printing
        printing.wait_started()
        held = printing.wait_rising(sweep.hive, 200)
        sweep.node.stop()
        copied = {path: path.read_bytes() for path in self._restored()}
        sweep.node.start()
        sweep.node.hurry()
        printing.wait_rising(sweep.hive, held + 500)
        sweep.node.kill()
        for path in self._restored():
            path.unlink()
        for path, content in copied.items():
            path.write_bytes(content)

    def _restored(self) -> list[Path]:
        folder = self.sweep.node.data_dir
        return [*folder.glob("*.db*"), *folder.glob(f"runs/*/{CUTS_FILE}")]

    def check(self) -> None:
        hive, printing = self.sweep.hive, self.attempt.printing
        printing.wait_rising(hive, hive.entries(printing.id))
        printing.end()
        shown = hive.wait_ended(printing.id)
        assert shown["outcome"] == "succeeded"
        execution = shown["executions"][0]["id"]
        # Behind the gap stands what the older copy did not know that it had sent.
        check_but_for_gaps(hive.chunks(execution), printing, again=True)


class Fork(Story):
    """The hive's history of an epoch is another: quarantine, release, a new epoch."""

    def act(self) -> None:
        sweep = self.sweep
        # An epoch with nothing in it has nothing that could differ.
        attempt = Attempt(sweep)
        attempt.begin()
        sweep.hive.wait_ended(attempt.printing.id)
        sweep.node.wait_sent()
        sweep.hive.stop()
        with contextlib.closing(sqlite3.connect(sweep.hive.data_dir / "hive.db")) as connection:
            where = "WHERE node_id = ? AND epoch = (SELECT epoch FROM epoch WHERE rank = "
            where += "(SELECT max(rank) FROM epoch))"
            node_id = sweep.node.status()["node_id"]
            for update in (
                "UPDATE epoch SET digest = randomblob(16) ",
                "UPDATE op SET digest = randomblob(16) ",
            ):
                connection.execute(update + where, [node_id])
            connection.commit()
        sweep.hive.start()
        self._release()

    def _release(self) -> None:
        hive, node = self.sweep.hive, self.sweep.node
        node.hurry()
        shown = hive.wait_node("node1", "quarantined")
        instance = shown["instances"][0] if shown["instances"] else "0"
        hive.json("nodes", "release", "node1", "--instance", str(instance))
        node.hurry()

    def restart(self) -> None:
        """The new epoch was never written: the node is released once more."""
        self.sweep.node.process = None
        self.sweep.node.start()
        self._release()
        self.sweep.start_both()

    def check(self) -> None:
        attempt = Attempt(self.sweep)
        attempt.check()


class DamagedOp(Story):
    """An op whose bytes changed on the disk is withheld under its number."""

    def prepare(self) -> None:
        sweep = self.sweep
        sweep.hive.stop()
        self.printing = PrintingAttempt(sweep.new_folder(), exit_code=0)
        self.printing.begin_locally(sweep.node, "full", lines_max=100)
        until(
            lambda: sweep.node.attempt(self.printing.id)["phase"],
            "the attempt has ended",
            holds=lambda phase: phase == "ended",
        )
        sweep.node.stop()
        with contextlib.closing(sqlite3.connect(sweep.node.data_dir / "state.db")) as connection:
            changed = connection.execute(
                "UPDATE op SET body = zeroblob(length(body)) WHERE rowid = (SELECT rowid FROM op"
                " WHERE kind = 'attempt' AND entity_id = ? ORDER BY seq LIMIT 1)",
                [self.printing.id],
            )
            assert changed.rowcount == 1
            connection.commit()

    def check(self) -> None:
        self.printing.check_whole(self.sweep.hive)
        rows = self.sweep.hive.rows("SELECT 1 FROM op WHERE kind = 'withheld'")
        assert rows, "the hive has something under the number"


class DamagedChunk(Story):
    """A chunk whose bytes changed on the disk becomes a gap, and the rest of its log arrives."""

    def prepare(self) -> None:
        sweep = self.sweep
        sweep.hive.stop()
        self.printing = PrintingAttempt(sweep.new_folder(), exit_code=0)
        self.printing.begin_locally(sweep.node, "full", lines_max=20_000)
        until(
            lambda: sweep.node.attempt(self.printing.id)["phase"],
            "the attempt has ended",
            holds=lambda phase: phase == "ended",
        )
        sweep.node.stop()
        execution = sweep.node.rows(
            "state", "SELECT id FROM execution WHERE attempt_id = ?", self.printing.id
        )[0][0]
        with contextlib.closing(sqlite3.connect(sweep.node.data_dir / "logs.db")) as connection:
            changed = connection.execute(
                "UPDATE chunk SET blob = zeroblob(length(blob))"
                " WHERE execution_id = ? AND chunk_seq = 2",
                [execution],
            )
            assert changed.rowcount == 1
            connection.commit()

    def check(self) -> None:
        hive = self.sweep.hive
        shown = hive.wait_ended(self.printing.id)
        chunks = hive.chunks(shown["executions"][0]["id"])
        gaps = [chunk for chunk in chunks if isinstance(chunk, GapChunk)]
        assert [gap.reason for gap in gaps] == ["corrupt"]
        check_but_for_gaps(chunks, self.printing)


def check_but_for_gaps(
    chunks: list[LogChunk | GapChunk], printing: PrintingAttempt, *, again: bool = False
) -> None:
    """Between the gaps, what is held is what was printed, in order; some of it `again`."""
    for stream, printed in ((STDOUT, printing.printed), (STDERR, printing.complained)):
        pieces = [b""]
        for chunk in chunks:
            if isinstance(chunk, GapChunk):
                pieces.append(b"")
                continue
            for segment in open_chunk(chunk):
                if segment.stream == stream:
                    pieces[-1] += bytes(segment.data)
        at = 0
        for piece in pieces:
            found = printed.find(piece, at)
            assert found >= 0, f"{piece[:80]!r} was not printed after byte {at}"
            at = 0 if again else found + len(piece)
        assert pieces[-1] == b"" or printed.endswith(pieces[-1])
        if len(pieces) == 1:
            assert pieces[0] == printed
