"""The run as a whole: what every test may rely on, and what a run says about what it lacked."""

import os
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

pytest_plugins = ["pytester"]


def test_no_setting_of_the_developer_is_seen():
    """A test has a home of its own, and sees no setting Skep or git takes from the environment."""
    assert Path.home().name.startswith("skep-tests-home-")
    assert [name for name in os.environ if name.startswith(("SKEP_", "XDG_"))] == []
    found = subprocess.run(
        ["git", "config", "--global", "--list"], capture_output=True, check=False
    )
    assert found.stdout == b""


def test_examples_repeat():
    """Generated examples are the same on every run."""
    assert hypothesis.settings().derandomize


@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["alone", "with workers"])
def test_a_run_names_what_it_could_not_get(
    pytester: pytest.Pytester, checkout: Path, workers: list[str]
):
    """The end of a run names each server it could not get, once, with how many tests wanted it."""
    pytester.makeconftest((checkout / "tests/conftest.py").read_text())
    pytester.makepyfile(
        """
        def test_first(could_not_get): could_not_get("PostgreSQL", "no binaries")
        def test_second(could_not_get): could_not_get("PostgreSQL", "no binaries")
        def test_third(): pass
        """
    )
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *workers],
        cwd=pytester.path,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = finished.stdout.splitlines()
    assert "PostgreSQL: no binaries (2 tests skipped)" in lines
    assert lines[-1].startswith("1 passed, 2 skipped")
