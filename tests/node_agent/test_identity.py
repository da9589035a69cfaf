"""The node's key and record: made once, kept private, never silently replaced."""

import concurrent.futures
import stat
from pathlib import Path

import msgspec
import pytest

from node_agent import identity
from protocol.ids import node_id_of
from protocol.tokens import signature_holds


def test_made_once_and_found_again(tmp_path: Path) -> None:
    """The second start finds the same key and id, and draws another instance."""
    first = identity.open_identity(tmp_path / "new" / "folder")
    second = identity.open_identity(tmp_path / "new" / "folder")
    assert first.node_id == second.node_id == node_id_of(first.public_key)
    assert first.public_key == second.public_key
    assert first.instance != second.instance
    assert 0 < first.instance < 2**63
    assert signature_holds(second.public_key, first.sign(b"x"), b"x")


def test_key_is_private_even_after_a_restore(tmp_path: Path) -> None:
    """Key and record are 0600; a key that a restore opened to others is closed again."""
    identity.open_identity(tmp_path)
    key = tmp_path / "node.key"
    for path in (key, tmp_path / "node.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key.chmod(0o644)
    identity.open_identity(tmp_path)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_many_first_starts_agree_on_one_key(tmp_path: Path) -> None:
    """Several processes that start on an empty folder at once end up with one identity."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: identity.open_identity(tmp_path), range(16)))
    assert len({one.public_key for one in found}) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["node.json", "node.key"]


def test_a_lost_key_is_not_replaced(tmp_path: Path) -> None:
    """A data folder that lost its key is refused: a new key would be a new node."""
    identity.open_identity(tmp_path)
    (tmp_path / "node.key").unlink()
    with pytest.raises(identity.IdentityError) as caught:
        identity.open_identity(tmp_path)
    assert "backup" in caught.value.hint
    assert not (tmp_path / "node.key").exists()


@pytest.mark.parametrize("content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nxx\n"])
def test_a_broken_key_is_named(tmp_path: Path, content: bytes) -> None:
    """A key file that holds something else is named with a hint."""
    identity.open_identity(tmp_path)
    (tmp_path / "node.key").write_bytes(content)
    with pytest.raises(identity.IdentityError, match=r"node\.key"):
        identity.open_identity(tmp_path)


def test_a_broken_record_is_named(tmp_path: Path) -> None:
    """A torn node.json is named with a hint instead of being taken for a new node."""
    identity.open_identity(tmp_path)
    (tmp_path / "node.json").write_text('{"node_id": ')
    with pytest.raises(identity.IdentityError, match=r"node\.json"):
        identity.open_identity(tmp_path)


def test_record_keeps_what_a_newer_release_does_not_know_out(tmp_path: Path) -> None:
    """Keys of the hive survive the file; fields of another release do not stop the node."""
    enrolment = identity.Enrolment(url="https://h", hive_id="h1", keys={"k": b"\x00\xff" * 16})
    identity.write_record(tmp_path, identity.NodeRecord(node_id="n", hive=enrolment))
    text = msgspec.json.decode((tmp_path / "node.json").read_bytes())
    text["hive"]["later"] = 1
    (tmp_path / "node.json").write_bytes(msgspec.json.encode(text))
    record = identity.read_record(tmp_path)
    assert record is not None
    assert record.hive == enrolment
