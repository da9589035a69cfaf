"""Cases of operations on branches and uncommitted work, seen in the repository and its remote."""

import subprocess
from typing import Any

from tests.end_to_end.installation import git
from tests.end_to_end.matrix.cases import case
from tests.end_to_end.matrix.cell import Cell

STASHES = "refs/skep/stash/"


@case("merge", "squash")
def merge_squash(cell: Cell) -> None:
    """The target gets one commit with all of the attempt's changes, and the checkout its files."""
    trees = cell.take()
    before, head = trees.main("rev-parse", "main"), trees.git("rev-parse", "HEAD")
    cell.ask(strategy="squash", message="squashed")
    assert trees.main("log", "--format=%P %s", "-1", "main") == f"{before} squashed"
    assert trees.main("diff", "--name-only", "main", head) == ""
    _checkout_stands_on_main(cell)


@case("merge", "of two parents")
def merge_commit(cell: Cell) -> None:
    """The target gets a commit with both as its parents."""
    trees = cell.take()
    before, head = trees.main("rev-parse", "main"), trees.git("rev-parse", "HEAD")
    cell.ask(strategy="merge", message="merged")
    assert trees.main("log", "--format=%P %s", "-1", "main") == f"{before} {head} merged"
    _checkout_stands_on_main(cell)


def _checkout_stands_on_main(cell: Cell) -> None:
    trees = cell.trees
    assert trees.main("symbolic-ref", "HEAD") == "refs/heads/main"
    # A submodule's own checkout is for its user to move along, as after a pull.
    assert trees.main("status", "--porcelain", "--ignore-submodules=all") == ""
    assert trees.main("diff", "--cached", "--name-only") == ""
    for name, text in cell.kind.work(trees).items():
        assert (trees.checkout / name).read_text() == text


@case("push")
def push(cell: Cell) -> None:
    """A branch that the remote has not is there afterwards."""
    trees = cell.take()
    _forget_at_remote(cell)
    cell.ask()
    assert git(trees.remote, "rev-parse", f"refs/heads/{trees.branch}").strip() == cell.head
    assert trees.main("rev-parse", f"refs/remotes/origin/{trees.branch}") == cell.head


@case("push", "by force")
def push_by_force(cell: Cell) -> None:
    """What stands at the remote is overwritten, if it is what was seen there."""
    trees = cell.take()
    ref = f"refs/heads/{trees.branch}"
    other = trees.commit_beside(trees.main("rev-parse", "main^{commit}"), "other.txt", "other\n")
    git(trees.checkout, "push", "-q", "--force", "origin", f"{other}:{ref}")
    cell.ask(force=True, expected_remote_head=other)
    assert git(trees.remote, "rev-parse", ref).strip() == cell.head


def _forget_at_remote(cell: Cell) -> None:
    branch = cell.trees.branch
    git(cell.trees.remote, "update-ref", "-d", f"refs/heads/{branch}")
    cell.trees.main("update-ref", "-d", f"refs/remotes/origin/{branch}")


@case("rebase")
def rebase(cell: Cell) -> None:
    """The attempt's commits stand on what came to the target since; all files are there."""
    trees = cell.take()
    subjects = trees.git("log", "--format=%s", "main..HEAD")
    name = f"since {trees.number}.txt"
    since = trees.commit_to_main("since", {name: "since\n"})
    cell.ask()
    assert trees.git("merge-base", "main", "HEAD") == since
    assert trees.git("log", "--format=%s", "main..HEAD") == subjects
    assert trees.git("symbolic-ref", "HEAD") == f"refs/heads/{trees.branch}"
    assert trees.git("status", "--porcelain") == ""
    for path, text in {**cell.kind.work(trees), name: "since\n"}.items():
        assert (trees.worktree / path).read_text() == text


@case("abort_conflicts")
def abort_conflicts(cell: Cell) -> None:
    """A merge or rebase that stopped at a conflict is given up; what was there before is there."""
    trees = cell.take()
    before = trees.git("status", "--porcelain", "-z")
    if not (trees.git_dir / "rebase-merge").exists():
        clash = trees.commit_beside(trees.git("rev-parse", "main"), "work.txt", "another\n")
        done = subprocess.run(
            ["git", "merge", "-q", clash], cwd=trees.worktree, capture_output=True, check=False
        )
        assert done.returncode == 1, done.stderr
    else:
        before = ""
    assert trees.git("diff", "--name-only", "--diff-filter=U") != ""
    cell.ask()
    assert not (trees.git_dir / "rebase-merge").exists()
    assert not (trees.git_dir / "MERGE_HEAD").exists()
    assert trees.git("status", "--porcelain", "-z") == before
    assert trees.git("rev-parse", "HEAD") == cell.head


