"""One attempt through real processes and real git: from a start request to its end."""

import asyncio
import json
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from node_agent.attempt_runner import DESCRIPTION_BYTES_MAX, NodeFull, cut_text
from node_agent.executors import ExecutorUnavailable
from node_agent.git.errors import BranchMissing, NoCommits
from node_agent.store import attempts, operations, tasks
from node_agent.store.checkouts import NoCheckout
from node_agent.store.errors import StoreBroken, StoreFull
from protocol.errors import ErrorCode, SkepError
from protocol.log_chunks import EVENT, STDERR, STDOUT, GapChunk, open_chunk
from protocol.ops import OpKind, decode_body
from protocol.states import AttemptOutcome, ExecutionKind, ExecutionStatus
from tests.node_agent.workshop import Workshop, git, make_repository, open_workshop


def python(code: str) -> str:
    """A command line that runs this program."""
    return shlex.join([sys.executable, "-c", code])


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    """A node with one checkout."""
    async with open_workshop(tmp_path / "data", 11) as opened:
        await opened.add_checkout(make_repository(tmp_path / "project"))
        yield opened


@pytest.mark.asyncio
async def test_an_attempt_from_start_to_end(shop: Workshop, tmp_path: Path):
    """Worktree, process, log and end are there, and the user's checkout is untouched."""
    attempt = await shop.run(
        "sh -c 'echo out; echo err >&2; echo new > file; git add file;"
        " git commit --quiet -m done; echo left > other'"
    )
    assert (attempt.phase, attempt.outcome, attempt.reason) == ("ended", "succeeded", None)
    assert attempt.hold_until_ms is None
    assert attempt.branch.startswith("skep/try-it-")
    assert attempt.target_branch == "main"
    project = tmp_path / "project"
    assert attempt.head_commit == git(project, "rev-parse", attempt.branch)
    assert attempt.base_commit == git(project, "rev-parse", "main")
    assert git(project, "status", "--porcelain") == ""
    assert git(project, "log", "-1", "--format=%an <%ae>", attempt.branch) == (
        "Skep on bench <skep@node.invalid>"
    )
    assert Path(attempt.worktree or "", "other").read_text() == "left\n"
    (execution,) = await shop.executions(attempt)
    assert (execution.kind, execution.status, execution.exit_code) == ("agent", "succeeded", 0)
    assert execution.process is not None
    assert execution.head_before == attempt.base_commit
    assert execution.head_after == attempt.head_commit
    assert await shop.output(execution, STDOUT) == b"out\n"
    assert await shop.output(execution, STDERR) == b"err\n"
    end = await shop.log_end(execution)
    assert end is not None
    assert (end.entries, end.bytes) == (2, 8)
    log = await shop.chunks.log(execution.id)
    assert log is not None
    assert (log.closed, log.next_chunk - 1) == (True, end.chunks)
    assert not (shop.folder / "runs" / execution.id).exists()


@pytest.mark.asyncio
async def test_each_change_is_an_op(shop: Workshop):
    """The journal tells of the attempt step by step, in order, and ends with its outcome."""
    attempt = await shop.run("true")
    ops = await shop.journal.ops_after(11, 0, ops_max=1000, bytes_max=1 << 30)
    told = [op.kind for op in ops]
    assert told[:2] == ["checkout", "task"]
    own = [decode_body(op.kind, op.body) for op in ops if op.kind == OpKind.ATTEMPT]
    phases = list(dict.fromkeys(state.phase for state in own))
    assert phases == ["created", "preparing", "running", "finishing", "ended"]
    assert own[-1] == attempt
    executions = [decode_body(op.kind, op.body) for op in ops if op.kind == OpKind.EXECUTION]
    assert [state.status for state in executions] == ["running", "running", "succeeded"]
    assert [state.process is None for state in executions] == [True, False, False]
    assert told.index("log_end") < len(told) - 1 - told[::-1].index("execution")


