"""One agent per data folder, and a socket whose path always fits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from node_agent import config, data_folder
from protocol.errors import SkepError


def settings(folder: Path, **more: object) -> config.NodeConfig:
    """Settings for a data folder."""
    return config.NodeConfig(data_dir=folder, **more)


def test_the_lock_is_one_and_names_its_holder(tmp_path: Path) -> None:
    """A second process is refused and told who holds the folder; a closed lock is free again."""
    first, second = data_folder.DataFolderLock(tmp_path), data_folder.DataFolderLock(tmp_path)
    first.acquire()
    with pytest.raises(data_folder.DataFolderBusyError) as caught:
        second.acquire(wait_s=0.1)
    assert caught.value.pid == os.getpid()
    first.close()
    second.acquire()
    second.close()


def test_the_lock_ends_with_its_process_not_with_its_children(tmp_path: Path) -> None:
    """A killed holder frees the folder at once, though a process it started lives on."""
    script = (
        "import sys, os, subprocess, signal\n"
        "from pathlib import Path\n"
        "from node_agent.data_folder import DataFolderLock\n"
        "lock = DataFolderLock(Path(sys.argv[1])); lock.acquire()\n"
        "child = subprocess.Popen(['sleep', '60'], close_fds=False,\n"
        "    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        check=False,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    child = int(done.stdout)
    try:
        os.kill(child, 0)
        lock = data_folder.DataFolderLock(tmp_path)
        lock.acquire()
        lock.close()
    finally:
        os.kill(child, 9)


def test_a_short_path_stays_in_the_folder(tmp_path: Path) -> None:
    """Where it fits, the socket is in the data folder, and an old pointer is removed."""
    (tmp_path / "agent.sock.path").write_text("/elsewhere")
    chosen = data_folder.socket_to_serve(settings(tmp_path))
    assert chosen == data_folder.socket_to_call(tmp_path) == tmp_path / "agent.sock"


def test_a_long_path_goes_to_the_runtime_dir(tmp_path: Path) -> None:
    """Where it does not fit, the socket goes to a private folder, and the data folder says so."""
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    runtime = tmp_path / "run"
    chosen = data_folder.socket_to_serve(settings(deep, runtime_dir=runtime))
    assert chosen.parent == runtime
    assert data_folder.socket_to_call(deep) == chosen
    other = tmp_path / ("e" * 100)
    other.mkdir()
    assert data_folder.socket_to_serve(settings(other, runtime_dir=runtime)) != chosen


def test_a_runtime_dir_that_is_not_ours_or_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder open to others, a link in place of it, and a path still too long are refused."""
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with pytest.raises(SkepError, match="too long"):
        data_folder.socket_to_serve(settings(deep, runtime_dir=tmp_path / ("r" * 90)))
    monkeypatch.setattr(data_folder.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = tmp_path / f"skep-{os.geteuid()}"
    folder.mkdir(mode=0o755)
    with pytest.raises(SkepError, match="someone else"):
        data_folder.socket_to_serve(settings(deep))
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(SkepError, match="someone else"):
        data_folder.socket_to_serve(settings(deep))
