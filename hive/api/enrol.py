"""`POST /v1/enrol`: a machine joins, with a one-time token and proof that it holds its key."""

import base64
import binascii
from typing import Annotated

import msgspec
from aiohttp import web

from hive.api import replies
from hive.api.context import CONTEXT, now_ms, url_of
from hive.api.decoding import InvalidInput, body_of
from hive.api.middleware import caller_address, json_response
from hive.config import is_loopback
from hive.store import credentials
from protocol.errors import ErrorCode, SkepError
from protocol.ids import node_id_of
from protocol.tokens import enrol_bytes, signature_holds

_PUBLIC_KEY_BYTES = 32


class Enrolment(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine says when it joins. `public_key` and `proof` are in base64."""

    join_token: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    public_key: Annotated[str, msgspec.Meta(max_length=100)]
    proof: Annotated[str, msgspec.Meta(max_length=200)]
    name: Annotated[str, msgspec.Meta(max_length=100)] = ""


async def enrol(request: web.Request) -> web.Response:
    """Take a machine in. Whoever guesses tokens is slowed down, by address."""
    context = request.app[CONTEXT]
    address = caller_address(request, behind_proxy=context.config.behind_proxy)
    # This machine's own users could read the hive's data anyway; behind a proxy, though, every
    # caller would seem to be this machine.
    exempt = is_loopback(address) and not context.config.behind_proxy
    if not exempt:
        context.enrol_failures.check(address)
    try:
        asked = await body_of(request, Enrolment)
        public_key = _proven_key(asked)
        node = await context.database.write(
            credentials.use_join_token,
            asked.join_token,
            node_id=node_id_of(public_key),
            public_key=public_key,
            name=_shown_name(asked.name),
            now_ms=now_ms(),
        )
    except SkepError as error:
        if not exempt and error.meaning.http_status < 500:
            context.enrol_failures.count(address)
        raise
    return json_response(
        replies.Enrolled(
            node_id=node.id,
            name=node.name,
            hive_id=context.hive_id,
            keys=context.keys,
            public_urls=context.config.public_urls or [url_of(request)],
        )
    )


def _proven_key(asked: Enrolment) -> bytes:
    public_key = _decoded("public_key", asked.public_key)
    if len(public_key) != _PUBLIC_KEY_BYTES:
        raise InvalidInput("public_key: it is no Ed25519 key", field="public_key")
    proof = _decoded("proof", asked.proof)
    if not signature_holds(public_key, proof, enrol_bytes(asked.join_token, public_key)):
        raise SkepError(
            ErrorCode.AUTHENTICATION_FAILED,
            "the proof of holding the key does not verify",
            hint="Join again; where that fails too, hive and node are of releases too far apart.",
        )
    return public_key


def _decoded(field: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"{field}: it is not base64", field=field) from error


def _shown_name(name: str) -> str:
    # It is shown in terminals and pages: no control characters, no line breaks.
    return "".join(letter for letter in name if letter.isprintable()).strip()
