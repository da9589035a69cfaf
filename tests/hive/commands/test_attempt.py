"""`hive attempt OPERATION A`: made of the protocol's table."""

import msgspec
import pytest

from protocol.operations import OPERATIONS
from protocol.work_requests import BranchStatusReply, FileEntry, ListFilesReply
from tests.hive.api.running import RunningHive
from tests.hive.commands.programs import Commands

DIFF = {
    "base": "a",
    "head": "b",
    "source": "worktree",
    "files": [
        {
            "path": "new.txt",
            "old_path": None,
            "kind": "added",
            "additions": 1,
            "deletions": 0,
            "binary": False,
            "patch": "@@ -0,0 +1 @@\n+hi [bold]\n",
        }
    ],
}


def test_every_operation_has_its_command():
    """One row, one sub-command; but for those of `hive tasks`, `requests` and `sessions`."""
    from hive.commands.attempt import attempt

    elsewhere = {"start", "answer", "rename_session"}
    rows = {row.command for row in OPERATIONS.values() if row.name not in elsewhere}
    assert set(attempt.commands) == rows


@pytest.mark.asyncio
async def test_reading_operations_print_what_the_node_answers(running: RunningHive, hive: Commands):
    """JSON as it came, tables for people, a file's bytes as they are."""
    node = await running.node("one")
    attempt = await node.has_attempt()

    async def status(_call):
        return BranchStatusReply(branch="skep/sort-1", target_branch="main", ahead=2)

    async def files(call):
        asked = msgspec.msgpack.decode(call.body)
        entry = FileEntry(name=f"in {asked['path']}", kind="file", size=3)
        return ListFilesReply(path=asked["path"], entries=[entry])

    node.answers.update(branch_status=status, list_files=files)
    node.streams("diff", msgspec.json.encode(DIFF))
    node.streams("read_file", b"\x00raw", b"\xff\n", media_type="application/octet-stream")
    shown = await hive.json("attempt", "branch-status", attempt.id)
    assert (shown["ahead"], shown["attempt_id"]) == (2, attempt.id)
    assert (await hive.json("attempt", "diff", attempt.id, "--stat")) == DIFF
    patch = (await hive.run("attempt", "diff", attempt.id)).out
    assert "+hi [bold]" in patch
    for words in (["src"], ["--path", "src"]):
        listed = await hive.json("attempt", "files", attempt.id, *words)
        assert listed["entries"][0]["name"] == "in src"
    process = await hive.process("attempt", "cat", attempt.id, "a/b c.bin")
    out, _ = await process.communicate()
    assert out == b"\x00raw\xff\n"
    assert msgspec.msgpack.decode(node.calls[-1].body)["path"] == "a/b c.bin"
    assert await hive.json("attempt", "cat", attempt.id, "a.bin") == {
        "path": "a.bin",
        "bytes": 6,
        "encoding": "base64",
        "content": "AHJhd/8K",
    }


@pytest.mark.asyncio
async def test_names_are_no_markup(running: RunningHive, hive: Commands):
    """A folder and a file whose names look like markup are shown as they are."""
    node = await running.node("one")
    attempt = await node.has_attempt()

    async def files(call):
        asked = msgspec.msgpack.decode(call.body)
        entry = FileEntry(name="[red]x", kind="file", size=3)
        return ListFilesReply(path=asked["path"], entries=[entry], next="[/b]")

    node.answers.update(list_files=files)
    shown = await hive.run("attempt", "files", attempt.id, "a[/b]")
    assert (shown.code, shown.err) == (0, "[relay]\n")
    for name in ("a[/b]", "[red]x", "--after [/b]"):
        assert name in shown.out


@pytest.mark.asyncio
async def test_an_error_of_a_stream_is_told(running: RunningHive, hive: Commands):
    """A node that is away: exit 1, nothing on stdout."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    await node.leave()
    for words in (["diff"], ["cat"]):
        path = ["x"] if words == ["cat"] else []
        said = await hive.run("attempt", *words, attempt.id, *path, "--json")
        assert said.error["code"] == "node_offline"
