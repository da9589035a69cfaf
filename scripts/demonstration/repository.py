"""Plain git for the demo: clones for the nodes, and the facts that checks compare with.

Must not change anything in the repository it was given.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from scripts.demonstration.processes import DemoFolder, environment, run
from scripts.demonstration.screen import StepFailed


@dataclass(frozen=True)
class State:
    """Where a checkout stands: what a demo must leave as it was."""

    head: str
    branch: str
    status: str

    def base_words(self) -> list[str]:
        """How a command line says that work begins here, where that does not go without saying.

        A detached checkout may stand anywhere; an attempt would begin at the default branch.
        """
        return ["--base-branch", self.head] if self.branch == "HEAD" else []


def git(folder: DemoFolder, where: Path, *args: str) -> str:
    """Run plain git in a repository. Raises StepFailed."""
    # A checkout that belongs to another user is read all the same: the user named it.
    trusted = ["-c", f"safe.directory={where}", "-c", f"safe.directory={where / '.git'}"]
    return run(["git", *trusted, "-C", str(where), *args], environment(folder))


def top_of(folder: DemoFolder, wanted: Path) -> Path:
    """The repository that a path is in; a bare one is its own top. Raises StepFailed."""
    if not wanted.exists():
        raise StepFailed(f"there is no {wanted}", "Give the path of a git repository.")
    try:
        top = git(folder, wanted, "rev-parse", "--path-format=absolute", "--show-toplevel")
    except StepFailed:
        if (wanted / "HEAD").exists():
            return wanted
        raise StepFailed(
            f"{wanted} is not in a git repository", "Give the path of one, as the last argument."
        ) from None
    return Path(top.rstrip("\n"))


def clone(folder: DemoFolder, source: Path, target: Path) -> None:
    """Clone a repository as it stands: detached or shallow ones stay so. Raises StepFailed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    trusted = ["-c", f"safe.directory={source}", "-c", f"safe.directory={source / '.git'}"]
    run(
        ["git", *trusted, "clone", "--quiet", str(source), str(target)],
        # The clone is a copy: no hook, template or prompt of the user's has a part in it.
        environment(folder, {"GIT_TERMINAL_PROMPT": "0", "GIT_TEMPLATE_DIR": ""}),
    )
    if not _ok(target, "rev-parse", "--verify", "--quiet", "HEAD^{commit}"):
        raise StepFailed(
            f"{source} has no commits yet", "Commit something there, or name another repository."
        )


def state_of(folder: DemoFolder, where: Path) -> State:
    """Return where a checkout stands."""
    return State(
        head=git(folder, where, "rev-parse", "HEAD").strip(),
        branch=git(folder, where, "rev-parse", "--abbrev-ref", "HEAD").strip(),
        status=git(folder, where, "status", "--porcelain"),
    )


def traces_in(folder: DemoFolder, where: Path) -> str:
    """Return what Skep would leave in a repository it worked on: branches, refs, worktrees.

    Where its branches and worktrees stand is not looked at: people go on working while the demo
    runs.
    """
    refs = git(folder, where, "for-each-ref", "refs/heads/skep", "refs/skep")
    listed = git(folder, where, "worktree", "list", "--porcelain").split("\n")
    return refs + "\n".join(line for line in listed if line.startswith("worktree "))


def _ok(where: Path, *args: str) -> bool:
    done = subprocess.run(["git", "-C", str(where), *args], capture_output=True, check=False)
    return done.returncode == 0