@pytest.mark.asyncio
async def test_a_start_is_one_commit_with_its_answer(shop: Workshop):
    """Task, attempt, key and answer stand together; the same key again gives the same attempt."""
    first = await shop.start("true", key="k1")
    again = await shop.start("true", key="k1")
    assert again == first
    known = await shop.database.read(operations.find, "k1")
    assert known is not None
    assert known.reply is not None
    assert [one.id for one in await shop.database.read(attempts.unended)] == [first.id]
    task = await shop.database.read(tasks.find, first.task_id)
    assert task is not None
    assert task.title == "Try it"
    with pytest.raises(SkepError) as reused:
        await shop.start("false", key="k1")
    assert reused.value.code is ErrorCode.KEY_REUSED
    await shop.runner.wait_ended(first.id)
    assert len(await shop.database.read(attempts.page, limit=10)) == 1


@pytest.mark.asyncio
async def test_same_key_at_once_starts_once(shop: Workshop):
    """Two starts under one key race to one attempt."""
    found = await asyncio.gather(*(shop.start("true", key="k") for _ in range(5)))
    assert len({attempt.id for attempt in found}) == 1
    await shop.runner.wait_ended(found[0].id)
    assert len(await shop.executions(found[0])) == 1


@pytest.mark.asyncio
async def test_a_failing_command(shop: Workshop):
    """The exit code is the reason, and the worktree is held."""
    attempt = await shop.run("sh -c 'exit 3'")
    assert (attempt.outcome, attempt.reason) == ("failed", "exit_code 3")
    assert attempt.hold_until_ms is not None
    (execution,) = await shop.executions(attempt)
    assert (execution.status, execution.exit_code) == ("failed", 3)


@pytest.mark.asyncio
async def test_a_program_that_is_not_there(shop: Workshop):
    """The attempt fails with the reason, and its log says so to whoever looks there."""
    attempt = await shop.run("no-such-program-anywhere --flag")
    assert attempt.outcome is AttemptOutcome.FAILED
    assert "no-such-program-anywhere" in (attempt.reason or "")
    (execution,) = await shop.executions(attempt)
    assert execution.status is ExecutionStatus.FAILED
    assert b"no-such-program-anywhere" in await shop.output(execution, EVENT)
    assert (await shop.log_end(execution)).entries == 1


@pytest.mark.asyncio
async def test_killed_from_outside(shop: Workshop):
    """SIGKILL of the program is an end of its own, and no success."""
    attempt = await shop.run("sh -c 'kill -9 $$'")
    (execution,) = await shop.executions(attempt)
    assert (execution.status, execution.signal) == ("killed", 9)
    assert (attempt.outcome, attempt.reason) == ("failed", "signal 9")


@pytest.mark.asyncio
async def test_stopping(shop: Workshop):
    """A running attempt is interrupted and ends as stopped; asked again, it is answered."""
    attempt = await shop.start("sh -c 'echo on; sleep 1000'")
    await until_output(shop, attempt, b"on\n")
    await shop.runner.stop(attempt.id)
    ended = await shop.runner.wait_ended(attempt.id)
    assert (ended.phase, ended.outcome) == ("ended", "stopped")
    (execution,) = await shop.executions(ended)
    assert execution.status is ExecutionStatus.KILLED
    assert (await shop.runner.stop(attempt.id)).attempt == ended


async def until_output(shop: Workshop, attempt, text: bytes, kind=ExecutionKind.AGENT) -> None:
    """Wait until an execution of the attempt has printed this."""
    async with asyncio.timeout(60):
        while True:
            for execution in await shop.executions(attempt):
                if execution.kind is kind and text in await shop.output(execution, STDOUT):
                    return
            await asyncio.sleep(0.02)


@pytest.mark.asyncio
async def test_stopping_what_ignores_it(shop: Workshop):
    """Interrupt and terminate are ignored; after the grace it is killed."""
    attempt = await shop.start(
        python(
            "import signal, time\n"
            "for s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, signal.SIG_IGN)\n"
            "print('on', flush=True)\n"
            "time.sleep(1000)"
        )
    )
    await until_output(shop, attempt, b"on\n")
    await shop.runner.stop(attempt.id, grace_s=0.2)
    ended = await shop.runner.wait_ended(attempt.id)
    assert ended.outcome is AttemptOutcome.STOPPED
    (execution,) = await shop.executions(ended)
    assert execution.signal == 9


