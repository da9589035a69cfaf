"""Secrets: kept privately, listed by name, and given to the redactor."""

import stat
from pathlib import Path

import pytest

from node_agent import secret_values
from node_agent.identity import IdentityError
from protocol.errors import ErrorCode


def test_set_replace_remove(tmp_path: Path) -> None:
    """A secret is kept under its name, replaced, and forgotten; the file is 0600."""
    path = tmp_path / "new" / "secrets.json"
    secret_values.set_secret(path, "TOKEN", "first-value")
    secret_values.set_secret(path, "TOKEN", "sécond value\n")
    secret_values.set_secret(path, "OTHER", "abcdef")
    assert secret_values.read_secrets(path) == {"TOKEN": "sécond value\n", "OTHER": "abcdef"}
    assert set(secret_values.values_to_hide(path)) == {"sécond value\n".encode(), b"abcdef"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret_values.remove_secret(path, "TOKEN")
    assert list(secret_values.read_secrets(path)) == ["OTHER"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("1A", "abcdef"), ("A B", "abcdef"), ("", "abcdef"), ("A" * 65, "abcdef"), ("A", "short")],
)
def test_what_cannot_be_a_secret(tmp_path: Path, name: str, value: str) -> None:
    """Names that fit no environment and values too short to hide are refused, without the value."""
    with pytest.raises(secret_values.SecretError) as caught:
        secret_values.set_secret(tmp_path / "s", name, value)
    assert caught.value.code is ErrorCode.INVALID
    assert value not in str(caught.value)
    assert not (tmp_path / "s").exists()


def test_an_open_file_is_closed_and_a_broken_one_is_no_empty_one(tmp_path: Path) -> None:
    """A restored file is made private again; one that cannot be read stops, as it hides nothing."""
    path = tmp_path / "secrets.json"
    secret_values.set_secret(path, "TOKEN", "abcdef")
    path.chmod(0o644)
    secret_values.read_secrets(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("{")
    with pytest.raises(IdentityError):
        secret_values.values_to_hide(path)


def test_removing_what_is_not_there(tmp_path: Path) -> None:
    """Forgetting an unknown secret is an error with a hint."""
    with pytest.raises(secret_values.SecretError) as caught:
        secret_values.remove_secret(tmp_path / "s", "X")
    assert caught.value.code is ErrorCode.NOT_FOUND
    assert "list" in caught.value.hint
