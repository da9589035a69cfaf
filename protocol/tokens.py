"""Signatures and short tokens: enrolment, hello, capabilities. One algorithm: Ed25519.

Time is an argument, also for expiry. Keys are looked up by id in a local table only; nothing in a
token chooses its algorithm or its key's place (RFC 8725).
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import jwt
import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocol import limits
from protocol.errors import ErrorCode, RemoteProtocolError
from protocol.messages import Hello

ALGORITHM: Final = "EdDSA"
_CAPABILITY_TYPE: Final = "skep-capability+jwt"
_HELLO_DOMAIN: Final = "skep-link-v1"
_ENROL_DOMAIN: Final = "skep-enrol-v1"


def hello_bytes(
    hive_id: str, host: str, nonce: bytes, node_id: str, instance: int, connect_no: int
) -> bytes:
    """Return what a node signs to open a link. The domain keeps it from meaning anything else."""
    return msgspec.msgpack.encode(
        [_HELLO_DOMAIN, hive_id, host, nonce, node_id, instance, connect_no]
    )


def enrol_bytes(join_token: str, public_key: bytes) -> bytes:
    """Return what a node signs to prove that it holds the key it registers."""
    return msgspec.msgpack.encode(
        [_ENROL_DOMAIN, hashlib.sha256(join_token.encode()).digest(), public_key]
    )


def signature_holds(public_key: bytes, signature: bytes, signed: bytes) -> bool:
    """Whether `signature` over `signed` was made with the private half of `public_key`."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def check_hello(
    hello: Hello, *, public_key: bytes, hive_id: str, nonce: bytes, hosts: frozenset[str]
) -> None:
    """Raise RemoteProtocolError (4401) unless `hello` is signed by its node, for this hive."""
    if hosts and hello.host not in hosts:
        raise RemoteProtocolError(
            ErrorCode.AUTHENTICATION_FAILED,
            f"the node dialled {hello.host!r}, which is not an address of this hive",
            hint="Add the address to the hive's public URLs (hive serve --public-url).",
        )
    signed = hello_bytes(
        hive_id, hello.host, nonce, hello.node_id, hello.instance, hello.connect_no
    )
    if not signature_holds(public_key, hello.signature, signed):
        raise RemoteProtocolError(
            ErrorCode.AUTHENTICATION_FAILED,
            "the signature of the hello does not verify",
            hint="The node's key is not the one it enrolled with; join it again.",
        )


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What the hive signs for a bearer: who may do something to an attempt at a node, until when.

    Base of each kind of token; a kind says what may be done.
    """

    jti: str
    actor: str
    role: str
    node_id: str
    attempt_id: str
    hive_id: str
    generation: int
    issued_at_s: int
    expires_at_s: int
    project_id: str | None = None


G = TypeVar("G", bound=Grant)

#: The claims in which the fields of grants stand.
_CLAIMS: Final = {
    "hive_id": "iss",
    "node_id": "aud",
    "actor": "sub",
    "jti": "jti",
    "issued_at_s": "iat",
    "expires_at_s": "exp",
    "role": "role",
    "project_id": "prj",
    "attempt_id": "att",
    "generation": "gen",
    "operation": "op",
    "body_hash": "bh",
}


class Capability(Grant, frozen=True, kw_only=True):
    """What the bearer may have the node do: exactly one operation with exactly one body."""

    operation: str
    body_hash: str


def body_hash(body: bytes) -> str:
    """Return the hash of a call's body as it stands in its capability."""
    return hashlib.blake2b(body, digest_size=32).hexdigest()


def mint_capability(capability: Capability, *, key: Ed25519PrivateKey, key_id: str) -> str:
    """Sign a capability as a JWT."""
    return sign_grant(capability, kind=_CAPABILITY_TYPE, key=key, key_id=key_id)


def check_capability(
    token: str,
    *,
    keys: Mapping[str, bytes],
    hive_id: str,
    generation: int,
    node_id: str,
    operation: str,
    attempt_id: str,
    body: bytes,
    now_s: float,
) -> Capability:
    """Return the capability if it allows just this call now; raise RemoteProtocolError if not.

    `now_s` is the hive's clock as the node reckons it from `welcome`. The caller keeps the `jti`s
    of unexpired capabilities and refuses a second use.
    """
    capability = check_grant(
        token,
        Capability,
        kind=_CAPABILITY_TYPE,
        what="capability",
        keys=keys,
        hive_id=hive_id,
        generation=generation,
        node_id=node_id,
        now_s=now_s,
    )
    if capability.operation != operation or capability.attempt_id != attempt_id:
        raise refused("the capability is for another operation")
    if capability.body_hash != body_hash(body):
        raise refused("the capability is for another body")
    return capability


def sign_grant(grant: Grant, *, kind: str, key: Ed25519PrivateKey, key_id: str) -> str:
    """Sign a grant as a JWT of one kind, which keeps it from passing for another."""
    claims = {_CLAIMS[name]: getattr(grant, name) for name in grant.__struct_fields__}
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": key_id, "typ": kind})


def check_grant(
    token: str,
    grant: type[G],
    *,
    kind: str,
    what: str,
    keys: Mapping[str, bytes],
    hive_id: str,
    generation: int,
    node_id: str,
    now_s: float,
) -> G:
    """Return what a token of this kind grants at this node now; raise RemoteProtocolError if not.

    `what` is what people call the token.
    """
    claims = verified_claims(token, keys, hive_id, node_id, kind=kind, what=what)
    told: dict[str, Any] = {}
    for field in msgspec.structs.fields(grant):
        if (claim := _CLAIMS[field.name]) in claims:
            told[field.name] = claims[claim]
        elif field.required:
            raise refused(f"the {what} lacks {claim!r}")
    try:
        granted = msgspec.convert({**told, "hive_id": hive_id, "node_id": node_id}, grant)
    except msgspec.ValidationError as error:
        raise refused(f"a claim of the {what} is not what it should be") from error
    if granted.expires_at_s + limits.TOKEN_LEEWAY_S < now_s:
        raise refused(f"the {what} has expired")
    if granted.issued_at_s - limits.TOKEN_LEEWAY_S > now_s:
        raise refused(f"the {what} is not valid yet")
    if granted.generation != generation:
        raise refused(f"the {what} is of another generation of the hive")
    return granted


def verified_claims(
    token: str, keys: Mapping[str, bytes], hive_id: str, node_id: str, *, kind: str, what: str
) -> dict[str, Any]:
    """Return the claims of a token of this kind, by this hive, for this node; times as they are."""
    try:
        header = jwt.get_unverified_header(token)
        public_key = keys[header["kid"]]
        if header.get("typ") != kind:
            raise refused(f"the token is not a {what}")
        claims: dict[str, Any] = jwt.decode(
            token,
            Ed25519PublicKey.from_public_bytes(public_key),
            algorithms=[ALGORITHM],
            audience=node_id,
            issuer=hive_id,
            # Expiry is judged by the caller's clock, see `check_grant`.
            options={
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
                "require": ["iss", "aud", "sub", "jti", "iat", "exp"],
            },
        )
    except (jwt.InvalidTokenError, KeyError, ValueError, TypeError) as error:
        raise refused(f"the {what} does not verify") from error
    return claims


def refused(reason: str) -> RemoteProtocolError:
    """Return the error of a token that allows nothing."""
    return RemoteProtocolError(ErrorCode.FORBIDDEN, reason)
