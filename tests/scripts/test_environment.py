"""scripts/environment: does its work once, alone, in silence, and names what the machine lacks.

A stand-in for Python notes each call, so that no package is installed.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Answers as Python would: makes an environment whose Python is itself, and notes what pip is asked.
STAND_IN = r"""#!/bin/bash
case "$*" in
  "--version") echo "Python 3.11.9" ;;
  "-c import sys;"*) exit "${OLD:-0}" ;;
  "-c import venv, ensurepip") exit "${NO_VENV:-0}" ;;
  "-c import fcntl"*) exec "$REAL_PYTHON" "$@" ;;
  "-m venv --clear "*) echo venv >>"$CALLS"; rm -rf .venv; mkdir -p .venv/bin
    cp "$0" .venv/bin/python ;;
  "-m pip --version") ;;
  "-m pip install "*) sleep 0.1; echo "pip ${*: -2}" >>"$CALLS"; echo "pip's many words"
    exit "${PIP_EXIT:-0}" ;;
  *) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""
MADE = ["venv", "pip hatchling editables", "pip --editable .[dev]"]


class Place:
    """A checkout with the script, and a machine with nothing but a shell, git and a Python."""

    def __init__(self, folder: Path, checkout: Path, real_python: str) -> None:
        self.folder = folder / "skep"
        (self.folder / "scripts").mkdir(parents=True)
        shutil.copy(checkout / "scripts/environment", self.folder / "scripts")
        for name in ("pyproject.toml", "constraints.txt"):
            (self.folder / name).write_text(f"{name}\n")
        self.programs = folder / "bin"
        self.programs.mkdir()
        for name in ("bash", "cat", "cmp", "cp", "dirname", "git", "mkdir", "rm", "sleep", "uname"):
            (self.programs / name).symlink_to(str(shutil.which(name)))
        (self.programs / "python3").write_text(STAND_IN)
        (self.programs / "python3").chmod(0o755)
        self.calls_file = folder / "calls"
        self.environment = {
            "PATH": str(self.programs),
            "CALLS": str(self.calls_file),
            "REAL_PYTHON": real_python,
        }

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        """The script, running, with what it says in one pipe."""
        return subprocess.Popen(
            ["scripts/environment", *arguments],
            cwd=self.folder,
            env=self.environment | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, **settings: str) -> tuple[int, str]:
        """The script's exit code and all it said."""
        process = self.start(*arguments, **settings)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    def calls(self) -> list[str]:
        """What was made or installed since the last look."""
        if not self.calls_file.exists():
            return []
        calls = self.calls_file.read_text().splitlines()
        self.calls_file.unlink()
        return calls


@pytest.fixture
def place(tmp_path: Path, checkout: Path) -> Place:
    """A machine and a checkout without an environment."""
    return Place(tmp_path, checkout, os.path.realpath(sys.executable))


def test_the_first_run_installs_and_says_one_line(place: Place):
    """The first run makes the environment, and says so in one line, without pip's words."""
    code, said = place.run("--dev")
    assert (code, said.count("\n")) == (0, 1)
    assert place.calls() == MADE


def test_the_second_run_does_nothing(place: Place):
    """With everything in place neither Python nor pip is run, and nothing is said."""
    place.run("--dev")
    place.calls()
    (place.programs / "python3").unlink()
    assert place.run("--dev") == (0, "")
    assert place.run() == (0, ""), "what runs tests also runs Skep"
    assert place.calls() == []


def test_what_runs_skep_is_not_yet_what_tests_it(place: Place):
    """An environment without the development tools is completed, and not made anew."""
    place.run()
    assert place.calls() == ["venv", "pip hatchling editables", "pip --editable ."]
    assert place.run("--dev")[0] == 0
    assert place.calls() == MADE[1:]


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_recipe_is_followed(place: Place, name: str):
    """New requirements or pins are installed into the environment that is there."""
    place.run("--dev")
    place.calls()
    (place.folder / name).write_text("changed\n")
    assert place.run("--dev")[0] == 0
    assert place.calls() == MADE[1:]


def test_a_moved_checkout_is_noticed(place: Place):
    """An environment points at its folder, so another folder installs again."""
    place.run("--dev")
    place.calls()
    place.folder = place.folder.rename(place.folder.with_name("moved"))
    assert place.run("--dev")[0] == 0
    assert place.calls() == MADE[1:]


def test_a_failure_is_told_and_tried_again(place: Place):
    """When pip fails its words are shown, and the next run tries again."""
    code, said = place.run("--dev", PIP_EXIT="7")
    assert code == 7
    assert "pip's many words" in said
    place.calls()
    assert place.run("--dev")[0] == 0
    assert place.calls() == MADE[1:]


def test_a_broken_environment_is_made_anew(place: Place):
    """Remains of an interrupted start, which cannot run pip, are replaced."""
    (place.folder / ".venv/bin").mkdir(parents=True)
    (place.folder / ".venv/bin/python").symlink_to("/nonexistent/python")
    assert place.run("--dev")[0] == 0
    assert place.calls() == MADE


def test_two_at_once_install_once(place: Place):
    """Scripts started together wait for one of them to make the environment."""
    running = [place.start("--dev") for _ in range(3)]
    outputs = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sorted(output.count("\n") for output in outputs) == [0, 0, 1]
    assert place.calls() == MADE


@pytest.mark.parametrize(
    ("lacking", "settings", "package"),
    [("git", {}, "git"), ("python3", {}, "python3"), ("", {"OLD": "1"}, "python3")],
    ids=["no git", "no Python", "an old Python"],
)
def test_a_missing_program_is_named(
    place: Place, lacking: str, settings: dict[str, str], package: str
):
    """Where git or a recent Python is missing, the package to install is named for each system."""
    if lacking:
        (place.programs / lacking).unlink()
    code, said = place.run("--dev", **settings)
    assert code == 1
    for system in ("Debian", "Fedora", "macOS"):
        assert any(system in line and package in line for line in said.splitlines())
    assert not (place.folder / ".venv").exists()


def test_a_python_without_venv_is_named(place: Place):
    """Debian ships Python without venv: the package is named for the system at hand, none made."""
    (place.programs / "apt-get").symlink_to("/bin/true")
    code, said = place.run("--dev", NO_VENV="1")
    assert code == 1
    assert "apt-get install python3-venv" in said
    assert "dnf" not in said
    assert not (place.folder / ".venv").exists()


def test_an_unknown_argument_is_refused(place: Place):
    """A mistyped flag is answered with the usage, not ignored."""
    code, said = place.run("--devel")
    assert code == 2
    assert said.startswith("usage:")
