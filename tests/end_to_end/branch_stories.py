"""The story of the failpoint sweep that changes git: stash, rename, push, merge, rebase, abort.

Each is asked again under its key after the death; plain git says whether it happened, and once.
"""

import shlex
import uuid
from pathlib import Path
from typing import Any

from protocol.errors import SkepError
from tests.end_to_end.crash_stories import Story
from tests.end_to_end.installation import git, make_repository
from tests.end_to_end.waiting import until

_WORK = "echo work > work.txt; git add work.txt; git commit -q -m work; echo left > left.txt"
_CLASH = "echo theirs > README.md; git commit -q -a -m clash"


class ChangeBranches(Story):
    """Two attempts: one that merges cleanly, and one that meets a conflict."""

    def prepare(self) -> None:
        sweep = self.sweep
        name = f"branches-{uuid.uuid4().hex[:8]}"
        self.repository = make_repository(sweep.folder / name)
        self.remote = sweep.folder / f"{name}.git"
        git(sweep.folder, "clone", "-q", "--bare", str(self.repository), str(self.remote))
        git(self.remote, "config", "core.logAllRefUpdates", "always")
        git(self.repository, "remote", "add", "origin", f"file://{self.remote}")
        sweep.node.json("checkout", "add", str(self.repository))
        sweep.wait_project(name, "node1")
        self.clean, self.clash = (
            sweep.run(name, f"sh -c {shlex.quote(script)}", sweep.node, "Swept")
            for script in (_WORK, _CLASH)
        )
        self.branches = {
            one: sweep.hive.wait_ended(one)["branch"] for one in (self.clean, self.clash)
        }
        (self.repository / "README.md").write_text("ours\n")
        git(self.repository, "commit", "-q", "-a", "-m", "ours")
        self.name = f"swept-{uuid.uuid4().hex[:8]}"
        self.keys: dict[str, str] = {}

    def act(self) -> None:
        self._ask(self.clean, "stash")
        self._ask(self.clean, "stash/pop")
        self._ask(self.clean, "rename-branch", {"branch": self.name})
        self._ask(self.clean, "push")
        self._ask(self.clean, "merge")
        self._ask(self.clash, "rebase", refused="conflicts")
        self._ask(self.clash, "conflicts/abort")

    def check(self) -> None:
        def all_done() -> bool:
            try:
                self.act()
            except SkepError as error:
                if not error.meaning.retryable:
                    raise
                return False
            return True

        until(all_done, "all of it is carried out", within_s=60.0)
        repository = self.repository
        subjects = git(repository, "log", "--format=%s", "main").splitlines()
        assert subjects == ["Swept", "ours", "first"]
        assert (repository / "work.txt").read_text() == "work\n"
        assert git(repository, "status", "--porcelain") == ""
        assert git(repository, "for-each-ref", "refs/skep/stash") == ""
        branches = git(repository, "branch", "--format=%(refname:short)").splitlines()
        assert sorted(branches) == sorted(["main", self.name, self.branches[self.clash]])
        log = self.remote / "logs" / "refs" / "heads" / self.name
        assert len(log.read_text().splitlines()) == 1
        assert self._worktree(self.clean, "status", "--porcelain") == "?? left.txt\n"
        head = git(repository, "rev-parse", self.branches[self.clash])
        assert self._worktree(self.clash, "rev-parse", "HEAD") == head
        assert self._worktree(self.clash, "status", "--porcelain") == ""

    def _ask(
        self, attempt: str, path: str, body: dict[str, Any] | None = None, *, refused: str = ""
    ) -> None:
        key = self.keys.setdefault(path, uuid.uuid4().hex)
        try:
            self.sweep.hive.client.post(f"attempts/{attempt}/{path}", body or {}, key=key)
        except SkepError as error:
            if not refused or error.code.value != refused:
                raise

    def _worktree(self, attempt: str, *args: str) -> str:
        folder = Path(self.sweep.node.attempt(attempt)["worktree"])
        return git(folder, *args)
