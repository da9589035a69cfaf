"""Run the git program: argv lists, a clean environment, bounded output, an end to everything.

Owns what every call of git has in common: nothing of the repository or of the user may run a hook,
open an editor or a pager, ask a question or start work in the background. Must not know what the
commands mean.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from node_agent.config import process_environment
from node_agent.git.errors import (
    STDERR_TAIL_BYTES_MAX,
    GitFailed,
    GitMissing,
    GitTimedOut,
    OutputTooLarge,
    WorktreeGone,
)

PROGRAM: Final = "git"
TIMEOUT_S: Final = 60.0
#: Commands that write many files, or move them over a network or through a filter.
LONG_TIMEOUT_S: Final = 900.0
OUTPUT_BYTES_MAX: Final = 16 * 1024 * 1024
#: Git processes of `run_git` at a time; more would only wait for the same disk.
PROCESSES_MAX: Final = 16
_READ_BYTES: Final = 64 * 1024
#: Between the kill and the exit of a process stands only the kernel, and a disk that hangs.
_REAP_S: Final = 10.0
#: For what is left in the pipes of a process that is gone.
_DRAIN_S: Final = 1.0

#: Options of every call, each against something a repository or a user could have set.
OPTIONS: Final = (
    "--no-pager",
    *(
        word
        for setting in (
            "core.hooksPath=/dev/null",
            # A file system monitor is a program the repository's own settings name.
            "core.fsmonitor=false",
            "core.quotePath=false",
            "core.safecrlf=false",
            "core.filesRefLockTimeout=3000",
            "core.packedRefsTimeout=5000",
            "protocol.ext.allow=never",
            "color.ui=false",
            "gc.auto=0",
            "maintenance.auto=false",
            "submodule.recurse=false",
            "branch.autoSetupMerge=false",
            "commit.gpgSign=false",
            "i18n.commitEncoding=UTF-8",
            "i18n.logOutputEncoding=UTF-8",
            "diff.suppressBlankEmpty=false",
            "advice.addEmbeddedRepo=false",
        )
        for word in ("-c", setting)
    ),
)

#: Variables of git's own that say how to reach its settings and servers; all others are dropped,
#: above all GIT_DIR and its like, which would lead a command into another repository.
_KEPT_VARIABLES: Final = frozenset(
    {
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CONFIG_SYSTEM",
        "GIT_EXEC_PATH",
        "GIT_SSH",
        "GIT_SSH_COMMAND",
        "GIT_SSH_VARIANT",
        "GIT_SSL_CAINFO",
        "GIT_SSL_CAPATH",
        "GIT_SSL_CERT",
        "GIT_SSL_KEY",
        "GIT_SSL_NO_VERIFY",
        "GIT_SSL_VERSION",
        "GIT_TEMPLATE_DIR",
    }
)
_SET_VARIABLES: Final = {
    "LC_ALL": "C",
    "LANGUAGE": "C",
    "GIT_TERMINAL_PROMPT": "0",
    # Empty is "none"; unset would fall back to a window asked for by SSH_ASKPASS.
    "GIT_ASKPASS": "",
    "SSH_ASKPASS_REQUIRE": "never",
    "GIT_EDITOR": ":",
    "GIT_SEQUENCE_EDITOR": ":",
    "GIT_PAGER": "cat",
    # A path is a path, also where it begins with ':' or holds a star.
    "GIT_LITERAL_PATHSPECS": "1",
    # A reading command must not take the index's lock from an agent that is about to commit.
    "GIT_OPTIONAL_LOCKS": "0",
}


@dataclass(frozen=True)
class GitResult:
    """What a finished git said."""

    stdout: bytes
    stderr: bytes
    exit_code: int

    @property
    def line(self) -> bytes:
        """The output without its final newline."""
        return self.stdout.removesuffix(b"\n")


def git_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what git gets of a process's environment."""
    kept = {
        name: value
        for name, value in environment.items()
        # Our own settings may be tokens; a filter of the repository would see them.
        if name in _KEPT_VARIABLES or not name.startswith(("GIT_", "SKEP_"))
    }
    return kept | _SET_VARIABLES


async def run_git(
    cwd: Path,
    *args: str | bytes,
    stdin: bytes | None = None,
    timeout_s: float = TIMEOUT_S,
    output_bytes_max: int = OUTPUT_BYTES_MAX,
    env: Mapping[str, str] | None = None,
    exit_codes: Sequence[int] = (0,),
) -> GitResult:
    """Run git to its end and return what it wrote.

    `env` is laid over git's environment. Raises GitFailed for an exit code not in `exit_codes`,
    GitTimedOut, OutputTooLarge, GitMissing, and WorktreeGone where `cwd` is no folder.
    """
    argv = _argv(args)
    async with _processes(), _running(cwd, argv, stdin, env) as running:
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(timeout_s):
                while piece := await running.read():
                    size += len(piece)
                    if size > output_bytes_max:
                        raise OutputTooLarge(_words(argv), output_bytes_max)
                    pieces.append(piece)
                exit_code = await running.exit_code()
        except TimeoutError as error:
            raise GitTimedOut(_words(argv), timeout_s) from error
        if exit_code not in exit_codes:
            raise GitFailed(_words(argv), exit_code, running.stderr)
        return GitResult(b"".join(pieces), running.stderr, exit_code)


