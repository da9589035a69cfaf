"""Running git: bounded, without hooks, prompts or another repository's settings."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from node_agent.git.command import git_environment, run_git, stream_git
from node_agent.git.errors import (
    GitFailed,
    GitMissing,
    GitTimedOut,
    OutputTooLarge,
    WorktreeGone,
)
from tests.node_agent.git.repositories import Sample


@pytest.mark.asyncio
async def test_result_holds_what_git_wrote(sample: Sample) -> None:
    """The output comes back byte for byte, and standard input reaches git."""
    found = await run_git(sample.path, "hash-object", "--stdin", stdin=b"hello\n")
    assert found.line == b"ce013625030ba8dba906f756967f9e9ca394464a"
    assert found.exit_code == 0


@pytest.mark.asyncio
async def test_failure_is_typed_and_shows_no_password(sample: Sample) -> None:
    """An error names the command, the exit code and git's words, without credentials."""
    with pytest.raises(GitFailed) as raised:
        await run_git(sample.path, "fetch", "https://ada:secret@127.0.0.1:1/x.git")
    error = raised.value
    assert error.exit_code == 128
    assert error.argv == ("git", "fetch", "https://***@127.0.0.1:1/x.git")
    assert error.code == "git_failed"
    assert error.body().details["exit_code"] == 128
    assert "secret" not in str(error.body())
    assert error.stderr


@pytest.mark.asyncio
async def test_expected_exit_codes_are_no_failure(sample: Sample) -> None:
    """An exit code the caller names is an answer."""
    found = await run_git(sample.path, "config", "--get", "no.such", exit_codes=(0, 1))
    assert found.exit_code == 1


@pytest.mark.asyncio
async def test_output_is_bounded(sample: Sample) -> None:
    """Git is ended as soon as it writes more than the caller can hold."""
    sample.write("big", b"x" * 300_000)
    oid = sample.git("hash-object", "-w", "big")
    with pytest.raises(OutputTooLarge):
        await run_git(sample.path, "cat-file", "blob", oid, output_bytes_max=1000)
    found = await run_git(sample.path, "cat-file", "blob", oid, output_bytes_max=300_000)
    assert len(found.stdout) == 300_000


@pytest.mark.asyncio
async def test_slow_git_is_ended_with_all_it_started(sample: Sample, tmp_path: Path) -> None:
    """A deadline ends git and the program it waits for."""
    pid_file = tmp_path / "pid"
    sample.git("config", "alias.wait", f"!echo $$ > {pid_file}; exec sleep 60")
    with pytest.raises(GitTimedOut):
        await run_git(sample.path, "wait", timeout_s=1.0)
    pid = int(pid_file.read_text())
    for _ in range(600):
        if not _runs(pid):
            break
        await asyncio.sleep(0.05)
    assert not _runs(pid)


@pytest.mark.asyncio
async def test_cancelled_call_leaves_no_process(sample: Sample, tmp_path: Path) -> None:
    """Who stops waiting also ends the process."""
    pid_file = tmp_path / "pid"
    sample.git("config", "alias.wait", f"!echo $$ > {pid_file}; exec sleep 60")
    call = asyncio.create_task(run_git(sample.path, "wait"))
    while not (pid_file.exists() and pid_file.read_text().strip()):
        await asyncio.sleep(0.02)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    for _ in range(600):
        if not _runs(int(pid_file.read_text())):
            break
        await asyncio.sleep(0.05)
    assert not _runs(int(pid_file.read_text()))


