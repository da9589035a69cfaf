"""The `gh` program, where its user is logged in: asked for the token it keeps, and nothing else.

The token stays in this process's memory for one operation. Must not log what the program says.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from typing import Final

from node_agent.config import process_environment
from node_agent.forge.errors import CliMissing, ForgeFailed, NotLoggedIn
from node_agent.forge.places import Forge

PROGRAM: Final = "gh"
_TIMEOUT_S: Final = 15.0
_OUTPUT_BYTES_MAX: Final = 64 * 1024
_SET_VARIABLES: Final = {
    "GH_PROMPT_DISABLED": "1",
    "GH_NO_UPDATE_NOTIFIER": "1",
    "NO_COLOR": "1",
}


async def token_of_gh(
    forge: Forge, secret: str, environment: Mapping[str, str] | None = None
) -> str:
    """Return gh's token for the forge's host.

    Raises CliMissing where there is no such program, NotLoggedIn where it has no token. `secret`
    is what the hint of both names as the other way.
    """
    given = process_environment() if environment is None else environment
    kept = {name: value for name, value in given.items() if not name.startswith("SKEP_")}
    try:
        process = await asyncio.create_subprocess_exec(
            PROGRAM,
            "auth",
            "token",
            "--hostname",
            forge.host,
            env={**kept, **_SET_VARIABLES},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except (FileNotFoundError, PermissionError) as error:
        raise CliMissing(forge.host, secret) from error
    assert process.stdout is not None  # noqa: S101  asked for above
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            said = await process.stdout.read(_OUTPUT_BYTES_MAX)
            while await process.stdout.read(_OUTPUT_BYTES_MAX):
                pass
            status = await process.wait()
    except TimeoutError as error:
        raise ForgeFailed(
            forge.host, f"{PROGRAM} auth token said nothing for {_TIMEOUT_S:g} s"
        ) from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    token = said.decode("ascii", "replace").strip()
    # Whatever else it printed is no token, and must not reach a header.
    if status or not token or not token.isascii() or len(token.split()) != 1:
        raise NotLoggedIn(forge.host, secret, f"{PROGRAM} auth token exits {status}")
    return token
