"""What an attempt did, as operations: from the attempt's own rows to git and disk, and back."""

import msgspec
import pytest

from node_agent.git.repository import open_repository
from node_agent.git.worktrees import create_worktree
from node_agent.operations.asking import Streamed
from node_agent.operations.work import WorkReading
from protocol.errors import ErrorCode, OperationError
from protocol.states import AttemptPhase
from protocol.work_requests import DiffRequest, ListFilesRequest, ReadFileRequest
from tests.node_agent.operations.conftest import StoredNode, whole


async def working(stored: StoredNode) -> WorkReading:
    """Give the attempt its worktree, with one change in it."""
    attempt = stored.attempt
    worktree = await create_worktree(
        await open_repository(stored.sample.path),
        stored.worktrees_dir,
        attempt_id=attempt.id,
        branch=attempt.branch,
        base=attempt.base_commit,
    )
    (worktree.path / "new.txt").write_text("new\n")
    (worktree.path / "README").write_text("hello\nthere\n")
    await stored.change(phase=AttemptPhase.PREPARING, worktree=str(worktree.path))
    return WorkReading(stored.stores.database, stored.worktrees_dir)


@pytest.mark.asyncio
async def test_status_and_diff_of_a_worktree(stored: StoredNode) -> None:
    """Both read the attempt's worktree against its target, uncommitted and new files included."""
    reading = await working(stored)
    status = await reading.branch_status(stored.asking("branch_status"))
    assert (status.branch, status.target_branch) == (stored.attempt.branch, "main")
    assert (status.dirty, status.untracked, status.source) == (1, 1, "worktree")
    diff = await whole(await reading.diff(stored.asking("diff")))
    assert diff["base"] == stored.attempt.base_commit
    assert [(file["path"], file["kind"]) for file in diff["files"]] == [
        ("README", "modified"),
        ("new.txt", "added"),
    ]
    assert "+there" in diff["files"][0]["patch"]
    stat = await whole(await reading.diff(stored.asking("diff", DiffRequest(stat=True))))
    assert [file["patch"] for file in stat["files"]] == [None, None]


@pytest.mark.asyncio
async def test_a_diff_without_changes_is_a_whole_document(stored: StoredNode) -> None:
    """With nothing changed the document is still complete."""
    reading = await working(stored)
    asked = DiffRequest(path="src")
    diff = await whole(await reading.diff(stored.asking("diff", asked)))
    assert diff["files"] == []


@pytest.mark.asyncio
async def test_from_the_branch_when_the_worktree_is_gone(stored: StoredNode) -> None:
    """Without its worktree the branch answers; without either the attempt says it is gone."""
    reading = WorkReading(stored.stores.database, stored.worktrees_dir)
    sample = stored.sample
    sample.git("checkout", "-q", "-b", stored.attempt.branch)
    sample.commit("work", {"done.txt": "done\n"})
    sample.git("checkout", "-q", "main")
    diff = await whole(await reading.diff(stored.asking("diff")))
    assert (diff["source"], [file["path"] for file in diff["files"]]) == ("branch", ["done.txt"])
    sample.git("branch", "-D", stored.attempt.branch)
    for phase in (AttemptPhase.PREPARING, AttemptPhase.RUNNING):
        await stored.change(phase=phase)
    with pytest.raises(OperationError) as caught:
        await reading.diff(stored.asking("diff"))
    assert caught.value.code is ErrorCode.WORKTREE_GONE


@pytest.mark.asyncio
async def test_before_the_worktree_is_made(stored: StoredNode) -> None:
    """An attempt that is only being prepared says so, and may be asked again."""
    reading = WorkReading(stored.stores.database, stored.worktrees_dir)
    with pytest.raises(OperationError) as caught:
        await reading.branch_status(stored.asking("branch_status"))
    assert caught.value.code is ErrorCode.CONFLICT
    assert caught.value.details["phase"] == "created"