@pytest.mark.asyncio
async def test_a_call_cancelled_while_git_begins_leaves_no_process(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git may have started others before its caller has so much as its pipes."""
    pid_file = tmp_path / "pid"
    sample.git("config", "alias.wait", f"!echo $$ > {pid_file}; exec sleep 100")
    loop, begun = asyncio.get_running_loop(), asyncio.Event()
    connect = loop.connect_read_pipe

    async def connect_late(*given: Any) -> Any:
        await begun.wait()
        return await connect(*given)

    monkeypatch.setattr(loop, "connect_read_pipe", connect_late)
    call = asyncio.create_task(run_git(sample.path, "wait"))
    while not (pid_file.exists() and pid_file.read_text().strip()):
        await asyncio.sleep(0.02)
    call.cancel()
    asyncio.get_running_loop().call_later(0.1, begun.set)
    _, waits = await asyncio.wait({call}, timeout=60)
    assert not waits
    assert call.cancelled()
    pid = int(pid_file.read_text())
    for _ in range(600):
        if not _runs(pid):
            break
        await asyncio.sleep(0.05)
    assert not _runs(pid)


@pytest.mark.asyncio
async def test_missing_program_and_missing_folder_are_told_apart(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same system error has two meanings; each has its own type."""
    with pytest.raises(WorktreeGone):
        await run_git(tmp_path / "gone", "status")
    monkeypatch.setattr("node_agent.git.command.PROGRAM", "no-such-git")
    with pytest.raises(GitMissing) as raised:
        await run_git(sample.path, "status")
    assert "Install git" in raised.value.hint


@pytest.mark.asyncio
async def test_hooks_and_monitors_do_not_run(sample: Sample, tmp_path: Path) -> None:
    """Nothing the repository names is started by looking at it or committing to it."""
    mark = tmp_path / "ran"
    script = f"#!/bin/sh\ntouch {mark}\n"
    for hook in ("pre-commit", "post-commit", "reference-transaction", "post-index-change"):
        path = sample.write(f".git/hooks/{hook}", script)
        path.chmod(0o755)
    monitor = sample.write(".git/monitor", script)
    monitor.chmod(0o755)
    sample.git("config", "core.fsmonitor", str(monitor))
    mark.unlink(missing_ok=True)
    identity = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@x"}
    identity |= {"GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@x"}
    await run_git(sample.path, "commit", "--allow-empty", "-m", "x", env=identity)
    await run_git(sample.path, "status", "--porcelain")
    assert not mark.exists()


def test_environment_drops_what_leads_elsewhere() -> None:
    """Variables that name another repository, and our own settings, never reach git."""
    given = {
        "PATH": "/bin",
        "HOME": "/h",
        "GIT_DIR": "/other",
        "GIT_INDEX_FILE": "x",
        "GIT_CONFIG_COUNT": "1",
        "GIT_SSH_COMMAND": "ssh -i k",
        "SKEP_TOKEN": "secret",
        "LC_ALL": "de_DE.UTF-8",
    }
    found = git_environment(given)
    assert found["GIT_SSH_COMMAND"] == "ssh -i k"
    assert found["LC_ALL"] == "C"
    assert found["GIT_TERMINAL_PROMPT"] == "0"
    assert not {"GIT_DIR", "GIT_INDEX_FILE", "GIT_CONFIG_COUNT", "SKEP_TOKEN"} & found.keys()


@pytest.mark.asyncio
async def test_callers_environment_cannot_redirect_git(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node agent started from a hook still works on the repository it was told."""
    other = Sample.make(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    found = await run_git(sample.path, "rev-parse", "--show-toplevel")
    assert found.line.decode() == str(sample.path)


@pytest.mark.asyncio
async def test_no_terminal_to_ask_on(sample: Sample) -> None:
    """Git and what it starts have no terminal, so a prompt fails instead of hanging."""
    sample.git("config", "alias.ask", "!cat < /dev/tty")
    with pytest.raises(GitFailed):
        await run_git(sample.path, "ask", timeout_s=10)


@pytest.mark.asyncio
async def test_stream_gives_everything_then_the_failure(sample: Sample) -> None:
    """Output comes in pieces; a bad end is raised after the last of them."""
    sample.git("config", "alias.talk", "!printf 12345; exit 3")
    got = b""

    async def read_all() -> None:
        nonlocal got
        async with stream_git(sample.path, "talk") as pieces:
            async for piece in pieces:
                got += piece

    with pytest.raises(GitFailed) as raised:
        await read_all()
    assert got == b"12345"
    assert raised.value.exit_code == 3


@pytest.mark.asyncio
async def test_leaving_a_stream_early_ends_git(sample: Sample, tmp_path: Path) -> None:
    """A reader that has enough leaves no process behind."""
    pid_file = tmp_path / "pid"
    sample.git("config", "alias.talk", f"!echo $$ > {pid_file}; exec yes")
    async with stream_git(sample.path, "talk") as pieces:
        async for piece in pieces:
            assert piece.startswith(b"y\n")
            break
    for _ in range(600):
        if not _runs(int(pid_file.read_text())):
            break
        await asyncio.sleep(0.05)
    assert not _runs(int(pid_file.read_text()))


@pytest.mark.asyncio
async def test_leaving_a_finished_git_unread_takes_no_time(sample: Sample) -> None:
    """Output that nobody reads to its end does not hold up the end of the process."""
    sample.write("big", b"x" * 400_000)
    oid = sample.git("hash-object", "-w", "big")
    took_s = []
    for _ in range(20):
        began_s = asyncio.get_running_loop().time()
        async with stream_git(sample.path, "cat-file", "blob", oid) as pieces:
            await anext(pieces)
            await asyncio.sleep(0.01)
        took_s.append(asyncio.get_running_loop().time() - began_s)
    # What holds a process up does so each time, whatever else this machine does.
    assert min(took_s) < 1


@pytest.mark.asyncio
async def test_grandchild_that_holds_the_pipe_is_left_behind(sample: Sample) -> None:
    """A process that left git's group and keeps its output open does not hold us for ever."""
    sample.git("config", "alias.talk", "!setsid sleep 20 & echo a; exec sleep 20")
    began = asyncio.get_running_loop().time()
    with pytest.raises(GitTimedOut):
        await run_git(sample.path, "talk", timeout_s=0.5)
    assert asyncio.get_running_loop().time() - began < 10


@pytest.mark.asyncio
async def test_silent_stream_times_out(sample: Sample) -> None:
    """Git that stops talking is ended; the time a slow reader takes does not count."""
    sample.git("config", "alias.talk", "!echo a; exec sleep 60")

    async def read_slowly() -> None:
        async with stream_git(sample.path, "talk", silent_s_max=0.5) as pieces:
            async for _ in pieces:
                await asyncio.sleep(0.7)

    with pytest.raises(GitTimedOut):
        await read_slowly()


@pytest.mark.asyncio
async def test_many_calls_at_once_share_few_processes(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A burst of calls waits for its turn and all of it is answered."""
    monkeypatch.setattr("node_agent.git.command.PROCESSES_MAX", 2)
    found = await asyncio.gather(*(run_git(sample.path, "rev-parse", "HEAD") for _ in range(8)))
    assert {one.line.decode() for one in found} == {sample.head}


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIG_DFL)
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
