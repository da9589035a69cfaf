"""Cases of operations that read what an attempt did, held against plain git and the files."""

from itertools import pairwise

from tests.end_to_end.matrix.cases import case
from tests.end_to_end.matrix.cell import PRINTED, Cell
from tests.end_to_end.waiting import until


@case("branch_status")
def branch_status(cell: Cell) -> None:
    """Head, counts, conflicts and what stands half done, as git has them."""
    trees = cell.take()
    shown = cell.ask()
    assert shown["branch"] == trees.branch
    assert shown["head"] == trees.git("rev-parse", "HEAD")
    counted = trees.git("rev-list", "--left-right", "--count", "HEAD...main").split()
    assert [shown["ahead"], shown["behind"]] == [int(count) for count in counted]
    records = trees.git("status", "--porcelain=v1", "-z", "--untracked-files=all").split("\0")
    untracked = [record for record in records if record.startswith("??")]
    assert shown["untracked"] == len(untracked)
    assert (shown["dirty"] > 0) == (len([one for one in records if one]) > len(untracked))
    unmerged = trees.git("diff", "--name-only", "--diff-filter=U", "-z").split("\0")
    assert sorted(shown["conflicts"]) == sorted({name for name in unmerged if name})
    assert shown["rebase_in_progress"] == (trees.git_dir / "rebase-merge").exists()


@case("diff")
def diff(cell: Cell) -> None:
    """All files that differ from where the attempt parted from its target, and what changed."""
    trees = cell.take()
    shown = cell.ask()
    files = {file["path"]: file for file in shown["files"]}
    assert set(files) == changed_paths(cell)
    numbers = trees.git("diff", "--numstat", "-z", "--no-renames", base_of(cell))
    for record in filter(None, numbers.split("\0")):
        added, deleted, name = record.split("\t", 2)
        if not files[name]["binary"] and name not in _unmerged(cell):
            assert [files[name]["additions"], files[name]["deletions"]] == [
                int(added),
                int(deleted),
            ]
    for name, text in cell.kind.work(trees).items():
        path = trees.worktree / name
        if name in files and path.read_text() == text:
            assert f"+{text}" in files[name]["patch"]


@case("diff", "of one file")
def diff_of_one(cell: Cell) -> None:
    """A file is named exactly, whatever its name means to git or a shell."""
    trees = cell.take()
    names = sorted(set(cell.kind.work(trees)) & changed_paths(cell))
    for name in sorted({*names[:2], *names[-2:]}):
        shown = cell.ask(path=name)
        assert [file["path"] for file in shown["files"]] == [name]


@case("follow_diff")
def follow_diff(cell: Cell) -> None:
    """First all that differs; then a file that is written comes, and goes again."""
    trees = cell.take()
    with cell.follow() as updates:
        first = next(updates)
        assert first["whole"]
        files = {file["path"]: file["patch"] for file in first["changed"]}
        assert set(files) == changed_paths(cell)
        name = "live é 'now'.txt"
        trees.write({name: f"live {trees.number}\n"})
        for update in updates:
            files |= {file["path"]: file["patch"] for file in update["changed"]}
            if f"+live {trees.number}\n" in (files.get(name) or ""):
                break
        (trees.worktree / name).unlink()
        assert any(name in update["removed"] for update in updates)


def base_of(cell: Cell) -> str:
    """Where the attempt parted from its target."""
    return cell.trees.git("merge-base", "main", "HEAD")


def changed_paths(cell: Cell) -> set[str]:
    """The files that differ from there, by plain git."""
    said = cell.trees.git("diff", "--name-only", "-z", "--no-renames", base_of(cell))
    return {name for name in said.split("\0") if name} | set(cell.untracked())


def _unmerged(cell: Cell) -> set[str]:
    said = cell.trees.git("diff", "--name-only", "--diff-filter=U", "-z")
    return set(said.split("\0"))


@case("commits")
def commits(cell: Cell) -> None:
    """The commits that the target has not, newest first."""
    trees = cell.take()
    shown = cell.ask()
    # Of its branch: in a rebase HEAD stands on commits of others.
    wanted = trees.main("log", "--format=%H%x09%s", f"main..{trees.branch}").splitlines()
    assert [f"{one['id']}\t{one['subject']}" for one in shown["commits"]] == wanted


@case("compare")
def compare(cell: Cell) -> None:
    """What one branch has that another has not: commits and files."""
    trees = cell.take()
    shown = cell.ask(**{"from": "main", "to": trees.branch})
    between = f"main...{trees.branch}"
    names = trees.git("diff", "--name-only", "--no-renames", "-z", between).split("\0")
    assert sorted(file["path"] for file in shown["files"]) == sorted(filter(None, names))
    ids = trees.git("log", "--format=%H", f"main..{trees.branch}").splitlines()
    assert [one["id"] for one in shown["commits"]] == ids


@case("list_files")
def list_files(cell: Cell) -> None:
    """Page by page what git tracks and what lies beside it, each name as it is."""
    trees = cell.take()
    tracked = set(filter(None, trees.git("ls-files", "-z").split("\0")))
    there = {name for name in tracked if (trees.worktree / name).exists()}
    wanted = {name.split("/")[0] for name in there | set(cell.untracked())}
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = cell.ask(limit=100, **after)
        found += [entry["name"] for entry in page["entries"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert set(found) - {"sub"} == wanted - {"sub"}
    assert all(one != other for one, other in pairwise(found))
    folders = sorted({name.rpartition("/")[0] for name in there if "/" in name})
    for folder in folders[:1]:
        inside = cell.ask(path=folder, limit=200)
        names = [name for name in there if name.startswith(f"{folder}/")]
        assert {f"{folder}/{entry['name']}" for entry in inside["entries"]} == set(names)


@case("read_file")
def read_file(cell: Cell) -> None:
    """The bytes of a file, whatever its name."""
    trees = cell.take()
    trees.write({"not committed.txt": "ünï\n"})
    for name in [*cell.kind.work(trees), "not committed.txt"]:
        path = trees.worktree / name
        if path.exists():
            assert cell.ask(path=name) == path.read_bytes()


@case("log")
def log(cell: Cell) -> None:
    """What the program printed, to the letter."""
    cell.take()
    executions = until(
        lambda: cell.ground.owner.attempt(cell.attempt)["executions"], "it ran something"
    )
    entries = cell.ask(execution_id=executions[0]["id"])
    assert [(one["n"], one["stream"], one["text"]) for one in entries] == [(1, "stdout", PRINTED)]