@pytest.mark.asyncio
async def test_what_cannot_be_asked(stored: StoredNode) -> None:
    """Unknown attempts, other projects' attempts, and unknown comparisons are refused."""
    reading = await working(stored)
    for asking, code in (
        (stored.asking("diff", attempt_id="none"), ErrorCode.NOT_FOUND),
        (stored.asking("diff", project_id="p2"), ErrorCode.NOT_FOUND),
        (stored.asking("diff", DiffRequest(against="moon")), ErrorCode.INVALID),
        (stored.asking("diff", DiffRequest(context=-1)), ErrorCode.INVALID),
    ):
        with pytest.raises(OperationError) as caught:
            await reading.diff(asking)
        assert caught.value.code is code
    assert await whole(await reading.diff(stored.asking("diff", project_id="p1")))


@pytest.mark.asyncio
async def test_a_diff_that_is_left_ends_its_git(stored: StoredNode) -> None:
    """A reader that goes away in the middle ends the git program behind the stream."""
    reading = await working(stored)
    answer = await reading.diff(stored.asking("diff"))
    first = await anext(aiter(answer.pieces))
    assert first.startswith(b'{"base":')
    await answer.pieces.aclose()  # type: ignore[attr-defined]
    assert [piece async for piece in answer.pieces] == []
    assert msgspec.json.decode(first + b"]}")["files"] == []


async def content(answer: Streamed) -> bytes:
    """Return the bytes of a streamed file."""
    return b"".join([piece async for piece in answer.pieces])


@pytest.mark.asyncio
async def test_files_of_a_worktree(stored: StoredNode) -> None:
    """A folder is listed in pages, and a file's bytes come with what they are."""
    reading = await working(stored)
    page = await reading.list_files(stored.asking("list_files", ListFilesRequest(limit=2)))
    assert [entry.name for entry in page.entries] == ["README", "new.txt"]
    following = ListFilesRequest(after=page.next)
    page = await reading.list_files(stored.asking("list_files", following))
    assert [(entry.name, entry.kind) for entry in page.entries] == [("src", "directory")]
    asked = stored.asking("read_file", ReadFileRequest(path="README"))
    answer = await reading.read_file(asked)
    assert await content(answer) == b"hello\nthere\n"
    assert answer.head.media_type.startswith("text/plain")
    assert answer.head.headers == {
        "Skep-File-Size": "12",
        "Skep-First-Byte": "0",
        "Skep-Source": "worktree",
    }
    part = ReadFileRequest(path="README", first_byte=6, bytes_max=3)
    assert await content(await reading.read_file(stored.asking("read_file", part))) == b"the"


@pytest.mark.asyncio
async def test_files_of_a_branch(stored: StoredNode) -> None:
    """Without the worktree files are read from the branch, and the reply names the commit."""
    reading = WorkReading(stored.stores.database, stored.worktrees_dir)
    stored.sample.git("branch", stored.attempt.branch)
    asked = stored.asking("read_file", ReadFileRequest(path="README"))
    answer = await reading.read_file(asked)
    assert await content(answer) == b"hello\n"
    assert answer.head.headers["Skep-Commit"] == stored.sample.head
    page = await reading.list_files(stored.asking("list_files"))
    assert page.source == "branch"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../project/README", ErrorCode.OUTSIDE),
        ("/etc/passwd", ErrorCode.OUTSIDE),
        (".git", ErrorCode.OUTSIDE),
        ("out", ErrorCode.OUTSIDE),
        ("none", ErrorCode.NOT_FOUND),
    ],
)
async def test_files_outside_the_worktree(stored: StoredNode, path: str, code: ErrorCode) -> None:
    """Nothing outside the worktree is read, by whatever name or link."""
    reading = await working(stored)
    assert stored.attempt.worktree is not None
    (stored.worktrees_dir / stored.attempt.id / "out").symlink_to("/etc/passwd")
    with pytest.raises(OperationError) as caught:
        await reading.read_file(stored.asking("read_file", ReadFileRequest(path=path)))
    assert caught.value.code is code