@contextlib.asynccontextmanager
async def stream_git(
    cwd: Path,
    *args: str | bytes,
    stdin: bytes | None = None,
    silent_s_max: float = TIMEOUT_S,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Run git and give its output as it comes; leaving early ends it.

    Git is held back while the caller does not read, for as long as the caller likes; it is ended
    when it is being read from and stays silent for `silent_s_max`. A failure of git is raised from
    the iterator, after the last piece.
    """
    argv = _argv(args)
    async with _running(cwd, argv, stdin, env) as running:

        async def pieces() -> AsyncGenerator[bytes, None]:
            try:
                while True:
                    async with asyncio.timeout(silent_s_max):
                        piece = await running.read()
                    if not piece:
                        break
                    yield piece
                async with asyncio.timeout(silent_s_max):
                    exit_code = await running.exit_code()
            except TimeoutError as error:
                raise GitTimedOut(_words(argv), silent_s_max) from error
            if exit_code:
                raise GitFailed(_words(argv), exit_code, running.stderr)

        output = pieces()
        try:
            yield output
        finally:
            await output.aclose()


_SLOTS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]] = WeakKeyDictionary()


def _processes() -> asyncio.Semaphore:
    """The running loop's bound on git processes."""
    loop = asyncio.get_running_loop()
    if loop not in _SLOTS:
        _SLOTS[loop] = asyncio.Semaphore(PROCESSES_MAX)
    return _SLOTS[loop]


def _argv(args: Sequence[str | bytes]) -> list[str | bytes]:
    return [PROGRAM, *OPTIONS, *args]


def _words(argv: Sequence[str | bytes]) -> list[str]:
    """The command line as an error shows it: without the options that every call has."""
    words = [os.fsdecode(word) for word in argv]
    return [words[0], *words[1 + len(OPTIONS) :]]


class _Running:
    """One git process: its output, the tail of its errors, its end."""

    def __init__(self, process: asyncio.subprocess.Process, stdin: bytes | None) -> None:
        self._process = process
        self._stderr = bytearray()
        self._tasks = [asyncio.create_task(self._keep_errors())]
        if stdin is not None:
            self._tasks.append(asyncio.create_task(self._feed(stdin)))

    @property
    def stderr(self) -> bytes:
        return bytes(self._stderr)

    async def read(self) -> bytes:
        assert self._process.stdout is not None  # noqa: S101  asked for at the start
        return await self._process.stdout.read(_READ_BYTES)

    async def exit_code(self) -> int:
        await asyncio.gather(*self._tasks)
        return await self._process.wait()

    async def end(self) -> None:
        """Kill what is left of it, and wait until it is gone."""
        if self._process.returncode is None:
            # Filters and transports that git started are in its process group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        # The process counts as ended once its pipes are, and a pipe nobody reads never is.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await asyncio.gather(self._drop_output(), *self._tasks, return_exceptions=True)
                await self._process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # A grandchild in a session of its own may hold the pipes open; we close our ends.
        self._process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001  no public way
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REAP_S):
                await self._process.wait()

    async def _drop_output(self) -> None:
        while await self.read():
            pass

    async def _keep_errors(self) -> None:
        assert self._process.stderr is not None  # noqa: S101  asked for at the start
        while piece := await self._process.stderr.read(_READ_BYTES):
            self._stderr += piece
            del self._stderr[:-STDERR_TAIL_BYTES_MAX]

    async def _feed(self, content: bytes) -> None:
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101  asked for at the start
        # Git may end without reading all of it; its exit code says what that means.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            pipe.write(content)
            await pipe.drain()
        pipe.close()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await pipe.wait_closed()


async def _spawn(
    cwd: Path, argv: Sequence[str | bytes], stdin: bytes | None, env: Mapping[str, str] | None
) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env=git_environment(process_environment()) | dict(env or {}),
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # No terminal to ask questions on, and a process group of its own to end it by.
            start_new_session=True,
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        # The same error stands for a missing program and a missing folder.
        if not os.path.isdir(cwd):  # noqa: PTH112, ASYNC240  one look, after a failure
            raise WorktreeGone(str(cwd)) from error
        raise GitMissing(PROGRAM) from error


@contextlib.asynccontextmanager
async def _running(
    cwd: Path, argv: Sequence[str | bytes], stdin: bytes | None, env: Mapping[str, str] | None
) -> AsyncIterator[_Running]:
    spawning = asyncio.ensure_future(_spawn(cwd, argv, stdin, env))
    try:
        process = await asyncio.shield(spawning)
    except asyncio.CancelledError:
        # Half made, asyncio would end git alone, and wait for what git has started by then.
        with contextlib.suppress(OSError, GitMissing, WorktreeGone):
            await _Running(await spawning, stdin).end()
        raise
    running = _Running(process, stdin)
    try:
        yield running
    finally:
        ending = asyncio.ensure_future(running.end())
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            # Cancelled while ending: the process must still be gone before we are.
            await ending
            raise