@pytest.mark.asyncio
async def test_stopping_before_anything_runs(shop: Workshop):
    """A stop that comes first of all leaves no process begun, or one that is stopped at once."""
    attempt = await shop.start("sleep 1000")
    await shop.runner.stop(attempt.id)
    async with asyncio.timeout(60):
        ended = await shop.runner.wait_ended(attempt.id)
    assert ended.outcome is AttemptOutcome.STOPPED


@pytest.mark.asyncio
async def test_setup_agent_and_cleanup(shop: Workshop):
    """Scripts run in the worktree around the agent, each an execution with a log of its own."""
    attempt = await shop.run(
        "sh -c 'cat made; echo work >> made'",
        setup_script="echo 'from $0' > made\necho setting up\n",
        cleanup_script="cat made; rm made",
    )
    assert attempt.outcome is AttemptOutcome.SUCCEEDED
    found = await shop.executions(attempt)
    assert [execution.kind for execution in found] == ["setup", "agent", "cleanup"]
    assert [await shop.output(execution, STDOUT) for execution in found] == [
        b"setting up\n",
        b"from $0\n",
        b"from $0\nwork\n",
    ]
    assert not Path(attempt.worktree or "", "made").exists()


@pytest.mark.asyncio
async def test_a_failing_setup_keeps_the_agent_from_running(shop: Workshop):
    """The attempt fails for the setup's reason; cleanup still runs."""
    attempt = await shop.run("true", setup_script="exit 4", cleanup_script="echo tidy")
    assert (attempt.outcome, attempt.reason) == ("failed", "setup: exit_code 4")
    assert [one.kind for one in await shop.executions(attempt)] == ["setup", "cleanup"]


@pytest.mark.asyncio
async def test_a_failing_cleanup_is_a_warning(shop: Workshop):
    """The work is done all the same."""
    attempt = await shop.run("true", cleanup_script="exit 5")
    assert (attempt.outcome, attempt.reason) == ("succeeded_with_warning", "cleanup: exit_code 5")


@pytest.mark.asyncio
async def test_leftovers_are_committed_where_that_is_wanted(shop: Workshop):
    """What the agent left is a commit on its branch; without the wish it stays as it is."""
    attempt = await shop.run("sh -c 'echo new > file'", commit_leftovers=True)
    worktree = Path(attempt.worktree or "")
    assert git(worktree, "status", "--porcelain") == ""
    assert git(worktree, "show", f"{attempt.head_commit}:file") == "new"
    assert attempt.head_commit != attempt.base_commit
    other = await shop.run("sh -c 'echo new > file'")
    assert other.head_commit == other.base_commit


@pytest.mark.asyncio
async def test_what_a_program_finds_in_its_environment(shop: Workshop):
    """Skep's own names, set or absent and never empty, and nothing of the node agent's."""
    attempt = await shop.run(
        python("import os, json; print(json.dumps(dict(os.environ)))"),
        environment={"COLOUR": "blue", "GIT_AUTHOR_NAME": "Someone"},
        project_id="p-1",
        checkout_id=(await checkout_id(shop)),
    )
    (execution,) = await shop.executions(attempt)
    found = json.loads(await shop.output(execution, STDOUT))
    assert {name: found[name] for name in found if name.startswith("SKEP_")} == {
        "SKEP_NODE_ID": "node",
        "SKEP_PROJECT_ID": "p-1",
        "SKEP_TASK_ID": attempt.task_id,
        "SKEP_ATTEMPT_ID": attempt.id,
        "SKEP_EXECUTION_ID": execution.id,
        "SKEP_BRANCH": attempt.branch,
        "SKEP_TARGET_BRANCH": "main",
    }
    assert found["COLOUR"] == "blue"
    assert found["GIT_AUTHOR_NAME"] == "Someone"
    assert found["GIT_COMMITTER_NAME"] == "Skep on bench"
    assert "" not in {found[name] for name in found if name.startswith("SKEP_")}


async def checkout_id(shop: Workshop) -> str:
    """The id of the only checkout."""
    _, records = await shop.journal.snapshot()
    return next(record.entity_id for record in records if record.kind == "checkout")


