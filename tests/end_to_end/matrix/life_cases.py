"""Cases of operations that begin, end, carry on and keep attempts, seen in worktrees and files."""

import pytest

from protocol.errors import ErrorCode, SkepError
from tests.end_to_end.installation import git
from tests.end_to_end.matrix.cases import case
from tests.end_to_end.matrix.cell import LARGE_S_MAX, Cell, RefusedAsMeant, shell
from tests.end_to_end.waiting import until


@case("start")
def start(cell: Cell) -> None:
    """A worktree on a branch of its own is there, at the target's commit, and the program ran."""
    plot, ground = cell.plot, cell.ground
    if not cell.refused:
        # The state of the user's checkout is this kind's.
        cell.take()
    cell.task = ground.installation.task(plot.project)
    asked = {
        "node_id": ground.owner.node_name,
        "command": shell("echo started > started.txt"),
    }
    if cell.refused:
        _refused(cell, asked)
    cell.attempt = cell.way.ask(ground, cell.asked("start", asked))["id"]
    until(
        lambda: ground.owner.attempt(cell.attempt)["executions"],
        "the program has begun",
        within_s=LARGE_S_MAX,
    )
    cell.wait_idle()
    shown = ground.owner.attempt(cell.attempt)
    worktree = shown["worktree"]
    listed = git(plot.checkout, "worktree", "list", "--porcelain").split("\n\n")
    [own] = [record for record in listed if record.startswith(f"worktree {worktree}\n")]
    assert f"branch refs/heads/{shown['branch']}" in own.splitlines()
    assert git(worktree, "ls-files", "--others") == "started.txt\n"
    assert git(worktree, "rev-parse", "HEAD") == git(plot.checkout, "rev-parse", "main")


def _refused(cell: Cell, asked: dict[str, str]) -> None:
    """See that a start is refused, and leaves neither branch nor worktree."""
    plot = cell.plot
    looks = [("for-each-ref",), ("worktree", "list"), ("status", "--porcelain")]
    before = [git(plot.checkout, *look) for look in looks]
    with pytest.raises(SkepError) as caught:
        cell.way.ask(cell.ground, cell.asked("start", asked))
    assert caught.value.code in cell.refused, caught.value.message
    assert [git(plot.checkout, *look) for look in looks] == before
    raise RefusedAsMeant


@case("stop")
def stop(cell: Cell) -> None:
    """The program is told, notes it and ends; the worktree stays."""
    cell.take()
    cell.running_turn()
    cell.ask(grace_s=20.0)
    cell.wait_file("told.txt", "told\n")
    cell.wait_idle()
    assert str(cell.trees.worktree) in cell.trees.main("worktree", "list")


@case("interrupt")
def interrupt(cell: Cell) -> None:
    """The program of the turn is told; the next turn runs."""
    cell.take()
    cell.running_turn()
    cell.turn("echo next > next.txt")
    cell.ask()
    cell.wait_file("told.txt", "told\n")
    cell.wait_file("next.txt", "next\n")
    cell.wait_idle()


@case("go_on")
def go_on(cell: Cell) -> None:
    """A turn that waits for nothing is told so, and runs on."""
    cell.take()
    cell.running_turn()
    with pytest.raises(SkepError) as caught:
        cell.ask()
    assert caught.value.code is ErrorCode.NO_TURN
    cell.let_go()
    cell.wait_idle()


@case("follow_up")
def follow_up(cell: Cell) -> None:
    """Another turn runs in the same worktree, once."""
    cell.take()
    cell.ask(command=shell("cat work.txt >> again.txt"))
    cell.wait_file("again.txt", (cell.trees.worktree / "work.txt").read_text())
    cell.wait_idle()
    assert len((cell.trees.worktree / "again.txt").read_text().splitlines()) == 1


