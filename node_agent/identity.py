"""Who this node is: its Ed25519 key, its id, and the hive it joined.

Owns `node.key` and `node.json` in the data folder. The private key never leaves its file but to
sign; nothing here speaks to the hive.
"""

import contextlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node_agent.private_files import private_temporary, sync_folder, write_private
from protocol.errors import ErrorCode, SkepError
from protocol.ids import node_id_of

KEY_FILE: Final = "node.key"
NODE_FILE: Final = "node.json"
#: Where `join --ca` keeps its copy of the private CA.
CA_FILE: Final = "hive-ca.pem"
_INSTANCE_BITS: Final = 63


class Enrolment(msgspec.Struct, frozen=True, kw_only=True):
    """The hive this node joined. `keys` are its public keys for capabilities, by key id."""

    url: str
    hive_id: str
    keys: dict[str, bytes] = {}
    #: Whether the hive's certificate is checked against `CA_FILE` alone.
    own_ca: bool = False
    plain_http: bool = False


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What `node.json` holds. `name` and `slots` are as given at joining."""

    node_id: str
    version: int = 1
    name: str = ""
    slots: int | None = None
    hive: Enrolment | None = None


@dataclass(frozen=True)
class HiveIdentity:
    """What a capability is judged by: which hive, which start of it, which keys."""

    hive_id: str
    generation: int
    keys: Mapping[str, bytes]


@dataclass(frozen=True, kw_only=True)
class HiveWord:
    """What a token of the hive is judged by that did not come over the link: also its clock."""

    hive: HiveIdentity
    now_s: float


@dataclass(frozen=True)
class NodeIdentity:
    """This node, in this process. `instance` is drawn anew at each start."""

    node_id: str
    key: Ed25519PrivateKey = field(repr=False)
    instance: int

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    def sign(self, signed: bytes) -> bytes:
        """Sign with the node's key."""
        return self.key.sign(signed)


class IdentityError(SkepError):
    """The node's key or record is there but cannot be used; `path` names the file."""

    def __init__(self, path: Path, message: str, *, hint: str) -> None:
        super().__init__(ErrorCode.INTERNAL, f"{path}: {message}", hint=hint, path=str(path))
        self.path = path


def open_identity(data_dir: Path) -> NodeIdentity:
    """Return the identity kept in `data_dir`, made at the first call."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = _open_key(data_dir / KEY_FILE, made_before=(data_dir / NODE_FILE).exists())
    record = read_record(data_dir)
    if record is None:
        record = NodeRecord(node_id=node_id_of(key.public_key().public_bytes_raw()))
        write_record(data_dir, record)
    # 0 means "no instance" on the wire.
    instance = secrets.randbits(_INSTANCE_BITS) or 1
    return NodeIdentity(node_id=record.node_id, key=key, instance=instance)


def read_record(data_dir: Path) -> NodeRecord | None:
    """Return what `node.json` says, or None before the node's first start."""
    path = data_dir / NODE_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=NodeRecord)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise IdentityError(
            path,
            f"cannot be read: {error}",
            hint="Restore it from a backup of the data folder, or remove it and join again.",
        ) from error


def write_record(data_dir: Path, record: NodeRecord) -> None:
    """Replace `node.json`; a crash leaves the old one or the new one."""
    text = msgspec.json.format(msgspec.json.encode(record), indent=2)
    write_private(data_dir / NODE_FILE, text + b"\n")


def _open_key(path: Path, *, made_before: bool) -> Ed25519PrivateKey:
    if not path.exists():
        if made_before:
            raise IdentityError(
                path,
                "the node's key is missing",
                hint=f"Restore it from a backup; or remove {NODE_FILE} and join as a new node.",
            )
        _make_key(path)
    try:
        # A restored backup may have opened the file to others.
        path.chmod(0o600)
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise IdentityError(
            path, f"the node's key cannot be read: {error}", hint="Restore it from a backup."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityError(path, "is not an Ed25519 key", hint="Restore it from a backup.")
    return key


def _make_key(path: Path) -> None:
    content = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    temporary = private_temporary(path, content)
    try:
        # A link fails where another process made the key first; its key is then used.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
