"""Every step of verifying a signature or a capability, each shown by what it refuses."""

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
from protocol.messages import Hello

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
PUBLIC = KEY.public_key().public_bytes_raw()
NOW_S = 1_700_000_000
BODY = b"\x80"
TYPE = "skep-capability+jwt"

CAPABILITY = tokens.Capability(
    jti="j-1",
    actor="ada",
    role="operator",
    node_id="n-1",
    operation="stop",
    attempt_id="a-1",
    body_hash=tokens.body_hash(BODY),
    hive_id="h-1",
    generation=4,
    issued_at_s=NOW_S,
    expires_at_s=NOW_S + limits.CAPABILITY_TTL_S,
    project_id="p-1",
)
TOKEN = tokens.mint_capability(CAPABILITY, key=KEY, key_id="k-1")


def check(token: str = TOKEN, **other: Any) -> tokens.Capability:
    """Check a token against the call it was made for, or against another one."""
    call: dict[str, Any] = {
        "keys": {"k-1": PUBLIC},
        "hive_id": "h-1",
        "generation": 4,
        "node_id": "n-1",
        "operation": "stop",
        "attempt_id": "a-1",
        "body": BODY,
        "now_s": NOW_S,
    }
    return tokens.check_capability(token, **call | other)


def claims() -> dict[str, Any]:
    """Return the claims of the token."""
    read: dict[str, Any] = jwt.decode(TOKEN, options={"verify_signature": False})
    return read


def signed(read: dict[str, Any], **headers: Any) -> str:
    """Sign claims as a hive would, but with these headers."""
    return jwt.encode(read, KEY, algorithm="EdDSA", headers={"kid": "k-1", "typ": TYPE} | headers)


