"""Every step of verifying a token of an attempt, each shown by what it refuses."""

from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import limits
from protocol.attempt_tokens import (
    AttemptToken,
    check_attempt_token,
    mint_attempt_token,
    node_named,
)
from protocol.errors import RemoteProtocolError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
PUBLIC = KEY.public_key().public_bytes_raw()
NOW_S = 1_700_000_000
TYPE = "skep-attempt+jwt"
TOKEN = AttemptToken(
    jti="j",
    node_id="n-1",
    attempt_id="a-1",
    hive_id="h-1",
    issued_at_s=NOW_S,
    expires_at_s=NOW_S + limits.ATTEMPT_TOKEN_TTL_S,
)
TEXT = mint_attempt_token(TOKEN, key=KEY)


def check(text: str = TEXT, **other: Any) -> AttemptToken:
    """Check a token where it was made for, or elsewhere."""
    place: dict[str, Any] = {
        "node_id": "n-1",
        "public_key": PUBLIC,
        "hive_id": "h-1",
        "now_s": NOW_S,
    }
    return check_attempt_token(text, **place | other)


def signed(
    key: Ed25519PrivateKey = KEY, headers: dict[str, Any] | None = None, **changed: Any
) -> str:
    """Sign changed claims, with these headers."""
    claims = jwt.decode(TEXT, options={"verify_signature": False}) | changed
    headers = {"kid": "n-1", "typ": TYPE} | (headers or {})
    return jwt.encode(claims, key, algorithm="EdDSA", headers=headers)


def test_a_token_is_good_where_it_was_made_for() -> None:
    """It names its node before anything is proven, and its attempt after."""
    assert node_named(TEXT) == "n-1"
    assert check() == TOKEN
    assert check(now_s=TOKEN.expires_at_s + limits.TOKEN_LEEWAY_S) == TOKEN


@pytest.mark.parametrize(
    ("text", "place"),
    [
        pytest.param(TEXT, {"hive_id": "h-2"}, id="another hive"),
        pytest.param(TEXT, {"node_id": "n-2"}, id="another node"),
        pytest.param(
            TEXT, {"public_key": OTHER_KEY.public_key().public_bytes_raw()}, id="another key"
        ),
        pytest.param(
            TEXT,
            {"now_s": NOW_S + limits.ATTEMPT_TOKEN_TTL_S + limits.TOKEN_LEEWAY_S + 1},
            id="expired",
        ),
        pytest.param(TEXT, {"now_s": NOW_S - limits.TOKEN_LEEWAY_S - 1}, id="not valid yet"),
        pytest.param(signed(OTHER_KEY), {}, id="signed by another"),
        pytest.param(signed(exp=NOW_S + 3600), {}, id="lives too long"),
        pytest.param(signed(sub=7), {}, id="no attempt"),
        pytest.param(signed(iss="n-2"), {}, id="issued by another node"),
        pytest.param(signed(headers={"typ": "skep-stream+jwt"}), {}, id="another kind"),
        pytest.param(signed(headers={"kid": "n-2"}), {}, id="another key id"),
        pytest.param("a.b.c", {}, id="no token"),
        pytest.param(
            jwt.encode({"iss": "n-1"}, "x" * 32, algorithm="HS256", headers={"kid": "n-1"}),
            {},
            id="another algorithm",
        ),
        pytest.param(
            jwt.encode(msgspec.to_builtins(TOKEN), "", algorithm="none", headers={"kid": "n-1"}),
            {},
            id="no algorithm",
        ),
    ],
)
def test_a_token_is_refused(text: str, place: dict[str, Any]) -> None:
    """Anywhere else, any other time, by anyone else."""
    with pytest.raises(RemoteProtocolError):
        check(text, **place)


@pytest.mark.parametrize(
    "text",
    ["", "a.b.c", "no dots", signed(headers={"typ": "JWT"}), signed(headers={"kid": "n-1"})[:20]],
)
def test_what_names_no_node_is_refused(text: str) -> None:
    """A person's token, or another kind."""
    with pytest.raises(RemoteProtocolError):
        node_named(text)
