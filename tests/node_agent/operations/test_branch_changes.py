"""Merge, rebase and abort as operations, judged by plain git on the repository."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from node_agent.git.repository import open_repository
from node_agent.git.worktree_removal import remove_worktree
from protocol.branch_requests import MergeReply, MergeRequest, RebaseReply, RebaseRequest
from protocol.errors import ErrorCode
from tests.node_agent.git.repositories import Sample, git
from tests.node_agent.operations.branching import Branching
from tests.node_agent.operations.conftest import StoredNode

NAMES = ["a space", 'quo"te', "unicøde/ñ", "new\nline", "-dash", "--force"]


def park(sample: Sample) -> None:
    """Have the user's checkout stand elsewhere than on the target."""
    sample.git("checkout", "-q", "-b", "elsewhere")


@pytest.mark.asyncio
async def test_squash_into_a_branch_that_nobody_stands_on(stored: StoredNode) -> None:
    """One commit on the target with all changes; checkout, worktree and branch are untouched."""
    at = await Branching.make(stored)
    files = {name: f"{name}\n" for name in NAMES}
    head = at.commit("odd names", files)
    park(at.sample)
    before, user, mine = at.at("main"), at.sample.state(), at.git("status", "--porcelain")
    reply = await at.ask("merge", expected_head=head)
    assert at.at("main") == reply.commit
    assert at.sample.git("rev-list", "--parents", "-1", "main").split() == [reply.commit, before]
    assert at.sample.git("rev-parse", "main^{tree}") == at.git("rev-parse", "HEAD^{tree}")
    message = at.sample.git("log", "-1", "--format=%B", "main")
    assert message.splitlines() == ["Do it", "", "* work", "* odd names"]
    assert (at.sample.state(), at.git("status", "--porcelain")) == (user, mine)
    assert at.at(at.branch) == head
    assert [one.commit for one in (await at.attempt()).merges] == [reply.commit]
    status = await at.ask("branch_status")
    assert (status.merges[0].strategy, status.pr) == ("squash", None)
    assert (await at.refused("merge")).code is ErrorCode.NOTHING_TO_MERGE


@pytest.mark.asyncio
async def test_merge_brings_a_clean_checkout_along(stored: StoredNode) -> None:
    """A clean checkout of the target gets the files; what is not git's in it stays as it was."""
    at = await Branching.make(stored)
    (at.sample.path / "note.txt").write_text("mine\n")
    theirs = at.sample.git("rev-parse", "main")
    at.write("draft.txt", "not committed\n")
    reply = await at.ask("merge", MergeRequest(strategy="merge", message="Bring it home"))
    parents = at.sample.git("rev-list", "--parents", "-1", "main").split()
    assert parents == [reply.commit, theirs, at.first]
    assert at.sample.git("log", "-1", "--format=%s", "main") == "Bring it home"
    assert (at.sample.path / "work.txt").read_text() == "work\n"
    assert at.sample.git("status", "--porcelain") == "?? note.txt"
    assert at.sample.git("symbolic-ref", "HEAD") == "refs/heads/main"
    assert reply.uncommitted == 1


@pytest.mark.asyncio
async def test_a_checkout_in_the_way_is_left_alone(stored: StoredNode) -> None:
    """Dirty, half merged, or with an untracked or ignored file in the way: nothing changes."""
    at = await Branching.make(stored)
    sample = at.sample
    before = at.at("main")

    async def refused() -> None:
        state = sample.state()
        error = await at.refused("merge")
        assert error.code is ErrorCode.CHECKOUT_DIRTY
        assert (at.at("main"), sample.state()) == (before, state)

    sample.write("README", "changed\n")
    await refused()
    sample.git("checkout", "-q", "README")
    sample.write("work.txt", "the user's own\n")
    await refused()
    (sample.path / ".git" / "info" / "exclude").write_text("work.txt\n")
    await refused()
    assert (sample.path / "work.txt").read_text() == "the user's own\n"
    (sample.path / "work.txt").unlink()
    (sample.path / "work.txt").mkdir()
    (sample.path / "work.txt" / "inside").write_text("kept\n")
    await refused()
    assert (sample.path / "work.txt" / "inside").read_text() == "kept\n"


