"""What the demo starts, and that none of it outlives the demo.

Owns `.skep-demo/`: the lock that lets one demo use it, the pid file, the logs, and the end of
every process, also of those that an earlier demo left when it was killed.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import psutil

from scripts.demonstration.screen import StepFailed

BIN: Final = Path(sys.executable).parent
#: In the environment of all that the demo starts: how what an earlier one left is found.
MARK: Final = "SKEP_DEMO_FOLDER"
_COMMAND_S_MAX: Final = 120.0
_READY_S_MAX: Final = 30.0
_STOP_S_MAX: Final = 8.0
_LOOK_S: Final = 0.03


class DemoFolder:
    """`.skep-demo/` while one demo uses it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"
        self._pids = path / "processes.json"
        self._lock: int | None = None

    def take(self) -> None:
        """Let no other demo use the folder. Raises StepFailed where one does."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(descriptor, 20).decode().strip()
            os.close(descriptor)
            raise StepFailed(
                f"another demo runs in this checkout (process {owner or 'unknown'})",
                "End it with Ctrl-C in its terminal, then start this one again.",
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._lock = descriptor

    def leave(self) -> None:
        """Let another demo use the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def left_behind(self) -> bool:
        """Whether an earlier demo left anything."""
        return any(one.name != "lock" for one in self.path.iterdir())

    def clean(self) -> None:
        """End what an earlier demo left running, and remove what it wrote."""
        end(self.living())
        for one in self.path.iterdir():
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            elif one.name != "lock":
                one.unlink()
        self.logs.mkdir()

    def living(self) -> list[psutil.Process]:
        """Every process that came of a demo in this folder: by pid file, mark or run folder."""
        found = {process.pid: process for process in self._recorded()}
        folder = f"{self.path}{os.sep}"
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                words = process.cmdline()
                # A supervisor has no environment of ours, but its run folder is in here.
                supervisor = any(word.endswith("supervisor.py") for word in words)
                ours = supervisor and any(word.startswith(folder) for word in words)
                if ours or process.environ().get(MARK) == str(self.path):
                    found[process.pid] = process
        found.pop(os.getpid(), None)
        return [process for process in found.values() if _lives(process)]

    def record(self, process: subprocess.Popen[Any]) -> None:
        """Write down a process, with its start: a pid alone may be another's by then."""
        written = self._read_pids()
        with contextlib.suppress(psutil.Error):
            written.append([process.pid, psutil.Process(process.pid).create_time()])
        draft = self._pids.with_suffix(".new")
        draft.write_text(json.dumps(written))
        draft.replace(self._pids)

    def _read_pids(self) -> list[list[Any]]:
        with contextlib.suppress(OSError, ValueError):
            written: list[list[Any]] = json.loads(self._pids.read_text())
            return written
        return []

    def _recorded(self) -> Iterable[psutil.Process]:
        for pid, started in self._read_pids():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if abs(process.create_time() - started) < 0.01:
                    yield process


class Program:
    """A hive or a node agent: started, killed, started again."""

    def __init__(self, folder: DemoFolder, name: str, argv: list[str], ready: str) -> None:
        self.name = name
        self.log_path = folder.logs / f"{name}.log"
        self._folder = folder
        self._argv = argv
        self._ready = ready.encode()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it says that it is ready. Raises StepFailed."""
        begun = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment(self._folder),
                # Ctrl-C is for the demo, which then ends everything in order.
                start_new_session=True,
            )
        self._folder.record(self._process)
        deadline_s = time.monotonic() + _READY_S_MAX
        while self._ready not in self._said(begun):
            if self._process.poll() is not None:
                said = self._said(begun).decode(errors="replace")
                raise _ended_badly(f"{self.name} ended as it started", said)
            if time.monotonic() > deadline_s:
                raise StepFailed(f"{self.name} was not ready within {_READY_S_MAX:.0f} s")
            time.sleep(_LOOK_S)

    def kill(self) -> None:
        """End it with SIGKILL: no word, no tidying."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP_S_MAX)

    def stop(self) -> None:
        """Ask it to end, and see to it that it does."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.kill()

    def _said(self, begun: int) -> bytes:
        with self.log_path.open("rb") as log:
            log.seek(begun)
            return log.read()


def environment(folder: DemoFolder, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of all that the demo runs: none of the user's own settings of Skep."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SKEP_")}
    kept["PATH"] = f"{BIN}{os.pathsep}{kept.get('PATH', os.defpath)}"
    kept["PYTHONUNBUFFERED"] = "1"
    kept[MARK] = str(folder.path)
    return {**kept, **(more or {})}


def run(argv: list[str], env: Mapping[str, str], *, cwd: Path | None = None) -> str:
    """Run a command to its end and return what it printed. Raises StepFailed."""
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_COMMAND_S_MAX,
        )
    except FileNotFoundError as error:
        raise StepFailed(f"there is no {argv[0]} here", f"Install {argv[0]}.") from error
    except subprocess.TimeoutExpired as error:
        raise StepFailed(f"{argv[0]} did not answer within {_COMMAND_S_MAX:.0f} s") from error
    if done.returncode == 0:
        return done.stdout.decode(errors="replace")
    said = done.stderr.decode(errors="replace")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        told = json.loads(said)["error"]
        raise StepFailed(f"{Path(argv[0]).name} {argv[1]}: {told['message']}", told["hint"])
    raise _ended_badly(f"{Path(argv[0]).name} exited {done.returncode}", said)


def _ended_badly(what: str, said: str) -> StepFailed:
    """Return why a program ended: its own error and hint, or the last it said."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error")]
    hints = [line.partition(" ")[2].strip() for line in lines if line.startswith("hint")]
    why = (errors or lines or ["without a word"])[-1]
    return StepFailed(f"{what}: {why}", hints[-1] if errors and hints else "")


def end(processes: list[psutil.Process]) -> None:
    """End these processes: asked first, then not. A supervisor does not heed the asking."""
    for number, wait_s in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 5.0)):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        deadline_s = time.monotonic() + wait_s
        while processes and time.monotonic() < deadline_s:
            time.sleep(_LOOK_S)
            processes = [process for process in processes if _lives(process)]


def _lives(process: psutil.Process) -> bool:
    # What ended but was not waited for by its parent, which was killed, has ended all the same.
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def free_port(wanted: int) -> int:
    """Return `wanted` where nobody listens there, else any free port of the loopback address."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            # As the hive binds: what a closed connection left behind does not count as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            found: int = probe.getsockname()[1]
            return found
    raise StepFailed("there is no free port on 127.0.0.1")
