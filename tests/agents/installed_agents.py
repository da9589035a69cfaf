"""The real agents, installed from npm once for each set of versions, outside the checkout.

Owns the cache folder. Says why there is nothing where node or npm is missing or npm's registry is
out of reach; an installation that fails all the same is a fault.
"""

import fcntl
import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

_PINNED: Final = Path(__file__).parent
_FILES: Final = ("package.json", "package-lock.json")
_NODE_MAJOR_MIN: Final = 20
#: Hundreds of megabytes, on a busy machine.
_INSTALL_S_MAX: Final = 420.0
_REACH_S_MAX: Final = 60.0


class NotToBeHad(Exception):  # noqa: N818  named as what is so
    """What is missing here, in words."""


def agents_bin() -> Path:
    """Return the folder of the agents' programs; raises NotToBeHad."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NotToBeHad(f"there is no {'node' if node is None else 'npm'} here")
    version = _said([node, "--version"])
    if int(version.lstrip("v").split(".")[0]) < _NODE_MAJOR_MIN:
        raise NotToBeHad(f"they need node {_NODE_MAJOR_MIN}, and this is {version}")
    pinned = hashlib.sha256(b"".join((_PINNED / name).read_bytes() for name in _FILES))
    folder = _cache() / f"agents-{pinned.hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        # Test workers come here at the same time.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _install(npm, folder)
            (folder / "complete").touch()
    return folder / "node_modules" / ".bin"


def _install(npm: str, folder: Path) -> None:
    pinned = ("@agentclientprotocol/claude-agent-acp", "version")
    try:
        _said([npm, "view", *pinned, "--fetch-retries=0"], within_s=_REACH_S_MAX)
    except (subprocess.SubprocessError, OSError) as error:
        raise NotToBeHad("npm does not reach its registry") from error
    for name in _FILES:
        shutil.copy(_PINNED / name, folder / name)
    # Without scripts: nothing that comes from there runs before a test runs it.
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    _said([npm, "ci", *quiet], cwd=folder, within_s=_INSTALL_S_MAX)


def _said(argv: list[str], *, cwd: Path | None = None, within_s: float = 60.0) -> str:
    # The user's own settings say where the registry is; the tests' home knows nothing of them.
    done = subprocess.run(
        argv,
        cwd=cwd,
        env={**os.environ, "HOME": _home()},
        capture_output=True,
        text=True,
        timeout=within_s,
        check=True,
    )
    return done.stdout.strip()


def _home() -> str:
    return pwd.getpwuid(os.getuid()).pw_dir


def _cache() -> Path:
    """Return the user's cache folder, or where there is none a folder that may go any time."""
    home = Path(_home())
    if home.is_dir() and os.access(home, os.W_OK):
        return home / ".cache" / "skep-tests"
    return Path(tempfile.gettempdir()) / f"skep-tests-{os.getuid()}"
