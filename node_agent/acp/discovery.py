"""Which agents this machine has: where, in which version, and whether one is logged in to them.

Reads the file system, and runs a program with `--version` where nothing else tells; never asks the
network.
What can only be found out there is said to be unknown.
"""

import asyncio
import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from node_agent.acp.presets import PRESETS, Preset
from node_agent.private_files import write_private

#: Programs installed for this node alone: `npm install --prefix DATA/agents PACKAGE`.
AGENTS_FOLDER: Final = "agents"
_CACHE_FILE: Final = "versions.json"
_VERSION_WAIT_S: Final = 20.0
_VERSION_BYTES_MAX: Final = 4096
_PACKAGE_BYTES_MAX: Final = 1024 * 1024
_FOLDERS_UP_MAX: Final = 8


class FoundAgent(msgspec.Struct, frozen=True, kw_only=True):
    """One agent on this machine. `login`: yes, no, not_needed or unknown."""

    name: str
    title: str
    installed: bool
    path: str | None = None
    version: str | None = None
    login: str = "unknown"
    hint: str = ""


def find_program(preset: Preset, data_dir: Path, environment: Mapping[str, str]) -> Path | None:
    """Return the agent's program: this node's own installation first, else as PATH has it."""
    own = data_dir / AGENTS_FOLDER / "node_modules" / ".bin"
    for folders in (str(own), environment.get("PATH", "")):
        # An empty PATH would be this folder's, not nobody's.
        found = shutil.which(preset.program, path=folders) if folders else None
        if found is not None:
            return Path(found).absolute()
    return None


def installed_agents(data_dir: Path, environment: Mapping[str, str]) -> list[str]:
    """Return the names of the agents that are there; a look at the file system, no more."""
    return [
        name
        for name, preset in sorted(PRESETS.items())
        if find_program(preset, data_dir, environment) is not None
    ]


async def discover(data_dir: Path, environment: Mapping[str, str]) -> list[FoundAgent]:
    """Return every known agent, with its version where it is installed."""
    versions = _Versions(data_dir / AGENTS_FOLDER / _CACHE_FILE)
    looks = [_look(preset, data_dir, environment, versions) for preset in PRESETS.values()]
    found = list(await asyncio.gather(*looks))
    versions.keep()
    return found


async def _look(
    preset: Preset, data_dir: Path, environment: Mapping[str, str], versions: "_Versions"
) -> FoundAgent:
    program = find_program(preset, data_dir, environment)
    login = login_state(preset, environment)
    if program is None:
        hint = f"Install it: {preset.install_hint(str(data_dir / AGENTS_FOLDER))}"
        return FoundAgent(
            name=preset.name, title=preset.title, installed=False, login=login, hint=hint
        )
    return FoundAgent(
        name=preset.name,
        title=preset.title,
        installed=True,
        path=str(program),
        version=await versions.of(preset, program, environment),
        login=login,
        hint=preset.login_hint if login in {"no", "unknown"} else "",
    )


def login_state(preset: Preset, environment: Mapping[str, str]) -> str:
    """Return whether somebody is logged in, as far as this machine alone can tell."""
    if any(environment.get(name, "").strip() for name in preset.login_variables):
        return "yes"
    home = environment.get("HOME")
    if home and any((Path(home) / file).is_file() for file in preset.login_files):
        return "yes"
    if not preset.needs_login:
        return "not_needed"
    return "unknown" if preset.login_elsewhere or not home else "no"


class _Versions:
    """Versions of programs; one that had to be asked is asked once, until its file changes."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, str] = {}
        self._told: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(file.read_bytes()[:_PACKAGE_BYTES_MAX])
            if isinstance(known, dict):
                self._known = {key: one for key, one in known.items() if isinstance(one, str)}

    async def of(self, preset: Preset, program: Path, environment: Mapping[str, str]) -> str | None:
        """Return the program's version, or None where it does not tell."""
        key, version = self._seen(preset, program)
        if version is None and key is not None and preset.version_words:
            version = await _asked_version([str(program), *preset.version_words], environment)
        if version is not None and key is not None:
            self._told[key] = version
        return version

    def _seen(self, preset: Preset, program: Path) -> tuple[str | None, str | None]:
        """Return what tells this very file from another, and its version where it is known.

        No key: its package says the version each time, so there is nothing to remember.
        """
        try:
            real = program.resolve(strict=True)
            state = real.stat()
        except OSError:
            return None, None
        if (version := _packaged_version(real, preset.package)) is not None:
            return None, version
        key = f"{real}:{state.st_mtime_ns}:{state.st_size}"
        return key, self._known.get(key)

    def keep(self) -> None:
        """Remember what was told, and nothing of programs that are gone."""
        if not self._told or self._told == self._known:
            return
        # A cache that cannot be written is asked for again, no more.
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._file, json.dumps(self._told).encode())


def _packaged_version(program: Path, package: str) -> str | None:
    """Return the version in the package file beside a program that npm installed."""
    for folder in list(program.parents)[:_FOLDERS_UP_MAX]:
        try:
            raw = (folder / "package.json").read_bytes()[:_PACKAGE_BYTES_MAX]
            described: Any = json.loads(raw)
        except (OSError, ValueError):
            continue
        if isinstance(described, dict) and described.get("name") == package:
            version = described.get("version")
            return version[:100] if isinstance(version, str) else None
    return None


async def _asked_version(argv: list[str], environment: Mapping[str, str]) -> str | None:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(environment),
            start_new_session=True,
        )
    except OSError:
        return None
    said = b""
    try:
        async with asyncio.timeout(_VERSION_WAIT_S):
            assert process.stdout is not None  # noqa: S101  a pipe was asked for
            said = await process.stdout.read(_VERSION_BYTES_MAX)
            await process.wait()
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return version_in(said.decode("utf-8", "replace"))


def version_in(text: str) -> str | None:
    """Return the first word of a text that is a version."""
    for word in text.split():
        bare = word.strip("()v,;")
        if bare[:1].isdigit() and "." in bare:
            return bare[:100]
    return None
