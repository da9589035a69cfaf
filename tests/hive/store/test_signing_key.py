"""The signing key: made once, private, refused where it is something else."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hive.store.signing_key import load_or_make_signing_key
from protocol.errors import SkepError


def test_the_key_is_made_once(tmp_path: Path):
    """The second call finds what the first made; nobody else may read it."""
    path = tmp_path / "keys" / "signing.pem"
    made = load_or_make_signing_key(path)
    found = load_or_make_signing_key(path)
    assert (found.key_id, found.public_key) == (made.key_id, made.public_key)
    assert len(made.public_key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["signing.pem"]


def test_each_hive_has_its_own(tmp_path: Path):
    """Two keys have two ids."""
    one, other = (load_or_make_signing_key(tmp_path / name) for name in ("a", "b"))
    assert one.key_id != other.key_id


@pytest.mark.parametrize("content", [b"", b"nothing"])
def test_a_file_that_holds_none_is_refused(tmp_path: Path, content: bytes):
    """A damaged key is not replaced behind the admin's back."""
    path = tmp_path / "signing.pem"
    path.write_bytes(content)
    with pytest.raises(SkepError) as caught:
        load_or_make_signing_key(path)
    assert caught.value.hint
    assert path.read_bytes() == content


def test_another_kind_of_key_is_refused(tmp_path: Path):
    """Only Ed25519 signs here."""
    path = tmp_path / "signing.pem"
    other = generate_private_key(SECP256R1())
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(SkepError, match="Ed25519"):
        load_or_make_signing_key(path)
