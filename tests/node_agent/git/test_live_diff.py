"""A diff as it changes: what is told again, what is not, and where a client goes on."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from node_agent.git.errors import InvalidInput
from node_agent.git.live_diff import PIECE_BYTES, LiveDiff
from node_agent.git.sources import Source, find_source
from node_agent.git.worktrees import Worktree
from tests.node_agent.git.attempts import commit, make_worktree, write
from tests.node_agent.git.repositories import ATTEMPT, Sample, git

BRANCH = "skep/do-it-deadbeef"


class Followed:
    """An attempt's worktree and a client that follows its diff."""

    def __init__(self, sample: Sample, root: Path, worktree: Worktree, source: Source) -> None:
        self.base = sample.head
        self.worktree = worktree
        self.source = source
        self._root = root
        self.live = self.new_client()

    @staticmethod
    def new_client(path: str | None = None) -> LiveDiff:
        return LiveDiff(against="target", context=3, path=path)

    @classmethod
    async def begin(cls, sample: Sample, root: Path) -> "Followed":
        repository, worktree = await make_worktree(sample, root)
        source = await find_source(repository, root, attempt_id=ATTEMPT, branch=BRANCH)
        return cls(sample, root, worktree, source)

    async def look_again(self) -> None:
        self.source = await find_source(
            self.source.repository, self._root, attempt_id=ATTEMPT, branch=BRANCH
        )

    async def first(self, cursor: str | None = None, live: LiveDiff | None = None) -> Any:
        """The first update of a client."""
        pieces = (live or self.live).first(self.source, self.base, cursor)
        return msgspec.json.decode(b"".join([piece async for piece in pieces]))

    async def following(self) -> Any:
        """The next update, None where nothing is new."""
        content = b"".join([piece async for piece in self.live.following(self.source, self.base)])
        assert not content or content.endswith(b"\n")
        return msgspec.json.decode(content) if content else None


def paths(update: Any) -> list[str]:
    """The files an update tells of."""
    return [file["path"] for file in update["changed"]]


@pytest.mark.asyncio
async def test_the_whole_then_only_what_differs(sample: Sample, root: Path) -> None:
    """First all there is; then the files that changed, those that are unchanged again, no more."""
    followed = await Followed.begin(sample, root)
    write(followed.worktree, "one.txt", "1\n")
    write(followed.worktree, "two words.txt", "2\n")
    first = await followed.first()
    assert first["whole"]
    assert paths(first) == ["one.txt", "two words.txt"]
    assert await followed.following() is None
    write(followed.worktree, "one.txt", "1\n1\n")
    second = await followed.following()
    assert (second["whole"], paths(second), second["removed"]) == (False, ["one.txt"], [])
    assert "+1\n+1\n" in second["changed"][0]["patch"]
    (followed.worktree.path / "two words.txt").unlink()
    third = await followed.following()
    assert (paths(third), third["removed"]) == ([], ["two words.txt"])
    assert len({first["cursor"], second["cursor"], third["cursor"]}) == 3


@pytest.mark.asyncio
async def test_a_touched_file_is_no_news(sample: Sample, root: Path) -> None:
    """A file written again with the same content is looked at, and not told."""
    followed = await Followed.begin(sample, root)
    path = write(followed.worktree, "one.txt", "1\n")
    await followed.first()
    path.unlink()
    write(followed.worktree, "one.txt", "1\n")
    assert await followed.following() is None


@pytest.mark.asyncio
async def test_a_commit_moves_the_head_alone(sample: Sample, root: Path) -> None:
    """What is committed as it stood is no other change: only the head is another."""
    followed = await Followed.begin(sample, root)
    write(followed.worktree, "one.txt", "1\n")
    first = await followed.first()
    head = commit(followed.worktree, "work", {})
    await followed.look_again()
    update = await followed.following()
    assert (update["head"], paths(update), update["removed"]) == (head, [], [])
    assert update["cursor"] != first["cursor"]


@pytest.mark.asyncio
async def test_another_client_goes_on_from_the_cursor(sample: Sample, root: Path) -> None:
    """With the present cursor nothing is told again; with another one, all there is."""
    followed = await Followed.begin(sample, root)
    write(followed.worktree, "one.txt", "1\n")
    first = await followed.first()
    second = await followed.first(first["cursor"], followed.new_client())
    assert (second["whole"], paths(second), second["cursor"]) == (False, [], first["cursor"])
    write(followed.worktree, "two.txt", "2\n")
    third = await followed.first(first["cursor"], followed.new_client())
    assert (third["whole"], paths(third)) == (True, ["one.txt", "two.txt"])
    elsewhere = await followed.first(third["cursor"], followed.new_client("one.txt"))
    assert (elsewhere["whole"], paths(elsewhere)) == (True, ["one.txt"])


@pytest.mark.asyncio
async def test_ignored_files_never_show(sample: Sample, root: Path) -> None:
    """What git ignores is no change; what it no longer ignores is."""
    followed = await Followed.begin(sample, root)
    write(followed.worktree, ".gitignore", "*.log\n")
    write(followed.worktree, "x.log", "noise\n")
    assert paths(await followed.first()) == [".gitignore"]
    write(followed.worktree, "x.log", "more noise\n")
    assert await followed.following() is None
    write(followed.worktree, ".gitignore", "\n")
    assert paths(await followed.following()) == [".gitignore", "x.log"]


@pytest.mark.asyncio
async def test_many_files_are_one_update_in_pieces(sample: Sample, root: Path) -> None:
    """A large update is one document in pieces of bounded size, and a rename is one file."""
    followed = await Followed.begin(sample, root)
    await followed.first()
    for number in range(300):
        write(followed.worktree, f"d/{number}.txt", f"{number}\n" * 50)
    git(followed.worktree.path, "mv", "README", "READ ME")
    pieces = [piece async for piece in followed.live.following(followed.source, followed.base)]
    assert len(pieces) > 1
    assert max(map(len, pieces)) < 2 * PIECE_BYTES
    update = msgspec.json.decode(b"".join(pieces))
    assert len(update["changed"]) == 301
    renamed = next(file for file in update["changed"] if file["kind"] == "renamed")
    assert (renamed["old_path"], renamed["path"]) == ("README", "READ ME")


def test_what_cannot_be_asked() -> None:
    """A number of lines and a path that git cannot take are refused before anything is read."""
    with pytest.raises(InvalidInput):
        LiveDiff(against="target", context=-1, path=None)
    for path in ("\udcff", "a\0b"):
        with pytest.raises(InvalidInput):
            LiveDiff(against="target", context=3, path=path)