@pytest.mark.asyncio
async def test_a_target_in_another_worktree_or_being_rebased(
    stored: StoredNode, tmp_path: Path
) -> None:
    """Every worktree that stands on the target counts; one whose rebase will move it refuses."""
    at = await Branching.make(stored)
    park(at.sample)
    other = tmp_path / "other place"
    at.sample.git("worktree", "add", "-q", str(other), "main")
    (other / "README").write_text("dirty\n")
    assert (await at.refused("merge")).code is ErrorCode.CHECKOUT_DIRTY
    git(other, "checkout", "-q", "README")
    reply = await at.ask("merge")
    assert (other / "work.txt").read_text() == "work\n"
    assert git(other, "rev-parse", "HEAD") == reply.commit
    at.commit("more", {"more.txt": "more\n"})
    git(other, "commit", "-q", "--allow-empty", "-m", "x")
    (other / "README").write_text("ours\n")
    git(other, "commit", "-q", "-a", "-m", "ours")
    at.sample.git("checkout", "-q", "-b", "clash", "main~2")
    at.sample.commit("theirs", {"README": "theirs\n"})
    git(other, "rebase", "clash", check=False)
    assert (await at.refused("merge")).code is ErrorCode.REBASE_IN_PROGRESS


@pytest.mark.asyncio
async def test_conflicts_and_moved_heads_change_nothing(stored: StoredNode) -> None:
    """Conflicts name the files; a head that moved names the one found; nothing is changed."""
    at = await Branching.make(stored)
    head = at.commit("ours", {"README": "ours\n", "n\u00e9w\n": "ours\n"})
    at.sample.commit("theirs", {"README": "theirs\n", "n\u00e9w\n": "theirs\n"})
    before, user = at.at("main"), at.sample.state()
    error = await at.refused("merge")
    assert (error.code, error.details["conflicts"]) == (
        ErrorCode.CONFLICTS,
        ["README", "n\u00e9w\n"],
    )
    moved = await at.refused("merge", expected_head=at.first)
    assert (moved.code, moved.details["head"]) == (ErrorCode.EXPECTED_HEAD_MOVED, head)
    short = await at.refused("merge", expected_head="abc")
    assert (short.code, short.details["field"]) == (ErrorCode.INVALID, "expected_head")
    assert (await at.refused("merge", MergeRequest(strategy="octopus"))).code is ErrorCode.INVALID
    assert (at.at("main"), at.sample.state(), at.at(at.branch)) == (before, user, head)


@pytest.mark.asyncio
async def test_two_merges_at_once(stored: StoredNode) -> None:
    """One wins, the other is told; the target moves once, and the loser may ask again."""
    at = await Branching.make(stored)
    before = at.at("main")
    keys = ("one", "other")
    answers = await asyncio.gather(
        *(at.ask("merge", key=key) for key in keys), return_exceptions=True
    )
    won = [answer for answer in answers if isinstance(answer, MergeReply)]
    (lost,) = [answer for answer in answers if not isinstance(answer, MergeReply)]
    assert [one.commit for one in won] == [at.at("main")]
    assert lost.code is ErrorCode.IN_PROGRESS  # type: ignore[union-attr]
    assert at.sample.git("rev-list", "--count", f"{before}..main") == "1"
    again = await at.refused("merge", key=keys[answers.index(lost)])
    assert again.code is ErrorCode.NOTHING_TO_MERGE


@pytest.mark.asyncio
async def test_a_merge_cut_short_is_settled_by_what_git_says(stored: StoredNode) -> None:
    """Done: the same reply. Not begun: done now, or not any more where nobody waits for it."""
    at = await Branching.make(stored)
    known = await at.crash("merge", acted=True)
    first = at.at("main")
    reply = msgspec.msgpack.decode(known.reply or b"", type=MergeReply)
    assert (reply.commit, len((await at.attempt()).merges)) == (first, 1)
    at.commit("two", {"two.txt": "2\n"})
    known = await at.crash("merge", acted=False)
    assert known.reply is not None
    assert at.sample.git("rev-parse", "main~1") == first
    assert (at.sample.path / "two.txt").exists()
    at.commit("three", {"three.txt": "3\n"})
    before = at.at("main")
    known = await at.crash("merge", acted=False, age_s=3600)
    assert (known.error and known.error.code) == "deadline_passed"
    assert at.at("main") == before


@pytest.mark.asyncio
async def test_a_merge_cut_short_between_files_and_branch(stored: StoredNode) -> None:
    """Where a checkout has the files and the branch has not moved, the branch follows."""
    at = await Branching.make(stored)
    before = at.at("main")

    def cut_short() -> None:
        at.sample.git("update-ref", "refs/heads/main", before)
        assert at.sample.git("status", "--porcelain") == "A  work.txt"

    known = await at.crash("merge", acted=True, meanwhile=cut_short)
    reply = msgspec.msgpack.decode(known.reply or b"", type=MergeReply)
    assert at.at("main") == reply.commit
    assert at.sample.git("status", "--porcelain") == ""


