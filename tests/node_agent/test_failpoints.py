"""Failpoints: killed at the named pass and nowhere else, and nothing in production."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_agent import failpoints
from node_agent.failpoints import BadFailpoint, arm, failpoint


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    """Leave nothing armed behind."""
    yield
    arm(None)


def run(spec: str) -> tuple[int, str]:
    """Pass three points three times in a process of its own."""
    code = (
        "import sys\n"
        "from node_agent.failpoints import arm, failpoint\n"
        f"arm({spec!r})\n"
        "for n in range(3):\n"
        "    for name in ('one', 'two'):\n"
        "        print(name, n, flush=True)\n"
        "        failpoint(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.split("\n")[-2]


@pytest.mark.parametrize(
    ("spec", "code", "last"),
    [
        ("one:kill9", -signal.SIGKILL, "one 0"),
        ("two:kill9:2", -signal.SIGKILL, "two 1"),
        ("two:kill9:9", 0, "two 2"),
        ("three:kill9", 0, "two 2"),
        ("", 0, "two 2"),
    ],
)
def test_where_the_process_dies(spec: str, code: int, last: str):
    """At the named point, at the named pass, by a signal nobody can catch."""
    assert run(spec) == (code, last)


@pytest.mark.parametrize("spec", ["one", ":kill9", "one:exit", "one:kill9:x", "one:kill9:0"])
def test_what_cannot_be_read_is_refused(spec: str):
    """A mistyped failpoint must not look like a test that passed."""
    with pytest.raises(BadFailpoint):
        arm(spec)


def test_unarmed_nothing_happens():
    """Points are passed as if they were not there."""
    arm(None)
    failpoint("one")
    assert failpoints._armed is None


def test_each_name_is_a_literal_and_says_where_it_is():
    """Tests collect the names from the sources, so none may be put together."""
    for path in (Path(__file__).parents[2] / "node_agent").rglob("*.py"):
        if path.name == "failpoints.py":
            continue
        for call in re.findall(r"\bfailpoint\(([^)]*)\)", path.read_text()):
            assert re.fullmatch(r'"node\.[a-z_]+\.[a-z_]+"', call), f"{path}: {call}"
