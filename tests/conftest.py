"""What holds for every test: nothing of the developer's own settings leaks in, runs repeat exactly.

Also says, at the end of a run, which servers and tools the tests asked for and could not get.
Must not hold fixtures of one part of the tree; those stand in that part's own conftest.
"""

import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

COULD_NOT_GET = "could not get "

# The same examples on every run, so that a red run is red again; `--hypothesis-profile=explore`
# looks for new ones. No deadline: two workers and the processes they start share the cores.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("explore", deadline=None)


def pytest_configure(config: pytest.Config) -> None:
    """Give the whole run an empty home, and none of the settings Skep or git would obey."""
    if not config.getoption("--hypothesis-profile"):
        hypothesis.settings.load_profile("repeatable")
    for name in list(os.environ):
        # GIT_DIR and its like are set where git itself starts the tests, as from a hook.
        if name.startswith(("SKEP_", "GIT_", "XDG_")):
            del os.environ[name]
    home = tempfile.mkdtemp(prefix="skep-tests-home-")
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    os.environ["HOME"] = home
    os.environ["GIT_CONFIG_NOSYSTEM"] = "1"
    # A shell that runs the tests in the background has them ignore Ctrl-C, and so would every
    # program they start: a signal that is handled here is as ever in those.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def could_not_get() -> Callable[[str, str], NoReturn]:
    """Skip the test because a server or tool is not to be had here, and have the run say so."""

    def skip(what: str, why: str) -> NoReturn:
        pytest.skip(f"{COULD_NOT_GET}{what}: {why}")

    return skip


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder of this checkout."""
    return Path(__file__).resolve().parent.parent


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what could not be had, with how many tests wanted it."""
    wanted: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        if isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            if reason.startswith(COULD_NOT_GET):
                wanted[reason.removeprefix(COULD_NOT_GET)] += 1
    if wanted:
        terminalreporter.section("could not get")
        for what, tests in sorted(wanted.items()):
            terminalreporter.write_line(
                f"{what} ({tests} {'test' if tests == 1 else 'tests'} skipped)"
            )