@pytest.mark.asyncio
async def test_an_intent_nobody_can_judge_is_unknown(stored: StoredNode) -> None:
    """Where the target went elsewhere meanwhile the outcome is unknown, with what is known."""
    at = await Branching.make(stored)
    before = at.at("main")

    def elsewhere() -> None:
        at.sample.git("reset", "-q", "--hard", before)
        at.sample.commit("another way", {"another": "way\n"})

    known = await at.crash("merge", acted=True, meanwhile=elsewhere)
    assert known.error is not None
    assert known.error.code == "unknown"
    assert known.error.details["planned"]["before"] == before
    assert known.error.details["found"] == at.at("main")


@pytest.mark.asyncio
async def test_rebase_onto_a_target_that_moved(stored: StoredNode) -> None:
    """The commits stand on the new target, authors kept, files brought along, others untouched."""
    at = await Branching.make(stored)
    at.write("more.txt", "more\n")
    at.git("add", "-A")
    at.git("commit", "-q", "--author=Gr\u00e6ce <g@example.org>", "-m", "more\n\nbody")
    at.git("commit", "-q", "--allow-empty", "-m", "empty")
    target = at.sample.commit("theirs", {"theirs.txt": "theirs\n"})
    at.write("untracked.txt", "mine\n")
    reply = await at.ask("rebase")
    assert at.at(at.branch) == at.git("rev-parse", "HEAD") == reply.head
    assert at.git("symbolic-ref", "HEAD") == f"refs/heads/{at.branch}"
    log = at.git("log", "--format=%an %s", f"{target}..HEAD").splitlines()
    assert log == ["Ada empty", "Gr\u00e6ce more", "Ada work"]
    assert at.git("merge-base", "HEAD", "main") == target
    assert at.git("status", "--porcelain") == "?? untracked.txt"
    assert (at.worktree.path / "theirs.txt").exists()
    assert at.git("fsck", "--strict", "--no-dangling") == ""
    again = await at.ask("rebase")
    assert again.head == reply.head


@pytest.mark.asyncio
async def test_a_rebase_that_conflicts_waits_to_be_resolved(stored: StoredNode) -> None:
    """It stands in progress as git leaves it, refuses the rest, and can be aborted or finished."""
    at = await Branching.make(stored)
    head = at.commit("ours", {"README": "ours\n"})
    at.sample.commit("theirs", {"README": "theirs\n"})
    error = await at.refused("rebase")
    assert (error.code, error.details["conflicts"]) == (ErrorCode.CONFLICTS, ["README"])
    status = await at.ask("branch_status")
    assert (status.rebase_in_progress, status.in_progress, status.conflicts) == (
        True,
        "rebase",
        ["README"],
    )
    for name in ("rebase", "merge", "push", "stash"):
        assert (await at.refused(name)).code is ErrorCode.REBASE_IN_PROGRESS
    await at.ask("abort_conflicts")
    assert (at.git("rev-parse", "HEAD"), at.at(at.branch)) == (head, head)
    assert at.git("status", "--porcelain") == ""
    assert (await at.refused("abort_conflicts")).code is ErrorCode.NOTHING_TO_ABORT
    await at.refused("rebase")
    at.write("README", "both\n")
    at.git("add", "README")
    at.git("-c", "core.editor=true", "rebase", "--continue")
    assert at.git("log", "--format=%s", "main..HEAD").splitlines() == ["ours", "work"]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["merge", "cherry-pick", "revert", "squash"])
async def test_abort_what_an_agent_left(stored: StoredNode, kind: str) -> None:
    """Whatever of git's stands in conflict, the worktree is as it was before it."""
    at = await Branching.make(stored)
    at.commit("ours", {"README": "ours\n"})
    head = at.commit("ours again", {"README": "ours again\n"})
    at.sample.commit("theirs", {"README": "theirs\n"})
    arguments = {
        "merge": ["merge", "main"],
        "cherry-pick": ["cherry-pick", "main"],
        "revert": ["revert", "--no-edit", "HEAD~1"],
        "squash": ["merge", "--squash", "main"],
    }
    at.git(*arguments[kind], check=False)
    assert at.git("ls-files", "--unmerged")
    reply = await at.ask("abort_conflicts")
    assert (reply.in_progress, reply.conflicts) == (None, [])
    assert at.git("status", "--porcelain") == ""
    assert at.git("rev-parse", "HEAD") == head


