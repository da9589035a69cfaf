"""A scripted `gh` in a folder of its own, and a PATH that leads there alone."""

from pathlib import Path


def install(folder: Path, script: str) -> dict[str, str]:
    """Write the program; return an environment in which it is the one to be found."""
    folder.mkdir(exist_ok=True)
    program = folder / "gh"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def logged_in(token: str, host: str, calls: Path) -> str:
    """A gh with a token for one host, which notes its calls."""
    return f"""
echo "$*" >> {calls}
if [ "$*" = "auth token --hostname {host}" ]; then echo {token}; exit 0; fi
echo "no oauth token found for $4" >&2
exit 1
"""
