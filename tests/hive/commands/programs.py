"""Runs the `hive` command as its user would: a process of its own, with its environment."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from tests.hive.api.running import RunningHive


class Outcome:
    """What a command left."""

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.out = out.decode()
        self.err = err.decode()

    @property
    def json(self) -> Any:
        """The one JSON value on stdout."""
        assert self.code == 0, self.err
        return msgspec.json.decode(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error on stderr, in the one shape; stdout has nothing."""
        assert self.code == 1, (self.out, self.err)
        assert self.out == ""
        return msgspec.json.decode(self.err)["error"]


class Commands:
    """The `hive` command for one user of one hive."""

    def __init__(self, home: Path, running: RunningHive | None = None) -> None:
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": str(Path(__file__).parents[3]),
        }
        if running is not None:
            self.environment["SKEP_HIVE_URL"] = running.url
            self.environment["SKEP_TOKEN"] = running.token

    async def process(self, *words: str, **given: Any) -> asyncio.subprocess.Process:
        """Start a command."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "hive",
            *words,
            env=self.environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            **given,
        )

    async def run(self, *words: str, stdin: bytes = b"") -> Outcome:
        """Run a command to its end."""
        process = await self.process(*words)
        async with asyncio.timeout(30):
            out, err = await process.communicate(stdin)
        return Outcome(process.returncode or 0, out, err)

    async def json(self, *words: str) -> Any:
        """Run a command with `--json`; return what it printed."""
        return (await self.run(*words, "--json")).json
