"""The command line as a process: help, wrong use, errors, and that it starts quickly."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from hive.cli import COMMANDS, root

ROOT = Path(__file__).parents[2]


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `hive` with nothing of this user's settings."""
    return subprocess.run(
        [sys.executable, "-m", "hive", *words],
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "PYTHONPATH": str(ROOT),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_help_names_every_command():
    """Each is listed with what it is for, and nothing of it is loaded for that."""
    said = run("--help")
    assert said.returncode == 0
    for name, (_, about) in COMMANDS.items():
        assert name in said.stdout
        assert about in said.stdout


def leaves_of(command: click.Command) -> list[click.Command]:
    """The commands that do something, also within groups of groups."""
    if not isinstance(command, click.Group):
        return [command]
    return [leaf for one in command.commands.values() for leaf in leaves_of(one)]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_loads_and_takes_json(name: str):
    """Its module is where the table says, and each command of it has `--json`."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    command = getattr(import_module(module), attribute)
    for leaf in leaves_of(command):
        assert any("--json" in option.opts for option in leaf.params), (name, leaf.name)
        assert leaf.help, (name, leaf.name)


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["nodes", "nonsense"],
        ["tasks", "create"],
        ["nodes", "--limit", "0"],
        ["nodes", "join-token", "--ttl", "2h"],
        ["attempt", "cat", "a"],
        ["attempts", "wait", "a", "--timeout", "nan"],
        ["tasks", "run", "a", "--wait", "nan"],
        ["attempt", "stop", "a", "--grace-s", "inf"],
        ["attempt", "stop", "a", "--grace-s", "-1"],
    ],
)
def test_wrong_use_exits_2(words: list[str]):
    """Also with `--json`, and then in the one shape."""
    environment = {"SKEP_HIVE_URL": "http://127.0.0.1:9", "SKEP_TOKEN": "x"}
    assert run(*words, **environment).returncode == 2
    said = run(*words, "--json", **environment)
    assert said.returncode == 2
    assert said.stdout == ""
    assert '"code":"usage"' in said.stderr


def test_a_failure_exits_1_with_a_hint():
    """No hive named, no hive there: both say what to do."""
    said = run("nodes")
    assert said.returncode == 1
    assert "hive login" in said.stderr
    said = run("nodes", "--json", SKEP_HIVE_URL="http://127.0.0.1:9", SKEP_TOKEN="x")
    assert said.returncode == 1
    assert '"code":"hive_offline"' in said.stderr
    assert said.stdout == ""


def test_an_argument_that_is_not_utf_8_is_told():
    """It cannot be sent; that is said in the one shape, without a traceback."""
    environment = {"SKEP_HIVE_URL": "http://127.0.0.1:9", "SKEP_TOKEN": "x"}
    for words in (["nodes", "show"], ["attempt", "cat", "abcdefgh"]):
        said = run(*words, "\udcff", "--json", **environment)
        assert (said.returncode, said.stdout) == (1, "")
        assert '"an argument is not UTF-8"' in said.stderr
        assert "Traceback" not in said.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed(closed: str):
    """What would be said there is said to nobody; the exit code stays."""
    line = f'"{sys.executable}" -m hive nodes {closed}; echo $?'
    environment = {"HOME": "/nonexistent", "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    said = subprocess.run(
        ["sh", "-c", line],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert said.stdout == "1\n"
    assert "Traceback" not in said.stderr


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path):
    """In the one shape, with a hint; no traceback."""
    (tmp_path / "file").write_text("")
    said = run("init", "--data", str(tmp_path / "file" / "hive"), "--json")
    assert (said.returncode, said.stdout) == (1, "")
    assert '"hint":"' in said.stderr
    assert "Traceback" not in said.stderr


def test_a_client_command_does_not_load_the_server():
    """What makes a call slow is not even imported."""
    script = (
        "import sys, click\n"
        "from hive.cli import root\n"
        "ctx = click.Context(root)\n"
        "for name in ('nodes', 'projects', 'tasks', 'attempts', 'attempt', 'status', 'events',"
        " 'operations', 'tokens', 'backfill', 'login', 'serve', 'init', 'backup', 'doctor'):\n"
        "    root.get_command(ctx, name)\n"
        "import hive.commands.following\n"
        "slow = {'aiohttp', 'aiosqlite', 'sqlite3', 'cryptography', 'jwt', 'rich', 'asyncio'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


def test_the_root_group_has_no_command_of_its_own():
    """All commands are found through the table."""
    assert root.list_commands(click.Context(root)) == list(COMMANDS)