@pytest.mark.asyncio
async def test_the_prompt_is_the_commands_input(shop: Workshop):
    """A command reads what it is told from its standard input, to the end."""
    attempt = await shop.run("cat", prompt="do this\nand that")
    (execution,) = await shop.executions(attempt)
    assert await shop.output(execution, STDOUT) == b"do this\nand that"


@pytest.mark.asyncio
async def test_no_shell_reads_the_command(shop: Workshop):
    """Words are split, and nothing is expanded."""
    attempt = await shop.run("echo '$HOME;' `id` > x *")
    (execution,) = await shop.executions(attempt)
    assert await shop.output(execution, STDOUT) == b"$HOME; `id` > x *\n"


@pytest.mark.asyncio
async def test_secrets_are_hidden(tmp_path: Path):
    """Values of the node's secrets and of secret variables are in no log and in no op."""
    async with open_workshop(tmp_path / "data", 1, secrets=lambda: [b"hunter2-hunter2"]) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        attempt = await shop.run(
            "sh -c 'echo hunter2-hunter2 $MY_TOKEN $PLAIN'",
            environment={"MY_TOKEN": "s3cr3t-value", "PLAIN": "plain-value"},
            task_title="",
            task_description="with hunter2-hunter2",
        )
        assert "***" in attempt.task_title
        (execution,) = await shop.executions(attempt)
        assert await shop.output(execution, STDOUT) == b"*** *** plain-value\n"
        gone = await shop.run("/no/hunter2-hunter2/program")
        assert gone.reason is not None
        assert "***" in gone.reason
        ops = await shop.journal.ops_after(1, 0, ops_max=1000, bytes_max=1 << 30)
        written = b"".join(op.body for op in ops)
        assert b"hunter2" not in written
        assert b"s3cr3t" not in written


@pytest.mark.asyncio
async def test_slots(shop: Workshop):
    """No more attempts than slots; an end makes room."""
    first = await shop.start("sleep 1000")
    second = await shop.start("sleep 1000")
    assert await shop.runner.busy_slots() == 2
    with pytest.raises(NodeFull):
        await shop.start("true")
    await shop.runner.stop(first.id)
    await shop.runner.wait_ended(first.id)
    assert (await shop.run("true")).outcome is AttemptOutcome.SUCCEEDED
    await shop.runner.stop(second.id)
    await shop.runner.wait_ended(second.id)


@pytest.mark.asyncio
async def test_slots_are_counted_in_the_starts_own_commit(shop: Workshop):
    """Starts that come at once never take more slots than there are."""
    found = await asyncio.gather(
        *(shop.start("sleep 1000") for _ in range(6)), return_exceptions=True
    )
    begun = [attempt for attempt in found if not isinstance(attempt, Exception)]
    assert len(begun) == 2
    assert sum(isinstance(refused, NodeFull) for refused in found) == 4
    for attempt in begun:
        await shop.runner.stop(attempt.id)
        await shop.runner.wait_ended(attempt.id)


@pytest.mark.asyncio
async def test_what_is_refused_before_an_attempt_exists(shop: Workshop, tmp_path: Path):
    """Each refusal has its own type, names what would do, and leaves nothing behind."""
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "--quiet")
    with pytest.raises(NoCommits):
        await shop.add_checkout(tmp_path / "empty")
    with pytest.raises(BranchMissing):
        await shop.start("true", base_branch="nowhere")
    with pytest.raises(NoCheckout) as missing:
        await shop.start("true", project="elsewhere")
    assert "project" in missing.value.hint
    with pytest.raises(ExecutorUnavailable) as unknown:
        await shop.start("true", executor="telepathy")
    assert "command" in unknown.value.hint
    for fields, field in (
        ({"environment": {"SKEP_NODE_ID": "x"}}, "environment"),
        ({"environment": {"A=B": "x"}}, "environment"),
        ({"target_branch": "--upload-pack=x"}, "target_branch"),
        ({"base_branch": "--upload-pack=x"}, "base_branch"),
        ({"setup_script": "x" * 300_000}, "setup_script"),
    ):
        with pytest.raises(SkepError) as refused:
            await shop.start("true", **fields)
        assert refused.value.details["field"] == field
    for command in ("", "   ", "'unclosed", "a\0b"):
        with pytest.raises(SkepError) as refused:
            await shop.start(command)
        assert refused.value.code is ErrorCode.INVALID
    assert await shop.database.read(attempts.page, limit=10) == []
    assert not (shop.folder / "worktrees").exists()


