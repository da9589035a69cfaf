"""The command line: quick, listed whole, and clear about wrong use."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from node_agent import cli

HEAVY = ("aiohttp", "aiosqlite", "websockets", "rich", "asyncio", "cryptography", "psutil")


def command_of(name: str) -> click.Command:
    """Load a command as the group does."""
    module, _, attribute = cli.COMMANDS[name][0].partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)
    return command


def leaves(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    """All commands below one, with the words that call each."""
    if isinstance(command, click.Group) and command.commands:
        found = [leaves(one, f"{path} {name}") for name, one in command.commands.items()]
        return [leaf for group in found for leaf in group]
    return [(path, command)]


LEAVES = [leaf for name in cli.COMMANDS for leaf in leaves(command_of(name), name)]


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[path for path, _ in LEAVES])
def test_every_command_has_what_all_have(path: str, command: click.Command) -> None:
    """Each command takes --json and --data, and its help says what it does."""
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--json", "--data"} <= options
    assert command.help
    assert command.get_short_help_str().endswith((".", "..."))


def test_help_lists_all_and_loads_none() -> None:
    """The list of commands is whole, and shown without importing any of them."""
    script = (
        "import sys\n"
        "from node_agent.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if name.startswith('node_agent.commands')])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    lines = done.stdout.splitlines()
    assert lines[-2:] == ["[]", "[]"]
    for name in cli.COMMANDS:
        assert any(line.strip().startswith(name) for line in lines)


@pytest.mark.parametrize("name", ["status", "attempts", "attempt", "logs", "checkout", "start"])
def test_a_call_of_the_agent_loads_nothing_heavy(name: str) -> None:
    """What asks a running agent needs the standard library's HTTP and no more."""
    module = cli.COMMANDS[name][0].partition(":")[0]
    script = (
        f"import sys, {module}, node_agent.local_client\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["start", "--project", "p"],
        ["start", "--project", "p", "--title", "t"],
        ["attempts", "--limit", "0"],
        ["attempt", "diff"],
        ["join", "https://hive"],
        ["attempts", "wait", "a", "--timeout", "nan"],
        ["attempt", "stop", "a", "--grace-s", "inf"],
        ["attempt", "stop", "a", "--grace-s", "-1"],
    ],
)
def test_wrong_use_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong use exits 2 with the usage, or with JSON where that was asked for."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "Usage:" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        cli.main([*arguments, "--json"])
    assert caught.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert json.loads(shown.err)["error"]["code"] == "usage"


def test_errors_for_people_and_for_scripts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failure exits 1, with message and hint for people, and the one shape for scripts."""
    arguments = ["attempts", "--data", str(tmp_path)]
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 1
    shown = capsys.readouterr()
    assert "there is no node in" in shown.err
    assert "hint" in shown.err
    with pytest.raises(SystemExit):
        cli.main([*arguments, "--json"])
    error = json.loads(capsys.readouterr().err)["error"]
    assert set(error) == {"code", "message", "hint", "retryable", "details"}
    assert error["code"] == "not_found"
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_seen_enough_is_no_failure(tmp_path: Path) -> None:
    """Output into a closed pipe ends quietly."""
    script = f"{sys.executable} -m node_agent.cli --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.stderr == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed(closed: str, tmp_path: Path) -> None:
    """What would be said there is said to nobody; the exit code stays."""
    line = f'"{sys.executable}" -m node_agent attempts --data "{tmp_path}/none" {closed}; echo $?'
    said = subprocess.run(
        ["sh", "-c", line],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert said.stdout == "1\n"
    assert "Traceback" not in said.stderr
