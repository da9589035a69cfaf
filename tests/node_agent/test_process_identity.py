"""Which process is which, on a /proc of our own making and on the real one."""

import os
import subprocess
import sys
from pathlib import Path

from node_agent.process_identity import (
    ProcessIdentity,
    find_family,
    identify,
    read_boot_id,
    read_stat,
    same_process,
)


def fake_proc(root: Path, boot_id: str = "boot-1") -> Path:
    """Make a /proc without processes."""
    (root / "sys/kernel/random").mkdir(parents=True)
    (root / "sys/kernel/random/boot_id").write_text(f"{boot_id}\n")
    (root / "self").mkdir()
    return root


def add_process(
    proc: Path,
    pid: int,
    *,
    start_time: int = 100,
    parent: int = 1,
    state: str = "S",
    name: str = "program",
    environ: bytes = b"",
) -> None:
    """Add a process to it, as the kernel writes one."""
    (proc / str(pid)).mkdir(exist_ok=True)
    rest = f"{state} {parent} {pid} {pid} 0 -1 4194560 {'0 ' * 12}{start_time} 1 2 3"
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) {rest}\n")
    (proc / str(pid) / "environ").write_bytes(environ)


def test_same_process_needs_boot_pid_and_start(tmp_path: Path) -> None:
    """A pid alone proves nothing: after a reboot or a reuse it is another process."""
    proc = fake_proc(tmp_path)
    add_process(proc, 42, start_time=777)
    assert same_process(ProcessIdentity("boot-1", 42, 777), proc)
    assert not same_process(ProcessIdentity("boot-1", 42, 776), proc)
    assert not same_process(ProcessIdentity("boot-0", 42, 777), proc)
    assert not same_process(ProcessIdentity("boot-1", 43, 777), proc)
    assert not same_process(ProcessIdentity("boot-1", 0, 777), proc)


def test_zombie_is_not_alive(tmp_path: Path) -> None:
    """A process that has ended and was not reaped does not count as running."""
    proc = fake_proc(tmp_path)
    add_process(proc, 42, start_time=777, state="Z")
    assert not same_process(ProcessIdentity("boot-1", 42, 777), proc)


def test_names_cannot_forge_fields(tmp_path: Path) -> None:
    """A program may be named like the rest of the line; the numbers are still found."""
    proc = fake_proc(tmp_path)
    add_process(proc, 42, start_time=777, name="a) S 1 1 1 (b")
    stat = read_stat(42, proc)
    assert stat is not None
    assert (stat.parent_pid, stat.start_time) == (1, 777)


def test_unreadable_stat_is_nobody(tmp_path: Path) -> None:
    """A line that breaks off names no process."""
    proc = fake_proc(tmp_path)
    (proc / "42").mkdir()
    for text in (b"", b"42 (x", b"42 (x) S 1 2", b"42 (x) S a b c"):
        (proc / "42/stat").write_bytes(text)
        assert read_stat(42, proc) is None


def test_family_by_tree_and_by_marker(tmp_path: Path) -> None:
    """Descendants of any depth and bearers of the exact marker, but no zombies and not the root."""
    proc = fake_proc(tmp_path)
    add_process(proc, 10)
    add_process(proc, 13, parent=12)
    add_process(proc, 12, parent=11)
    add_process(proc, 11, parent=10)
    add_process(proc, 14, parent=10, state="Z")
    add_process(proc, 15, parent=14)
    add_process(proc, 20, environ=b"A=1\0MARK=x\0B=2\0")
    add_process(proc, 21, environ=b"A=MARK=x\0MARK=xy\0")
    add_process(proc, os.getpid(), environ=b"MARK=x\0")
    assert set(find_family(10, b"MARK=x", proc)) == {11, 12, 13, 15, 20}
    assert set(find_family(10, b"", proc)) == {11, 12, 13, 15}
    assert set(find_family(None, b"MARK=x", proc)) == {20}


def test_without_proc_life_is_asked_for(tmp_path: Path) -> None:
    """Where there is no /proc a start time is unknown, and only life can be told."""
    program = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    identity = identify(program.pid, tmp_path)
    assert identity == ProcessIdentity("", program.pid, 0)
    assert same_process(identity, tmp_path)
    program.communicate()
    assert not same_process(identity, tmp_path)
    assert find_family(1, b"A=1", tmp_path) == {}


def test_on_this_machine() -> None:
    """This process is found as itself, and a child's end is noticed."""
    assert same_process(identify(os.getpid()))
    program = subprocess.Popen(["sleep", "60"])
    identity = identify(program.pid)
    assert identity.boot_id == read_boot_id()
    assert program.pid in find_family(os.getpid(), b"")
    assert same_process(identity)
    program.kill()
    program.wait()
    assert not same_process(identity)
