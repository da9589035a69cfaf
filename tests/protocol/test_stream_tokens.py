"""Every step of verifying a token of a stream, each shown by what it refuses."""

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import limits, tokens
from protocol.errors import ErrorCode, RemoteProtocolError
from protocol.stream_tokens import StreamToken, check_stream_token, mint_stream_token

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
PUBLIC = KEY.public_key().public_bytes_raw()
NOW_S = 1_700_000_000
TYPE = "skep-stream+jwt"

STREAM_TOKEN = StreamToken(
    jti="j-1",
    actor="ada",
    role="viewer",
    node_id="n-1",
    attempt_id="a-1",
    hive_id="h-1",
    generation=4,
    issued_at_s=NOW_S,
    expires_at_s=NOW_S + limits.STREAM_TOKEN_TTL_S,
    project_id="p-1",
)
TEXT = mint_stream_token(STREAM_TOKEN, key=KEY, key_id="k-1")


def check(text: str = TEXT, **other: Any) -> StreamToken:
    """Check a token where it was made for, or elsewhere."""
    place: dict[str, Any] = {
        "keys": {"k-1": PUBLIC},
        "hive_id": "h-1",
        "generation": 4,
        "node_id": "n-1",
        "now_s": NOW_S,
    }
    return check_stream_token(text, **place | other)


def claims() -> dict[str, Any]:
    """Return the claims of the token."""
    read: dict[str, Any] = jwt.decode(TEXT, options={"verify_signature": False})
    return read


def signed(read: dict[str, Any], key: Ed25519PrivateKey = KEY, **headers: Any) -> str:
    """Sign claims as a hive would, but with these headers."""
    return jwt.encode(read, key, algorithm="EdDSA", headers={"kid": "k-1", "typ": TYPE} | headers)


def by_hand(header: dict[str, Any], secret: bytes | None) -> str:
    """Put a token together without the library, which would refuse to."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in (header | {"kid": "k-1", "typ": TYPE}, claims())
    ]
    content = b".".join(parts)
    mac = b"" if secret is None else hmac.digest(secret, content, hashlib.sha256)
    return (content + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def refused(text: str, **other: Any) -> str:
    """Return why a token is refused."""
    with pytest.raises(RemoteProtocolError) as caught:
        check(text, **other)
    assert caught.value.code is ErrorCode.FORBIDDEN
    return caught.value.message


def test_it_says_what_it_was_minted_for() -> None:
    """It comes back whole, as often as it is shown."""
    assert check() == STREAM_TOKEN
    assert check() == STREAM_TOKEN


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"node_id": "n-2"}, id="other node"),
        pytest.param({"hive_id": "h-2"}, id="other hive"),
        pytest.param({"keys": {}}, id="unknown key id"),
        pytest.param({"keys": {"k-1": OTHER_KEY.public_key().public_bytes_raw()}}, id="other key"),
        pytest.param({"keys": {"k-1": b"short"}}, id="no key at all"),
        pytest.param({"generation": 5}, id="other generation"),
        pytest.param(
            {"now_s": NOW_S + limits.STREAM_TOKEN_TTL_S + limits.TOKEN_LEEWAY_S + 1}, id="expired"
        ),
        pytest.param({"now_s": NOW_S - limits.TOKEN_LEEWAY_S - 1}, id="not valid yet"),
    ],
)
def test_it_counts_nowhere_else(other: dict[str, Any]) -> None:
    """Another node, hive, key, generation or time refuses it."""
    refused(TEXT, **other)


def test_tricks_with_the_algorithm() -> None:
    """No signature, the public key as a secret, and other algorithms by name are refused."""
    refused(by_hand({"alg": "none"}, None))
    refused(by_hand({"alg": "HS256"}, PUBLIC))
    refused(by_hand({"alg": "EdDSA"}, PUBLIC))
    refused(by_hand({"alg": "EdDSA", "crit": ["exp"]}, None))


def test_a_key_the_token_brings_along_is_not_taken() -> None:
    """A key or its place in the header changes nothing: keys are looked up locally."""
    other = OTHER_KEY.public_key().public_bytes_raw()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": base64.urlsafe_b64encode(other).decode()}
    refused(signed(claims(), OTHER_KEY, jwk=jwk, jku="https://attacker.example/keys"))


def test_kinds_of_tokens_do_not_stand_in_for_each_other() -> None:
    """A capability is no token of a stream, nor the other way round."""
    capability = tokens.Capability(
        jti="j",
        actor="ada",
        role="operator",
        node_id="n-1",
        operation="diff",
        attempt_id="a-1",
        body_hash=tokens.body_hash(b""),
        hive_id="h-1",
        generation=4,
        issued_at_s=NOW_S,
        expires_at_s=NOW_S + 60,
    )
    refused(tokens.mint_capability(capability, key=KEY, key_id="k-1"))
    with pytest.raises(RemoteProtocolError):
        tokens.check_capability(
            TEXT,
            keys={"k-1": PUBLIC},
            hive_id="h-1",
            generation=4,
            node_id="n-1",
            operation="diff",
            attempt_id="a-1",
            body=b"",
            now_s=NOW_S,
        )


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "jti", "iat", "exp", "role", "att", "gen"])
def test_each_claim_is_needed(name: str) -> None:
    """Without one of its claims it is refused."""
    read = claims()
    del read[name]
    refused(signed(read))


@pytest.mark.parametrize(
    ("name", "value"), [("gen", "4"), ("role", 7), ("att", None), ("exp", "soon"), ("iat", "now")]
)
def test_each_claim_is_of_its_kind(name: str, value: object) -> None:
    """A claim of another kind is refused."""
    refused(signed(claims() | {name: value}))


def test_it_lives_no_longer_than_agreed() -> None:
    """A token for a day is refused, whoever signed it."""
    longer = msgspec.structs.replace(STREAM_TOKEN, expires_at_s=NOW_S + 86_400)
    assert "too long" in refused(mint_stream_token(longer, key=KEY, key_id="k-1"))


@pytest.mark.parametrize("text", ["", "a.b.c", "é", TEXT[:-4] + "AAAA", TEXT.rpartition(".")[0]])
def test_what_is_no_token(text: str) -> None:
    """Garbage is refused as what it is."""
    refused(text)