@pytest.mark.asyncio
async def test_what_a_rebase_refuses(stored: StoredNode) -> None:
    """Uncommitted changes, a detached HEAD and a base that is not there are left alone."""
    at = await Branching.make(stored)
    at.sample.commit("theirs", {"theirs.txt": "theirs\n"})
    at.write("README", "changed\n")
    assert (await at.refused("rebase")).code is ErrorCode.CHECKOUT_DIRTY
    assert at.git("diff", "--name-only") == "README"
    at.git("checkout", "-q", "README")
    assert (await at.refused("rebase", RebaseRequest(new_base="nowhere"))).code is (
        ErrorCode.BRANCH_MISSING
    )
    assert (await at.refused("rebase", RebaseRequest(new_base="--onto"))).code is ErrorCode.INVALID
    at.git("checkout", "-q", "--detach")
    assert (await at.refused("rebase")).code is ErrorCode.CONFLICT


@pytest.mark.asyncio
async def test_a_rebase_cut_short_is_settled(stored: StoredNode) -> None:
    """Done or not begun, the branch ends on its target once; a conflict is told as one."""
    at = await Branching.make(stored)
    at.sample.commit("theirs", {"theirs.txt": "theirs\n"})
    known = await at.crash("rebase", acted=True)
    reply = msgspec.msgpack.decode(known.reply or b"", type=RebaseReply)
    assert reply.head == at.at(at.branch)
    target = at.sample.commit("more", {"more.txt": "theirs\n"})
    known = await at.crash("rebase", acted=False)
    assert known.reply is not None
    assert at.git("merge-base", "HEAD", "main") == target
    at.commit("ours", {"README": "ours\n"})
    at.sample.commit("clash", {"README": "theirs\n"})
    known = await at.crash("rebase", acted=False)
    assert (known.error and known.error.code) == "conflicts"
    assert (at.worktree.git_dir / "rebase-merge").exists()


@pytest.mark.asyncio
async def test_without_the_worktree(stored: StoredNode) -> None:
    """Merge and rebase work from the branch and say so; abort and stash say that it is gone."""
    at = await Branching.make(stored)
    at.sample.commit("theirs", {"theirs.txt": "theirs\n"})
    repository = await open_repository(at.sample.path)
    await remove_worktree(repository, stored.worktrees_dir.resolve(), stored.attempt.id)
    for name in ("abort_conflicts", "stash", "stash_pop"):
        assert (await at.refused(name)).code is ErrorCode.WORKTREE_GONE
    rebased = await at.ask("rebase")
    assert (rebased.source, at.at(at.branch)) == ("branch", rebased.head)
    assert at.sample.git("merge-base", at.branch, "main") == at.at("main")
    merged = await at.ask("merge")
    assert (merged.source, at.at("main")) == ("branch", merged.commit)
    assert (at.sample.path / "work.txt").exists()


@pytest.mark.asyncio
async def test_a_submodule_is_merged_and_not_entered(stored: StoredNode, tmp_path: Path) -> None:
    """A submodule's new commit is merged as such, into a checkout that never filled it."""
    at = await Branching.make(stored)
    library = Sample.make(tmp_path / "library")
    at.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library.path), "lib")
    at.git("commit", "-q", "-m", "with a library")
    await at.ask("merge")
    entry = at.sample.git("ls-tree", "main", "lib").split()
    assert entry[:3] == ["160000", "commit", library.head]
    assert at.sample.git("diff", "--cached", "--name-only") == ""


@pytest.mark.asyncio
async def test_a_submodule_that_its_user_filled(stored: StoredNode, tmp_path: Path) -> None:
    """It stays at the user's commit, merge after merge; what they staged of it is in the way."""
    at = await Branching.make(stored)
    library = Sample.make(tmp_path / "library")
    merge = MergeRequest(strategy="merge")
    at.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library.path), "lib")
    at.git("commit", "-q", "-m", "with a library")
    await at.ask("merge", merge)
    at.sample.git("-c", "protocol.file.allow=always", "submodule", "update", "-q", "--init")
    at.sample.git("config", "submodule.recurse", "true")
    filled = library.head
    for number in range(3):
        newer = library.commit(f"more {number}", {"more": f"{number}\n"})
        at.git("update-index", "--cacheinfo", f"160000,{newer},lib")
        at.git("commit", "-q", "-m", f"a newer library {number}")
        reply = await at.ask("merge", merge)
        assert at.at("main") == reply.commit
        assert at.sample.git("ls-files", "-s", "lib").split()[1] == newer
        assert git(at.sample.path / "lib", "rev-parse", "HEAD") == filled
    at.sample.git("update-index", "--cacheinfo", f"160000,{filled},lib")
    at.commit("work after", {"after.txt": "after\n"})
    refused = await at.refused("merge", merge)
    assert (refused.code, refused.details["files"]) == (ErrorCode.CHECKOUT_DIRTY, ["lib"])
