"""The kinds of repositories that operations meet, made and brought into their state by plain git.

Each says what an attempt's work in it is, and in what state worktree and checkout stand when the
operation is asked. Must not ask Skep anything.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.end_to_end.installation import git, make_repository

#: Names of files that a quoting mistake anywhere on the way would change.
ODD_NAMES: Final = (
    'it\'s "quoted" ünïcødé → 日本.txt',
    "new\nline.txt",
    "--force",
    "per%20cent&plus+query?#.txt",
    ":(top)magic*[a] back\\slash\t.txt",
    "-folder é/-x 'y'.txt",
)
LARGE_FOLDERS: Final = 200
LARGE_FILES: Final = 20_000


@dataclass
class Trees:
    """Where one attempt's work can be seen: the user's checkout, its remote, the worktree."""

    checkout: Path
    remote: Path
    worktree: Path
    branch: str
    #: Tells one asking from the next: in names and contents.
    number: int = 0

    def git(self, *args: str) -> str:
        """Plain git in the worktree, without the final line's end."""
        return git(self.worktree, *args).removesuffix("\n")

    def main(self, *args: str) -> str:
        """Plain git in the user's checkout."""
        return git(self.checkout, *args).removesuffix("\n")

    @property
    def git_dir(self) -> Path:
        return Path(self.git("rev-parse", "--absolute-git-dir"))

    def write(self, files: dict[str, str]) -> None:
        """Write files into the worktree."""
        for name, text in files.items():
            path = self.worktree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def commit(self, message: str, files: dict[str, str]) -> str:
        """Commit in the worktree, as an agent does."""
        self.write(files)
        self.git("--literal-pathspecs", "add", "--", *files)
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def commit_to_main(self, message: str, files: dict[str, str]) -> str:
        """Commit in the user's checkout, without what else was changed there."""
        for name, text in files.items():
            (self.checkout / name).write_text(text)
        self.main("add", "--", *files)
        self.main("commit", "-q", "-m", message, "--", *files)
        return self.main("rev-parse", "HEAD")

    def commit_beside(self, parent: str, name: str, text: str) -> str:
        """Make a commit with one file upon `parent`, which no branch and no worktree stands on."""
        index = self.worktree.with_suffix(".index")
        environment = {**os.environ, "GIT_INDEX_FILE": str(index)}

        def run(*args: str, stdin: str = "") -> str:
            return subprocess.run(
                ["git", *args],
                cwd=self.checkout,
                env=environment,
                input=stdin,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()

        run("read-tree", parent)
        blob = run("hash-object", "-w", "--stdin", stdin=text)
        run("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}")
        tree = run("write-tree")
        index.unlink()
        return run("commit-tree", tree, "-p", parent, "-m", "beside")

    def restore(self) -> None:
        """Have all stand clean again: the checkout on main, the attempt's branch upon it."""
        if self.main("status", "--porcelain"):
            self.main("reset", "-q", "--hard")
            self.main("clean", "-q", "-f", "-d")
        if (self.checkout / ".gitmodules").exists():
            # As git leaves it, the submodule's own checkout does not follow a merge.
            self.main("-c", "protocol.file.allow=always", "submodule", "--quiet", "update")
        shutil.rmtree(self.git_dir / "rebase-merge", ignore_errors=True)
        if self.git("rev-parse", "--symbolic-full-name", "HEAD") == f"refs/heads/{self.branch}":
            self.git("reset", "-q", "--hard", "main")
        else:
            self.git("checkout", "-q", "-f", "-B", self.branch, "main")
        self.git("clean", "-q", "-f", "-d", "-x")


class Kind:
    """A plain repository, clean everywhere; the others differ from it."""

    name = "clean"
    #: The name of the checkout's folder, and so of its project.
    folder = ""

    def make(self, path: Path) -> None:
        """Make the user's checkout."""
        make_repository(path)

    def work(self, trees: Trees) -> dict[str, str]:
        """What the attempt commits, by file."""
        return {"work.txt": f"work {trees.number}\n"}

    def after_added(self, path: Path) -> None:
        """Change the checkout once the node knows it."""

    def before_work(self, trees: Trees) -> None:
        """Change what the work does not stand in files of its own."""

    def stand(self, trees: Trees) -> None:
        """Bring worktree and checkout into the state this kind is about, once the work is done."""


class Dirty(Kind):
    """A worktree with work that is not committed."""

    name = "dirty"

    def stand(self, trees: Trees) -> None:
        trees.write({"README.md": "being edited\n", "not yet added.txt": "new\n"})


class Conflicting(Kind):
    """The target changed the same line."""

    name = "conflicting"

    def work(self, trees: Trees) -> dict[str, str]:
        return {**super().work(trees), "README.md": f"theirs {trees.number}\n"}

    def stand(self, trees: Trees) -> None:
        trees.commit_to_main("ours", {"README.md": f"ours {trees.number}\n"})


class Rebasing(Conflicting):
    """A rebase that stopped at a conflict stands in the worktree."""

    name = "rebase in progress"

    def stand(self, trees: Trees) -> None:
        super().stand(trees)
        done = subprocess.run(
            ["git", "rebase", "-q", "main"], cwd=trees.worktree, capture_output=True, check=False
        )
        assert done.returncode == 1, done.stderr


class Detached(Kind):
    """The agent left its branch for a detached HEAD."""

    name = "detached"

    def stand(self, trees: Trees) -> None:
        trees.git("checkout", "-q", "--detach")


class DirtyTarget(Kind):
    """The user's checkout stands on the target, with edits."""

    name = "target dirty"

    def stand(self, trees: Trees) -> None:
        (trees.checkout / "README.md").write_text("the user is editing\n")


class WithSubmodule(Kind):
    """A submodule, which the attempt's work moves to another commit."""

    name = "submodule"

    def make(self, path: Path) -> None:
        super().make(path)
        inner = make_repository(path.with_name("inner"))
        for number in range(2):
            (inner / "inner.txt").write_text(f"{number}\n")
            git(inner, "add", "-A")
            git(inner, "commit", "-q", "-m", f"inner {number}")
        allowed = ("-c", "protocol.file.allow=always")
        git(path, *allowed, "submodule", "--quiet", "add", "--", str(inner), "sub")
        git(path, "commit", "-q", "-m", "with a submodule")

    def before_work(self, trees: Trees) -> None:
        inner = trees.checkout.with_name("inner")
        commits = git(inner, "rev-list", "HEAD").split()
        standing = trees.git("rev-parse", "HEAD:sub")
        other = next(commit for commit in commits if commit != standing)
        trees.git("update-index", "--cacheinfo", f"160000,{other},sub")
        trees.git("commit", "-q", "-m", "move the submodule")


class Empty(Kind):
    """One commit without any file."""

    name = "empty"

    def make(self, path: Path) -> None:
        super().make(path)
        git(path, "rm", "-q", "README.md")
        git(path, "commit", "-q", "--amend", "--allow-empty", "-m", "nothing")


class Unborn(Kind):
    """A checkout that has no commit any more: no attempt can begin here."""

    name = "unborn"

    def after_added(self, path: Path) -> None:
        git(path, "update-ref", "-d", "refs/heads/main")
        git(path, "update-ref", "-d", "refs/remotes/origin/main")


class Large(Kind):
    """Tens of thousands of files."""

    name = "large"

    def make(self, path: Path) -> None:
        super().make(path)
        each = LARGE_FILES // LARGE_FOLDERS
        lines = ["commit refs/heads/main", "committer T <t@example.org> 1700000000 +0000"]
        lines += ["data 5", "large", "from refs/heads/main^0"]
        for number in range(LARGE_FILES):
            text = f"file {number}"
            name = f"folder-{number // each:03}/file-{number:05}.txt"
            lines += [f"M 100644 inline {name}", f"data {len(text)}", text]
        done = subprocess.run(
            ["git", "fast-import", "--quiet"],
            cwd=path,
            input="\n".join([*lines, ""]).encode(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        git(path, "reset", "-q", "--hard")

    def work(self, trees: Trees) -> dict[str, str]:
        edited = {f"folder-{number:03}/file-{number * 100:05}.txt" for number in range(0, 200, 40)}
        return {**super().work(trees), **dict.fromkeys(edited, f"edited {trees.number}\n")}


class OddNames(Kind):
    """Files and folders whose names have to be quoted, the checkout's own among them."""

    name = "odd names"
    folder = "-it's a \"ünï\" 'place'"

    def work(self, trees: Trees) -> dict[str, str]:
        return {
            **super().work(trees),
            **{name: f"odd {trees.number}.{place}\n" for place, name in enumerate(ODD_NAMES)},
        }


ODD: Final = OddNames()
KINDS: Final[tuple[Kind, ...]] = (
    Kind(),
    Dirty(),
    Conflicting(),
    Rebasing(),
    Detached(),
    DirtyTarget(),
    WithSubmodule(),
    Empty(),
    Large(),
    ODD,
)
#: Where a start is refused, and nothing else can be asked.
UNBORN: Final = Unborn()