def by_hand(header: dict[str, Any], secret: bytes | None) -> str:
    """Put a token together without the library, which would refuse to."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in (header | {"kid": "k-1", "typ": TYPE}, claims())
    ]
    content = b".".join(parts)
    mac = b"" if secret is None else hmac.digest(secret, content, hashlib.sha256)
    return (content + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def test_a_capability_says_what_it_was_minted_for() -> None:
    """A capability checked against its own call comes back whole."""
    assert check() == CAPABILITY


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"generation": 5}, id="other generation"),
        pytest.param({"operation": "start"}, id="other operation"),
        pytest.param({"attempt_id": "a-2"}, id="other attempt"),
        pytest.param({"body": b"\x81"}, id="other body"),
        pytest.param({"node_id": "n-2"}, id="wrong audience"),
        pytest.param({"hive_id": "h-2"}, id="wrong issuer"),
        pytest.param({"keys": {"k-2": PUBLIC}}, id="unknown kid"),
        pytest.param({"keys": {"k-1": bytes(31)}}, id="no key at all"),
        pytest.param({"keys": {"k-1": OTHER_KEY.public_key().public_bytes_raw()}}, id="wrong key"),
    ],
)
def test_a_capability_for_another_call_is_refused(other: dict[str, Any]) -> None:
    """A capability allows one operation with one body at one node of one hive, no other."""
    with pytest.raises(RemoteProtocolError) as caught:
        check(**other)
    assert caught.value.code is ErrorCode.FORBIDDEN


def test_a_capability_expires() -> None:
    """It holds to its last second and the leeway, by the clock that is handed in."""
    end = CAPABILITY.expires_at_s + limits.TOKEN_LEEWAY_S
    check(now_s=end)
    with pytest.raises(RemoteProtocolError, match="expired"):
        check(now_s=end + 0.1)


def test_a_capability_of_the_future_is_refused() -> None:
    """It does not hold before it was issued, less the leeway."""
    start = CAPABILITY.issued_at_s - limits.TOKEN_LEEWAY_S
    check(now_s=start)
    with pytest.raises(RemoteProtocolError, match="not valid yet"):
        check(now_s=start - 0.1)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(by_hand({"alg": "none"}, None), id="alg none"),
        pytest.param(by_hand({"alg": "HS256"}, PUBLIC), id="HS256 with the public key"),
        pytest.param(signed(claims(), typ="JWT"), id="wrong typ"),
        pytest.param(jwt.encode(claims(), KEY, algorithm="EdDSA"), id="no kid"),
        pytest.param(TOKEN[:-4] + "AAAA", id="tampered signature"),
        pytest.param(TOKEN.rsplit(".", 1)[0] + ".", id="no signature"),
        pytest.param("no token at all", id="garbage"),
        pytest.param("", id="empty"),
    ],
)
def test_a_token_that_does_not_verify_is_refused(token: str) -> None:
    """Neither the token nor its header chooses the algorithm, the key or the kind of token."""
    with pytest.raises(RemoteProtocolError) as caught:
        check(token)
    assert caught.value.code is ErrorCode.FORBIDDEN


@pytest.mark.parametrize(
    "claim", ["iss", "aud", "sub", "jti", "iat", "exp", "role", "att", "op", "bh", "gen"]
)
def test_a_token_that_lacks_a_claim_is_refused(claim: str) -> None:
    """Each claim has to be there; none has a default that lets something through."""
    read = claims()
    del read[claim]
    with pytest.raises(RemoteProtocolError) as caught:
        check(signed(read))
    assert caught.value.code is ErrorCode.FORBIDDEN


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ("iat", "now"),
        ("exp", "never"),
        ("exp", None),
        ("exp", [1]),
        ("gen", None),
        ("op", ["stop"]),
        ("jti", 7),
        ("sub", 7),
    ],
)
def test_a_claim_of_another_type_is_refused(claim: str, said: Any) -> None:
    """A claim that is not what it should be is refused as the rest is, not with a crash."""
    header = {"alg": "EdDSA", "kid": "k-1", "typ": TYPE}
    content = b".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in (header, claims() | {claim: said})
    )
    signature = base64.urlsafe_b64encode(KEY.sign(content)).rstrip(b"=")
    with pytest.raises(RemoteProtocolError) as caught:
        check((content + b"." + signature).decode())
    assert caught.value.code is ErrorCode.FORBIDDEN


# --- hellos and enrolments ------------------------------------------------------------------------

HELLO = Hello(
    node_id="n-1",
    instance=7,
    connect_no=2,
    host="hive.example",
    signature=KEY.sign(tokens.hello_bytes("h-1", "hive.example", b"nonce", "n-1", 7, 2)),
    version="0.1.0",
    epochs=[],
)


def check_hello(hello: Hello = HELLO, **other: Any) -> None:
    """Check a hello against the link it was signed for, or against another one."""
    link: dict[str, Any] = {
        "public_key": PUBLIC,
        "hive_id": "h-1",
        "nonce": b"nonce",
        "hosts": frozenset({"hive.example"}),
    }
    tokens.check_hello(hello, **link | other)


def test_a_hello_of_its_node_passes() -> None:
    """A hello signed for this link passes, also at a hive that does not know its addresses."""
    check_hello()
    check_hello(hosts=frozenset())


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"host": "other.example"}, id="other host"),
        pytest.param({"node_id": "n-2"}, id="other node"),
        pytest.param({"instance": 8}, id="other instance"),
        pytest.param({"connect_no": 3}, id="other connection"),
        pytest.param({"signature": bytes(64)}, id="tampered signature"),
        pytest.param({"signature": b""}, id="no signature"),
    ],
)
def test_a_changed_hello_is_refused(changed: dict[str, Any]) -> None:
    """Nothing that was signed can be changed, wherever the hive may be reached."""
    with pytest.raises(RemoteProtocolError) as caught:
        check_hello(msgspec.structs.replace(HELLO, **changed), hosts=frozenset())
    assert caught.value.meaning.close_code == 4401


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"nonce": b"of another link"}, id="other nonce"),
        pytest.param({"hive_id": "h-2"}, id="other hive"),
        pytest.param({"public_key": OTHER_KEY.public_key().public_bytes_raw()}, id="other key"),
        pytest.param({"public_key": b"short"}, id="no key"),
        pytest.param({"hosts": frozenset({"hive.other"})}, id="not our address"),
    ],
)
def test_a_hello_for_another_link_is_refused(other: dict[str, Any]) -> None:
    """A hello opens the link it was signed for and no other, so none can be passed on."""
    with pytest.raises(RemoteProtocolError) as caught:
        check_hello(**other)
    assert caught.value.meaning.close_code == 4401
    assert caught.value.hint


def test_enrolment_proves_the_key_for_one_token() -> None:
    """A signature to enrol holds for its token and its key, and never opens a link."""
    signature = KEY.sign(tokens.enrol_bytes("token", PUBLIC))
    assert tokens.signature_holds(PUBLIC, signature, tokens.enrol_bytes("token", PUBLIC))
    assert not tokens.signature_holds(PUBLIC, signature, tokens.enrol_bytes("other", PUBLIC))
    other_public = OTHER_KEY.public_key().public_bytes_raw()
    assert not tokens.signature_holds(PUBLIC, signature, tokens.enrol_bytes("token", other_public))
    assert not tokens.signature_holds(
        PUBLIC, signature, tokens.hello_bytes("h-1", "hive.example", b"nonce", "n-1", 7, 2)
    )


def test_the_join_token_itself_is_not_signed() -> None:
    """What is signed holds only the token's hash: a leaked signature gives no token away."""
    assert b"secret-token" not in tokens.enrol_bytes("secret-token", PUBLIC)
