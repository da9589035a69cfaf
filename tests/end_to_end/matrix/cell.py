"""One field of the matrix: an attempt in a repository of one kind, and one way to ask.

Owns the attempts that fields share, and what a refusal must have left as it was. What came of an
asking is looked at by plain git; what Skep itself says of it is no evidence.
"""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import ErrorCode, SkepError
from protocol.operations import OPERATIONS
from tests.end_to_end.installation import git
from tests.end_to_end.matrix.repositories import Kind, Trees
from tests.end_to_end.matrix.ways import WAYS, Asked, Ground, Way
from tests.end_to_end.waiting import until
from tests.node_agent.forge.fake_forge import FakeForge

#: The first line of each attempt's own log.
PRINTED = "printed for the matrix"
RELAY = WAYS[0]
#: For a worktree of tens of thousands of files to be made where others use the disk too.
LARGE_S_MAX = 200.0


class RefusedAsMeant(Exception):  # noqa: N818  it ends a field as it should end
    """The operation was refused here as it has to be, and changed nothing."""


@dataclass
class Plot:
    """One kind of repository in the installation, with the attempt that its fields share."""

    ground: Ground
    kind: Kind
    project: str
    checkout: Path
    forge: FakeForge
    shared: str = ""
    number: int = 0

    def begin(self) -> str:
        """Run an attempt to its end; return its id."""
        command = f"sh -c {shlex.quote(f'echo {PRINTED}')}"
        installation = self.ground.installation
        attempt = installation.run(self.project, command, self.ground.owner)
        ended = installation.hive.wait_ended(attempt, within_s=LARGE_S_MAX)
        assert ended["outcome"] == "succeeded", ended
        return attempt


@dataclass
class Cell:
    """An attempt, the way, and what is expected of the operation here."""

    plot: Plot
    way: Way
    operation: str
    #: The codes with which the operation is refused on this kind of repository.
    refused: frozenset[ErrorCode] = frozenset()
    #: A refusal that leaves the worktree where a person goes on.
    left_open: bool = False
    attempt: str = ""
    task: str = ""
    trees: Trees = field(init=False)

    @property
    def ground(self) -> Ground:
        return self.plot.ground

    @property
    def kind(self) -> Kind:
        return self.plot.kind

    def take(self, *, fresh: bool = False, stand: bool = True) -> Trees:
        """Take the attempt that fields share, or a fresh one, with new work, in this kind's state.

        A fresh one is for what leaves an attempt unlike it was; without `stand` the case has to
        bring about the state itself.
        """
        if not fresh and not self.plot.shared:
            self.plot.shared = self.plot.begin()
        self.attempt = self.plot.begin() if fresh else self.plot.shared
        shown = self.ground.owner.attempt(self.attempt)
        self.task = shown["task_id"]
        self.plot.number += 1
        self.trees = Trees(
            checkout=self.plot.checkout,
            remote=self.plot.forge.bare,
            worktree=Path(shown["worktree"]),
            branch=shown["branch"],
            number=self.plot.number,
        )
        self.trees.restore()
        self.kind.before_work(self.trees)
        subject = f"wörk \"{self.plot.number}\" is 'done'"
        self.trees.commit(subject, self.kind.work(self.trees))
        if stand:
            self.kind.stand(self.trees)
        return self.trees

    @property
    def head(self) -> str:
        """The commit of the attempt's branch, by plain git."""
        return self.trees.main("rev-parse", f"refs/heads/{self.trees.branch}")

    # --- asking -------------------------------------------------------------------------------

    def asked(self, operation: str, request: dict[str, Any]) -> Asked:
        """The operation's asking about this attempt."""
        return Asked(OPERATIONS[operation], request, self.attempt, self.task, self.plot.project)

    def ask(self, **request: Any) -> Any:
        """Ask by this field's way; where it is to be refused, see that nothing changed."""
        asked = self.asked(self.operation, request)
        if not self.refused:
            return self.way.ask(self.ground, asked)
        before = self.seen()
        with pytest.raises(SkepError) as caught:
            self.way.ask(self.ground, asked)
        assert caught.value.code in self.refused, caught.value.message
        if self.left_open:
            assert (self.trees.git_dir / "rebase-merge").is_dir()
            assert self.seen()["refs"] == before["refs"]
            assert self.seen()["checkout"] == before["checkout"]
        else:
            assert self.seen() == before
        raise RefusedAsMeant

    def relay(self, operation: str, **request: Any) -> Any:
        """Ask another operation, for what comes before or after, always by the relay."""
        return RELAY.ask(self.ground, self.asked(operation, request))

    @contextmanager
    def follow(self, **request: Any) -> Iterator[Iterator[Any]]:
        """Give the updates of this field's operation."""
        with self.way.follow(self.ground, self.asked(self.operation, request)) as updates:
            yield updates

    def seen(self) -> dict[str, str]:
        """All that plain git sees of refs, branches and files, here and at the remote."""
        trees = self.trees
        status = ("status", "--porcelain=v1", "-z", "--untracked-files=all")
        return {
            "refs": trees.main("for-each-ref"),
            "remote": git(trees.remote, "for-each-ref"),
            "worktrees": trees.main("worktree", "list", "--porcelain"),
            "checkout": trees.main(*status),
            "worktree": trees.git(*status),
        }

    # --- turns --------------------------------------------------------------------------------

    def turn(self, script: str) -> dict[str, Any]:
        """Give the attempt a turn by the relay."""
        answer: dict[str, Any] = self.relay("follow_up", command=shell(script))
        return answer

    def running_turn(self) -> None:
        """Have a turn run until it is let go of, or told to end, which it notes in `told.txt`."""
        self.turn(
            "trap 'echo told > told.txt; exit 0' INT TERM; echo begun > begun.txt;"
            " until [ -e go.txt ]; do sleep 0.05; done"
        )
        self.wait_file("begun.txt", "begun\n")

    def let_go(self) -> None:
        """Let the turn that runs go on to its end."""
        self.trees.write({"go.txt": ""})

    def wait_file(self, name: str, text: str) -> None:
        """Wait until a program has written a file, which git sees as a new one."""
        file = self.trees.worktree / name
        until(
            lambda: file.read_text() if file.exists() else None,
            f"{name} has {text!r}",
            holds=lambda found: found == text,
        )
        assert name in self.untracked()

    def untracked(self) -> list[str]:
        """The files of the worktree that git does not know."""
        said = self.trees.git("ls-files", "--others", "--exclude-standard", "-z")
        return [name for name in said.split("\0") if name]

    def wait_idle(self) -> None:
        """Wait until no turn and no script of the attempt runs."""
        until(
            lambda: self.ground.owner.attempt(self.attempt),
            "the attempt is idle",
            holds=lambda one: (
                one["phase"] == "ended"
                and all(each["status"] != "running" for each in one["executions"])
            ),
            within_s=LARGE_S_MAX,
        )


def shell(script: str) -> str:
    """A command line that runs a script in a shell."""
    return f"sh -c {shlex.quote(script)}"
