"""The hive's signing key: Ed25519, in a file only its user may read. Made once."""

import contextlib
import hashlib
import os
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from hive.store.ownership import give_to_owner
from protocol.errors import ErrorCode, SkepError


class SigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """The key and its id, which derives from the public half."""

    key_id: str
    key: Ed25519PrivateKey

    @property
    def public_key(self) -> bytes:
        """The raw public half."""
        return self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def load_or_make_signing_key(path: Path) -> SigningKey:
    """Return the key in this file; make it where there is none."""
    with contextlib.suppress(FileNotFoundError):
        return _loaded(path.read_bytes(), path)
    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(path, text)
    return _named(key)


def _loaded(text: bytes, path: Path) -> SigningKey:
    try:
        key = load_pem_private_key(text, password=None)
    except ValueError as error:
        raise _unreadable(path) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _unreadable(path)
    return _named(key)


def _named(key: Ed25519PrivateKey) -> SigningKey:
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return SigningKey(key_id=hashlib.blake2b(public, digest_size=8).hexdigest(), key=key)


def _unreadable(path: Path) -> SkepError:
    return SkepError(
        ErrorCode.INVALID,
        f"{path} holds no Ed25519 key",
        hint="Restore it from a backup, or move it away: a new key is made at the next start.",
    )


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its user may read: whole and on disk, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        give_to_owner(descriptor, path.parent)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