@pytest.mark.asyncio
async def test_another_base_and_target(shop: Workshop, tmp_path: Path):
    """The branch begins where the request says, and its target is what it says."""
    project = tmp_path / "project"
    git(project, "checkout", "--quiet", "-b", "develop")
    git(project, "commit", "--quiet", "--allow-empty", "-m", "second")
    git(project, "checkout", "--quiet", "main")
    attempt = await shop.run("true", base_branch="develop")
    assert attempt.base_commit == git(project, "rev-parse", "develop")
    assert attempt.target_branch == "develop"
    other = await shop.run("true", base_branch="develop", target_branch="main")
    assert other.target_branch == "main"


@pytest.mark.asyncio
async def test_a_worktree_that_cannot_be_made(tmp_path: Path):
    """The attempt ends as failed with the reason, and no program was run."""
    (tmp_path / "in the way").write_text("a file")
    async with open_workshop(
        tmp_path / "data", 1, worktrees_dir=tmp_path / "in the way" / "worktrees"
    ) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        attempt = await shop.run("true", setup_script="true", cleanup_script="true")
        assert (attempt.phase, attempt.outcome) == ("ended", "failed")
        assert (attempt.reason or "").startswith("worktree: ")
        assert await shop.executions(attempt) == []


@pytest.mark.asyncio
async def test_every_byte_is_in_the_log(shop: Workshop):
    """Megabytes in many writes, with NULs, no UTF-8 and no newline at the end, come out equal."""
    attempt = await shop.run(
        python(
            "import sys, random\n"
            "r = random.Random(7)\n"
            "for n in range(300): sys.stdout.buffer.write(r.randbytes(r.randrange(20000)))\n"
            "sys.stdout.buffer.write(b'\\x00\\xff' * 40000)"
        )
    )
    import random

    r = random.Random(7)
    expected = b"".join(r.randbytes(r.randrange(20000)) for _ in range(300)) + b"\0\xff" * 40000
    (execution,) = await shop.executions(attempt)
    assert await shop.output(execution, STDOUT) == expected
    chunks = await shop.chunks_of(execution)
    assert not any(isinstance(chunk, GapChunk) for chunk in chunks)
    end = await shop.log_end(execution)
    assert end is not None
    assert end.bytes == len(expected)


@pytest.mark.asyncio
async def test_a_lone_line_is_there_soon(shop: Workshop):
    """A line shows while its program goes on and prints nothing more."""
    attempt = await shop.start("sh -c 'echo soon; sleep 1000'")
    async with asyncio.timeout(60):
        await until_output(shop, attempt, b"soon\n")
    await shop.runner.stop(attempt.id)
    await shop.runner.wait_ended(attempt.id)


@pytest.mark.asyncio
async def test_a_fault_of_ours_ends_the_attempt_and_its_processes(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
):
    """It fails with the reason, a notice tells of it, and nothing runs on unseen."""

    async def broken(cuts: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(shop.chunks, "commit", broken)
    attempt = await shop.start("sh -c 'echo $$; sleep 1000'")
    ended = await shop.runner.wait_ended(attempt.id)
    assert (ended.phase, ended.outcome) == ("ended", "failed")
    assert "a fault" in (ended.reason or "")
    (execution,) = await shop.executions(ended)
    assert execution.status is ExecutionStatus.KILLED
    log = await shop.chunks.log(execution.id)
    assert log is not None
    assert log.closed
    ops = await shop.journal.ops_after(11, 0, ops_max=1000, bytes_max=1 << 30)
    (notice,) = [decode_body(op.kind, op.body) for op in ops if op.kind == OpKind.NOTICE]
    assert (notice.code, notice.attempt_id) == ("attempt_broke", attempt.id)
    assert await shop.runner.busy_slots() == 0


@pytest.mark.asyncio
async def test_a_store_that_broke_ends_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """The node agent ends over it; what runs goes on, and the next one misses nothing of it."""
    async with open_workshop(tmp_path / "data", 11) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))

        async def broken(cuts: object) -> None:
            raise StoreBroken("logs.db", "disk I/O error")

        monkeypatch.setattr(shop.chunks, "commit", broken)
        attempt = await shop.start(
            "sh -c 'echo one; until [ -e ../go ]; do sleep 0.05; done; echo two'"
        )

        async def left(what: str) -> None:
            async with asyncio.timeout(60):
                while f"{what} is left where it stands" not in caplog.text:
                    await asyncio.sleep(0.05)

        await left(f"attempt {attempt.id}")
        waiting = "echo three; until [ -e ../go ]; do sleep 0.05; done"
        script = await shop.script(attempt, waiting, name="dev")
        await left(f"script {script.id}")
    async with open_workshop(tmp_path / "data", 12) as shop:
        await shop.recover()
        (shop.context.worktrees_dir / "go").touch()
        async with asyncio.timeout(60):
            ended = await shop.runner.wait_ended(attempt.id)
            await shop.runner.scripts.wait_ended(script.id)
        assert (ended.outcome, ended.reason) == ("succeeded", None)
        (execution,) = await shop.agents(ended)
        assert await shop.output(execution, STDOUT) == b"one\ntwo\n"
        assert await shop.output(script, STDOUT) == b"three\n"