def _queued(cell: Cell) -> list[str]:
    """Have a turn run and two wait behind it; return the ids of those."""
    cell.take()
    cell.running_turn()
    return [cell.turn(f"echo {word} >> order.txt")["id"] for word in ("one", "two")]


@case("turns")
def turns(cell: Cell) -> None:
    """The turn that runs and those behind it are told, in the order in which they then run."""
    ids = _queued(cell)
    told = cell.ask()
    assert [one["id"] for one in told["items"]] == ids
    assert "go.txt" in told["running"]["command"]
    cell.let_go()
    cell.wait_file("order.txt", "one\ntwo\n")
    cell.wait_idle()


@case("set_turns")
def set_turns(cell: Cell) -> None:
    """The turns run in the other order, and with the other command."""
    one, two = _queued(cell)
    edited = shell("echo 'ün \"edited\"' >> order.txt")
    cell.ask(items=[{"id": two}, {"id": one, "command": edited}])
    cell.let_go()
    cell.wait_file("order.txt", 'two\nün "edited"\n')
    cell.wait_idle()


@case("drop_turns")
def drop_turns(cell: Cell) -> None:
    """The turn that was dropped never runs; the one behind it does."""
    one, _ = _queued(cell)
    cell.ask(turn=one)
    cell.let_go()
    cell.wait_file("order.txt", "two\n")
    cell.wait_idle()


@case("review")
def review(cell: Cell) -> None:
    """A program runs in the worktree and is told what to look at: the commits since a branch."""
    cell.take()
    cell.ask(
        what="base",
        base_branch="main",
        instructions="Look 'well' at \"it\", ü",
        command=shell('echo "$SKEP_REVIEW_BASE $SKEP_REVIEW_INSTRUCTIONS" > review.txt'),
    )
    base = cell.trees.main("rev-parse", "main")
    cell.wait_file("review.txt", f"{base} Look 'well' at \"it\", ü\n")
    cell.wait_idle()


@case("run_script")
def run_script(cell: Cell) -> None:
    """The project's script runs in the worktree."""
    cell.take()
    cell.ask(name="dev")
    cell.wait_file("dev.txt", "dev script\n")
    cell.wait_idle()


@case("hold")
def hold(cell: Cell) -> None:
    """The worktree stays, though its removal is asked for."""
    cell.take()
    cell.ask()
    assert _cleanup_refused(cell) is ErrorCode.HELD
    cell.relay("release")


@case("release")
def release(cell: Cell) -> None:
    """What keeps a worktree then is its unsaved work, and no hold."""
    trees = cell.take()
    trees.write({"left é.txt": "left\n"})
    cell.relay("hold")
    assert _cleanup_refused(cell) is ErrorCode.HELD
    cell.ask()
    assert _cleanup_refused(cell) is ErrorCode.UNSAVED_WORK


def _cleanup_refused(cell: Cell) -> ErrorCode:
    """See that the worktree is not removed; return why not."""
    before = cell.seen()
    with pytest.raises(SkepError) as caught:
        cell.relay("cleanup")
    assert cell.seen() == before
    assert str(cell.trees.worktree) in before["worktrees"]
    return caught.value.code


@case("cleanup")
def cleanup(cell: Cell) -> None:
    """The worktree is gone, its branch is not, and what was uncommitted is in a commit."""
    trees = cell.take(fresh=True)
    trees.write({"left é.txt": "left\n"})
    head = cell.head
    status = trees.git("status", "--porcelain", "-z", "--untracked-files=all")
    cell.ask(save=True)
    assert status
    assert not trees.worktree.exists()
    assert trees.worktree.name not in trees.main("worktree", "list")
    assert cell.head == head
    saved = trees.main("for-each-ref", "--format=%(refname)", "refs/skep/saved")
    [ref] = [one for one in saved.splitlines() if cell.attempt in one]
    assert trees.main("show", f"{ref}:left é.txt") == "left"
    assert trees.main("show", f"{ref}:work.txt") == f"work {trees.number}"
