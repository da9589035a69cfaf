"""Who the operator of this node is at the joined hive: a person's token, kept for their commands.

Owns `hive-login.json`. A node itself has no rights at the hive but to report what it owns: whoever
looks at other nodes' attempts from here does so as a person. The token goes to that hive alone.
"""

from pathlib import Path
from typing import Final

import msgspec

from node_agent.private_files import write_private

LOGIN_FILE: Final = "hive-login.json"


class HiveLogin(msgspec.Struct, frozen=True, kw_only=True):
    """A token, and the hive it is for."""

    hive_id: str
    token: str
    name: str = ""
    role: str = ""


def read_login(data_dir: Path, hive_id: str) -> HiveLogin | None:
    """Return who is signed in at this hive; a login at another one counts for nothing."""
    try:
        login = msgspec.json.decode((data_dir / LOGIN_FILE).read_bytes(), type=HiveLogin)
    except (OSError, msgspec.DecodeError):
        return None
    return login if login.hive_id == hive_id else None


def write_login(data_dir: Path, login: HiveLogin) -> None:
    """Keep a login, readable by its owner alone."""
    write_private(data_dir / LOGIN_FILE, msgspec.json.encode(login))


def forget_login(data_dir: Path) -> bool:
    """Forget the login; False where there was none."""
    try:
        (data_dir / LOGIN_FILE).unlink()
    except FileNotFoundError:
        return False
    return True
