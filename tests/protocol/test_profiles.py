"""What may stand in a profile, and that no secret stands in a project's."""

from typing import Any

import msgspec
import pytest

from protocol.attempt_requests import StartRequest
from protocol.errors import ErrorCode, OperationError
from protocol.profiles import (
    PROFILES_BYTES_MAX,
    PROFILES_MAX,
    Profile,
    check_profile,
    check_project_profiles,
    named_secret,
)


def refusal(name: str, **fields: Any) -> OperationError:
    """Why a project cannot have this profile."""
    with pytest.raises(OperationError) as caught:
        check_project_profiles({name: Profile(**{"agent": "claude", **fields})})
    assert (caught.value.code, caught.value.details["field"]) == (ErrorCode.INVALID, "profiles")
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("a b", {}, "cannot name a profile"),
        ("a", {"agent": "clod"}, "no agent is called 'clod'"),
        ("a", {"agent": "custom"}, "`arguments` is the command line"),
        ("a", {"agent": "custom", "arguments": [""]}, "`arguments` is the command line"),
        ("a", {"arguments": ["a\0b"]}, "NUL"),
        ("a", {"model": " "}, "profiles.a.model"),
        ("a", {"mode": "plan\n"}, "profiles.a.mode"),
        ("a", {"environment": {"SKEP_NODE_ID": "x"}}, "SKEP_NODE_ID is Skep's own"),
        ("a", {"environment": {"A=B": "x"}}, "'A=B' cannot be set"),
        ("a", {"environment": {"": "x"}}, "'' cannot be set"),
        ("a", {"environment": {"A": "x\0"}}, "'A' cannot be set"),
        ("a", {"environment": {"A": "secret:"}}, "'' cannot name a secret"),
        ("a", {"environment": {"A": "secret:../x"}}, "'../x' cannot name a secret"),
        ("a", {"environment": {"OPENAI_API_KEY": "sk-12345678"}}, "a secret stays at its nodes"),
        ("a", {"environment": {"my_token": "12345678"}}, "a secret stays at its nodes"),
        ("a", {"environment": {"DB_PASSWORD_PROD": "12345678"}}, "a secret stays at its nodes"),
        ("a", {"environment": {"GITHUB_TOKEN_RO": "12345678"}}, "a secret stays at its nodes"),
        ("a", {"environment": {"PASSPHRASE": "12345678"}}, "a secret stays at its nodes"),
        ("a", {"arguments": ["x" * PROFILES_BYTES_MAX]}, "bytes"),
    ],
)
def test_what_a_project_cannot_have(name: str, fields: dict[str, Any], said: str) -> None:
    """Each is refused with the name of the profile and of what is wrong in it."""
    assert said in refusal(name, **fields).message


def test_no_more_than_can_travel() -> None:
    """They go along with each start of an agent, so their number is bounded."""
    many = {f"p{number}": Profile(agent="claude") for number in range(PROFILES_MAX)}
    check_project_profiles(many)
    with pytest.raises(OperationError):
        check_project_profiles({**many, "more": Profile(agent="claude")})


def test_a_secret_is_named() -> None:
    """By reference, or a word that is too short to be one: a placeholder a local server wants."""
    environment = {
        "ANTHROPIC_API_KEY": "secret:MODEL_KEY",
        "OPENAI_API_KEY": "none",
        "LEVEL": "a" * 9,
    }
    check_project_profiles({"a": Profile(agent="claude", environment=environment)})
    assert [named_secret(value) for value in environment.values()] == ["MODEL_KEY", None, None]


def test_an_operator_may_write_what_is_its_own() -> None:
    """A node's settings file is the operator's: a plain key in it is theirs to keep."""
    check_profile("a", Profile(agent="claude", environment={"ANTHROPIC_API_KEY": "12345678"}))


@pytest.mark.parametrize(
    ("fields", "brings"),
    [
        ({"agent": "claude", "model": "opus", "mode": "plan"}, False),
        ({"agent": "claude", "arguments": ["--verbose"]}, True),
        ({"agent": "claude", "environment": {"NODE_OPTIONS": "--require x"}}, True),
        ({"agent": "custom", "arguments": ["sh"]}, True),
    ],
)
def test_what_counts_as_a_command_line(fields: dict[str, Any], brings: bool) -> None:
    """Only which agent, model and mode is no more than a choice among what a node has."""
    assert Profile(**fields).brings_words is brings


def test_a_later_release_may_say_more() -> None:
    """A word that this release does not know is no reason to refuse a start."""
    later = msgspec.msgpack.encode({"profiles": {"a": {"agent": "claude", "colour": "red"}}})
    assert msgspec.msgpack.decode(later, type=StartRequest).profiles == {
        "a": Profile(agent="claude")
    }