@pytest.mark.asyncio
async def test_a_full_disk_holds_an_attempt_up_and_no_more(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
):
    """What runs is waited for; with room again the log is whole and the attempt ends well."""
    commit = shop.chunks.commit
    refused = 0

    async def full(cuts) -> None:
        nonlocal refused
        if refused < 2:
            refused += 1
            raise StoreFull("logs.db")
        await commit(cuts)

    monkeypatch.setattr(shop.chunks, "commit", full)
    attempt = await shop.run("echo whole")
    assert (attempt.outcome, refused) == ("succeeded", 2)
    (execution,) = await shop.executions(attempt)
    assert await shop.output(execution, STDOUT) == b"whole\n"


@pytest.mark.asyncio
async def test_files_of_the_checkout_that_are_wanted(shop: Workshop, tmp_path: Path):
    """Ignored files that the project names are in the worktree, and in no commit."""
    project = tmp_path / "project"
    (project / ".gitignore").write_text(".env\n")
    git(project, "add", ".gitignore")
    git(project, "commit", "--quiet", "-m", "ignore")
    (project / ".env").write_text("A=1\n")
    attempt = await shop.run("cat .env", copy_files=[".env"], commit_leftovers=True)
    (execution,) = await shop.executions(attempt)
    assert await shop.output(execution, STDOUT) == b"A=1\n"
    assert attempt.head_commit == attempt.base_commit


@pytest.mark.asyncio
async def test_a_very_large_log_waits_for_its_end(tmp_path: Path):
    """Beyond its size it is shown no further while the program runs; then the rest follows."""
    async with open_workshop(tmp_path / "data", 1, live_log_bytes_max=100_000) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        code = (
            "import sys, time\n"
            "for n in range(40): sys.stdout.write(f'{n:03}' * 3000 + '\\n'); time.sleep(0.02)\n"
        )
        attempt = await shop.run(python(code))
        (execution,) = await shop.executions(attempt)
        expected = b"".join(b"%03d" % n * 3000 + b"\n" for n in range(40))
        assert await shop.output(execution, STDOUT) == expected
        assert (await shop.output(execution, EVENT)).startswith(b"This log is very large")
        chunks = await shop.chunks_of(execution)
        held = next(n for n, chunk in enumerate(chunks) if holds_event(chunk))
        assert 100_000 < sum(chunk.raw_bytes for chunk in chunks[: held + 1]) < 300_000


def holds_event(chunk) -> bool:
    """Whether there is an event in this chunk."""
    return any(segment.stream == EVENT for segment in open_chunk(chunk))


def test_long_descriptions_are_cut_where_it_shows():
    """Text is cut at a whole character and says that it was."""
    assert cut_text("short", 100) == "short"
    cut = cut_text("ä" * 100, 51)
    assert cut.endswith(" [...]")
    assert len(cut.encode()) <= 51
    assert len(cut_text("x" * 100_000, DESCRIPTION_BYTES_MAX)) == DESCRIPTION_BYTES_MAX
