"""`/api/v1/tokens` and `/api/v1/join-tokens`: who may call the hive, and what may join it."""

from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from hive.api import replies
from hive.api.context import CONTEXT, now_ms, url_of
from hive.api.decoding import InvalidInput, body_of, query_of
from hive.api.middleware import json_response, principal_of
from hive.api.paging import PageQuery, page_of, unpack
from hive.api.texts import check_line
from hive.config import is_loopback
from hive.store import credentials
from protocol.operations import Role

_JOIN_TTL_S_MAX: Final = 3600
_TOKEN_TTL_S_MAX: Final = 10 * 366 * 86400
_ROLES: Final = {role.name.lower(): role for role in Role}


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token for `name`, with a role: auditor, viewer, operator, maintainer, admin."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    role: str = "viewer"
    ttl_s: Annotated[int, msgspec.Meta(ge=1, le=_TOKEN_TTL_S_MAX)] | None = None


class NewJoinToken(msgspec.Struct, frozen=True, kw_only=True):
    """A one-time token for one machine; `ttl_s` is an hour at most."""

    label: Annotated[str, msgspec.Meta(max_length=100)] = ""
    ttl_s: Annotated[int, msgspec.Meta(ge=1, le=_JOIN_TTL_S_MAX)] = _JOIN_TTL_S_MAX


def _reply(row: credentials.TokenRow) -> replies.Token:
    return msgspec.convert(row, replies.Token, from_attributes=True)


async def list_(request: web.Request) -> web.Response:
    """List the tokens, newest first; never their secrets."""
    query = query_of(request, PageQuery)
    before = unpack(query.cursor, tuple[int, str])
    rows = await request.app[CONTEXT].database.read(
        credentials.list_tokens, before=before, limit=query.limit + 1
    )
    page = page_of(rows, query.limit, _reply, lambda row: (row.created_at_ms, row.id))
    return json_response(page)


async def create(request: web.Request) -> web.Response:
    """Make a token; its secret is answered this once."""
    asked = await body_of(request, NewToken)
    check_line("name", asked.name)
    role = _ROLES.get(asked.role)
    if role is None:
        raise InvalidInput(
            f"role: {asked.role[:100]!r} is none",
            field="role",
            hint=f"Roles: {', '.join(_ROLES)}.",
        )
    secret, row = await request.app[CONTEXT].database.write(
        credentials.create_token,
        name=asked.name,
        role=role,
        actor=principal_of(request).name,
        ttl_ms=None if asked.ttl_s is None else asked.ttl_s * 1000,
        now_ms=now_ms(),
    )
    made = msgspec.structs.asdict(_reply(row))
    return json_response(replies.MadeToken(**made, token=secret), status=201)


async def revoke(request: web.Request) -> web.Response:
    """Revoke a token; it is refused from here on."""
    context = request.app[CONTEXT]
    token_id = await context.database.read(credentials.resolve_token, request.match_info["token"])
    row = await context.revocations.revoke_token(
        context.database, token_id, actor=principal_of(request).name, now_ms=now_ms()
    )
    context.tokens.forget()
    return json_response(_reply(row))


async def create_join_token(request: web.Request) -> web.Response:
    """Make a one-time token that lets a machine join."""
    context = request.app[CONTEXT]
    asked = await body_of(request, NewJoinToken)
    if asked.label:
        check_line("label", asked.label)
    expires_at_ms = now_ms() + asked.ttl_s * 1000
    secret = await context.database.write(
        credentials.create_join_token,
        label=asked.label,
        actor=principal_of(request).name,
        expires_at_ms=expires_at_ms,
        now_ms=now_ms(),
    )
    made = replies.JoinToken(
        join_token=secret,
        expires_at_ms=expires_at_ms,
        command=_join_command(url_of(request), secret),
    )
    return json_response(made, status=201)


def _join_command(url: str, secret: str) -> str:
    parts = urlsplit(url)
    # A node refuses plain http to another machine until its operator agrees.
    plain = parts.scheme == "http" and not is_loopback(parts.hostname or "")
    return f"node-agent join {url} {secret}{' --plain-http' if plain else ''}"