@case("target_branch")
def target_branch(cell: Cell) -> None:
    """From now on the attempt is measured against the other branch, as git counts it."""
    trees = cell.take()
    tip = trees.main("rev-parse", "main")
    for number in range(3):
        tip = trees.commit_beside(tip, f"{number}.txt", f"{trees.number}\n")
    other = f"other/{trees.number}"
    trees.main("branch", "-q", other, tip)
    try:
        cell.ask(branch=other)
        shown = cell.relay("branch_status")
        counted = trees.git("rev-list", "--left-right", "--count", f"HEAD...{other}").split()
        assert [shown["ahead"], shown["behind"]] == [int(count) for count in counted]
        assert int(counted[1]) >= 3
    finally:
        cell.relay("target_branch", branch="main")


@case("rename_branch")
def rename_branch(cell: Cell) -> None:
    """The branch has another name, at the same commit, and the worktree stands on it."""
    trees = cell.take()
    head, before = cell.head, trees.branch
    stood = trees.git("rev-parse", "--symbolic-full-name", "HEAD")
    renamed = f"renamed/{trees.number}"
    cell.ask(branch=renamed)
    trees.branch = renamed
    assert cell.head == head
    listed = trees.main("for-each-ref", "--format=%(refname)", "refs/heads").splitlines()
    assert f"refs/heads/{before}" not in listed
    expected = f"refs/heads/{renamed}" if stood == f"refs/heads/{before}" else stood
    assert trees.git("rev-parse", "--symbolic-full-name", "HEAD") == expected


@case("stash")
def stash(cell: Cell) -> None:
    """Uncommitted and new files are gone from the worktree, and kept in a commit."""
    trees = cell.take()
    before = _edit(cell)
    cell.ask(message="put aside")
    assert trees.git("status", "--porcelain") == ""
    ref = trees.main("for-each-ref", "--format=%(refname)", f"{STASHES}{cell.attempt}")
    kept = trees.main("log", "-g", "--format=%gs", ref) or ref
    assert kept
    cell.relay("stash_pop")
    assert trees.git("status", "--porcelain", "-z") == before


@case("stash_pop")
def stash_pop(cell: Cell) -> None:
    """What was put aside is in the worktree again, file by file, and kept no longer."""
    trees = cell.take(stand=False)
    before = _edit(cell)
    cell.relay("stash")
    assert trees.git("status", "--porcelain") == ""
    cell.kind.stand(trees)
    if cell.kind.name == "dirty":
        before = " M README.md\0 M work.txt\0?? left é.txt\0?? not yet added.txt\0"
    cell.ask()
    assert trees.git("status", "--porcelain", "-z") == before
    assert (trees.worktree / "left é.txt").read_text() == f"left {trees.number}\n"
    assert trees.main("for-each-ref", f"{STASHES}{cell.attempt}") == ""


def _edit(cell: Cell) -> str:
    """Change a file, and make another; return what git says of it."""
    trees = cell.trees
    trees.write({"work.txt": "edited\n", "left é.txt": f"left {trees.number}\n"})
    return trees.git("status", "--porcelain", "-z")


@case("create_pr")
def create_pr(cell: Cell) -> None:
    """The branch is at the remote, and the forge has one pull request of it."""
    trees = cell.take()
    forge = cell.plot.forge
    before = len(forge.posts)
    _forget_at_remote(cell)
    cell.ask(title=f"Püll {trees.number}", target="main")
    assert git(trees.remote, "rev-parse", f"refs/heads/{trees.branch}").strip() == cell.head
    [post] = forge.posts[before:]
    assert (post.body["title"], post.body["head"]) == (f"Püll {trees.number}", trees.branch)
    _close(cell)


@case("attach_pr")
def attach_pr(cell: Cell) -> None:
    """The pull request somebody opened is the attempt's from then on."""
    pull = _opened(cell)
    cell.ask(number=pull["number"])
    assert cell.relay("pr")["title"] == pull["title"]
    _close(cell)


@case("pr")
def pr(cell: Cell) -> None:
    """A pull request is shown as its forge has it."""
    pull = _opened(cell)
    cell.relay("attach_pr", url=pull["html_url"])
    shown = cell.ask()
    assert [shown[name] for name in ("number", "title", "branch", "head")] == [
        pull["number"],
        pull["title"],
        cell.trees.branch,
        git(cell.trees.remote, "rev-parse", f"refs/heads/{cell.trees.branch}").strip(),
    ]
    _close(cell)


def _opened(cell: Cell) -> dict[str, Any]:
    """Have somebody push the attempt's branch, and open a pull request of it."""
    trees = cell.take()
    pushed = f"{cell.head}:refs/heads/{trees.branch}"
    git(trees.checkout, "push", "-q", "--force", "origin", pushed)
    return cell.plot.forge.open(trees.branch, title=f"Püll {trees.number}")


def _close(cell: Cell) -> None:
    """Close the newest pull request, and have the node know: its branch is free again."""
    pull = cell.plot.forge.pulls[-1]
    pull["state"] = "closed"
    cell.relay("attach_pr", number=pull["number"])
