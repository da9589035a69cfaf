"""The node operator's secrets: named values, used by reference and hidden in every log.

Owns `secrets.json` in the data folder (0600). A value is never sent, logged or put on a command
line; whoever lists secrets sees names only.
"""

import os
import re
from pathlib import Path
from typing import Final

import msgspec

from node_agent.identity import IdentityError
from node_agent.private_files import write_private
from protocol.errors import ErrorCode, SkepError

#: Names can stand in an environment, so that profiles and scripts refer to them there.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_SECRETS_MAX: Final = 256
_VALUE_BYTES_MAX: Final = 64 * 1024
#: A shorter value would blank out ordinary words of a log; the redactor ignores it.
VALUE_CHARACTERS_MIN: Final = 6


class SecretError(SkepError):
    """A secret cannot be set or is not there; `name` is which."""

    def __init__(self, code: ErrorCode, name: str, message: str, *, hint: str = "") -> None:
        super().__init__(code, message, hint=hint, name=name)
        self.name = name


def read_secrets(path: Path) -> dict[str, str]:
    """Return all secrets by name; none where the file was never made."""
    try:
        content = path.read_bytes()
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        return msgspec.json.decode(content, type=dict[str, str])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        # Not "no secrets": then they would stand readable in the logs.
        raise IdentityError(
            path, f"cannot be read: {error}", hint="Restore it, or remove it and set them again."
        ) from error


def set_secret(path: Path, name: str, value: str) -> None:
    """Keep `value` under `name`, in place of an earlier one."""
    if not _NAME.fullmatch(name):
        raise SecretError(
            ErrorCode.INVALID,
            name,
            f"{name!r} cannot name a secret",
            hint="Use letters, digits and _, at most 64, not beginning with a digit.",
        )
    if len(value) < VALUE_CHARACTERS_MIN or len(value.encode()) > _VALUE_BYTES_MAX:
        raise SecretError(
            ErrorCode.INVALID,
            name,
            f"a secret has {VALUE_CHARACTERS_MIN} characters to {_VALUE_BYTES_MAX} bytes",
            hint="Give the value on standard input.",
        )
    secrets = {**read_secrets(path), name: value}
    if len(secrets) > _SECRETS_MAX:
        raise SecretError(ErrorCode.TOO_LARGE, name, f"a node keeps at most {_SECRETS_MAX} secrets")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, msgspec.json.encode(secrets))


def remove_secret(path: Path, name: str) -> None:
    """Forget the secret `name`."""
    secrets = read_secrets(path)
    if secrets.pop(name, None) is None:
        raise SecretError(
            ErrorCode.NOT_FOUND,
            name,
            f"there is no secret {name!r}",
            hint="`node-agent secrets list` shows their names.",
        )
    write_private(path, msgspec.json.encode(secrets))


def values_to_hide(path: Path) -> list[bytes]:
    """Return the values the redactor searches for."""
    return [os.fsencode(value) for value in read_secrets(path).values()]
