"""Failpoints: armed by name, passed so many times, then the process is gone."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hive import failpoints

PROGRAM = """
import sys
from hive import failpoints
failpoints.arm(sys.argv[1])
for n in range(3):
    failpoints.failpoint("a.place")
    print(n, flush=True)
"""


def run(spec: str, checkout: Path) -> tuple[int, str]:
    """Run a program that passes one place three times."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, spec],
        capture_output=True,
        text=True,
        check=False,
        cwd=checkout,
    )
    return ended.returncode, ended.stdout


@pytest.mark.parametrize(
    ("spec", "passed"),
    [("a.place:kill9", ""), ("a.place:kill9:3", "0\n1\n")],
)
def test_an_armed_place_kills(spec: str, passed: str, checkout: Path):
    """The process dies by SIGKILL at the place, the first or the nth time."""
    assert run(spec, checkout) == (-signal.SIGKILL, passed)


def test_another_place_does_nothing(checkout: Path):
    """A name that is not passed kills nobody."""
    assert run("b.place:kill9", checkout) == (0, "0\n1\n2\n")


@pytest.mark.parametrize("spec", ["", "a", "a:stop", ":kill9", "a:kill9:x"])
def test_a_spec_that_says_nothing_is_refused(spec: str):
    """A misspelt spec must not pass for a test that found nothing."""
    with pytest.raises(ValueError, match="NAME:kill9"):
        failpoints.arm(spec)


def test_disarmed_it_is_nothing():
    """Armed with None, places are passed."""
    failpoints.arm(None)
    failpoints.failpoint("a.place")
