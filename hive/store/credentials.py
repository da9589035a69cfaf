"""Who may call and who may join: tokens, one-time join tokens, revocations.

Secrets are answered once and stored as hashes. A revocation is first written to a file outside the
database, which a restore applies: a backup brings no revoked node or token back.
"""

import hashlib
import secrets
from pathlib import Path
from typing import Final

import msgspec

from hive.projections import EventDraft
from hive.store import events, nodes
from hive.store.backend import Database, Row, Transaction
from hive.store.catalog import resolve
from hive.store.ids import new_id
from hive.store.line_files import append_line
from hive.store.nodes import NodeRow
from protocol.errors import ErrorCode, OperationError, SkepError
from protocol.operations import Role

TOKEN_PREFIX: Final = "skep_"  # noqa: S105  how ours are told from other secrets, not one itself
JOIN_PREFIX: Final = "skepjoin_"
_SECRET_BYTES: Final = 32
#: A join token lives no longer, whatever is asked.
JOIN_TTL_MS_MAX: Final = 3_600_000
#: How often the last use of a token is written down.
_USED_EVERY_MS: Final = 60_000

_INSERT = """
INSERT INTO token (id, hash, name, role, created_by, created_at_ms, expires_at_ms, revoked_at_ms,
    last_used_at_ms)
VALUES (:id, :hash, :name, :role, :actor, :now_ms, :expires_at_ms, NULL, NULL)
"""
_SELECT = "SELECT * FROM token WHERE id = :id"
_SELECT_BY_HASH = "SELECT * FROM token WHERE hash = :hash"
_SELECT_PAGE = """
SELECT * FROM token
WHERE created_at_ms < :created_at_ms OR (created_at_ms = :created_at_ms AND id < :id)
ORDER BY created_at_ms DESC, id DESC LIMIT :limit
"""
_REVOKE = """
UPDATE token SET revoked_at_ms = :now_ms WHERE id = :id AND revoked_at_ms IS NULL
"""
_TOUCH = "UPDATE token SET last_used_at_ms = :now_ms WHERE id = :id"
_INSERT_JOIN = """
INSERT INTO join_token (id, hash, label, created_by, created_at_ms, expires_at_ms, used_at_ms,
    used_public_key, node_id)
VALUES (:id, :hash, :label, :actor, :now_ms, :expires_at_ms, NULL, NULL, NULL)
"""
_SELECT_JOIN = "SELECT * FROM join_token WHERE hash = :hash"
_USE_JOIN = """
UPDATE join_token SET used_at_ms = :now_ms, used_public_key = :public_key, node_id = :node_id
WHERE id = :id AND used_at_ms IS NULL
"""


class TokenRow(msgspec.Struct, frozen=True, kw_only=True):
    """A token without its secret. `role` is the lower-case name of a `Role`."""

    id: str
    name: str
    role: str
    created_by: str
    created_at_ms: int
    expires_at_ms: int | None
    revoked_at_ms: int | None
    last_used_at_ms: int | None


def hash_of(secret: str) -> bytes:
    """Return what is stored of a secret; it has 256 random bits, so a plain hash will do."""
    return hashlib.sha256(secret.encode()).digest()


def _token(row: Row) -> TokenRow:
    return TokenRow(**{name: row[name] for name in TokenRow.__struct_fields__})


# --- tokens ---------------------------------------------------------------------------------------


async def create_token(
    tx: Transaction, *, name: str, role: Role, actor: str, ttl_ms: int | None, now_ms: int
) -> tuple[str, TokenRow]:
    """Make a token; return its secret, which is not stored, and its row."""
    secret = TOKEN_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    token_id = new_id(now_ms)
    await tx.execute(
        _INSERT,
        {
            "id": token_id,
            "hash": hash_of(secret),
            "name": name,
            "role": role.name.lower(),
            "actor": actor,
            "now_ms": now_ms,
            "expires_at_ms": None if ttl_ms is None else now_ms + ttl_ms,
        },
    )
    await _audit(tx, "token_created", token_id, actor, now_ms, name=name, role=role.name.lower())
    return secret, await get_token(tx, token_id)


async def find_token(tx: Transaction, secret: str, now_ms: int) -> TokenRow | None:
    """Return the token of this secret; None where it is unknown, expired or revoked."""
    row = await tx.fetch_one(_SELECT_BY_HASH, {"hash": hash_of(secret)})
    if row is None:
        return None
    token = _token(row)
    expired = token.expires_at_ms is not None and token.expires_at_ms <= now_ms
    return None if expired or token.revoked_at_ms is not None else token


def use_is_worth_noting(token: TokenRow, now_ms: int) -> bool:
    """Whether `touch_token` should be called: not at every request."""
    return token.last_used_at_ms is None or now_ms - token.last_used_at_ms >= _USED_EVERY_MS


async def touch_token(tx: Transaction, token_id: str, now_ms: int) -> None:
    """Write down that a token was used now."""
    await tx.execute(_TOUCH, {"id": token_id, "now_ms": now_ms})


async def get_token(tx: Transaction, token_id: str) -> TokenRow:
    """Return one token. Raises NOT_FOUND."""
    row = await tx.fetch_one(_SELECT, {"id": token_id})
    if row is None:
        raise OperationError(ErrorCode.NOT_FOUND, f"there is no token {token_id}")
    return _token(row)


async def list_tokens(
    tx: Transaction, *, before: tuple[int, str] | None = None, limit: int = 50
) -> list[TokenRow]:
    """Return tokens, newest first; `before` is time and id of the last of the page before."""
    created_at_ms, token_id = before or (2**62, "")
    rows = await tx.fetch_all(
        _SELECT_PAGE, {"created_at_ms": created_at_ms, "id": token_id, "limit": limit}
    )
    return [_token(row) for row in rows]


async def resolve_token(tx: Transaction, text: str) -> str:
    """Return the id of the token named by id, part of an id, or name."""
    return await resolve(tx, "token", text)


# --- joining --------------------------------------------------------------------------------------


async def create_join_token(
    tx: Transaction, *, label: str, actor: str, expires_at_ms: int, now_ms: int
) -> str:
    """Make a one-time token that lets a machine join; return its secret, which is not stored."""
    secret = JOIN_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    token_id = new_id(now_ms)
    await tx.execute(
        _INSERT_JOIN,
        {
            "id": token_id,
            "hash": hash_of(secret),
            "label": label,
            "actor": actor,
            "expires_at_ms": min(expires_at_ms, now_ms + JOIN_TTL_MS_MAX),
            "now_ms": now_ms,
        },
    )
    await _audit(tx, "join_token_created", token_id, actor, now_ms, label=label)
    return secret


async def use_join_token(
    tx: Transaction,
    secret: str,
    *,
    node_id: str,
    public_key: bytes,
    name: str,
    now_ms: int,
) -> NodeRow:
    """Take a machine in, once: by compare-and-swap. The same token and key again: the same node.

    The caller has verified that the machine holds the key's private half.
    """
    row = await tx.fetch_one(_SELECT_JOIN, {"hash": hash_of(secret)})
    if row is None:
        raise _no_join("the join token is not known here", "Check that it is this hive's.")
    if row["used_at_ms"] is not None and bytes(row["used_public_key"]) == public_key:
        return await nodes.get_node(tx, row["node_id"])
    if row["used_at_ms"] is not None:
        raise _no_join("the join token has been used", "Each lets one machine join; make another.")
    if row["expires_at_ms"] <= now_ms:
        raise _no_join("the join token has expired", "It lives an hour at most; make another.")
    used = {"id": row["id"], "now_ms": now_ms, "public_key": public_key, "node_id": node_id}
    if not await tx.execute(_USE_JOIN, used):
        raise _no_join("the join token has been used", "Each lets one machine join; make another.")
    labels = [row["label"]] if row["label"] else []
    return await nodes.enrol(
        tx, node_id=node_id, name=name, public_key=public_key, labels=labels, now_ms=now_ms
    )


def _no_join(message: str, hint: str) -> SkepError:
    return SkepError(
        ErrorCode.AUTHENTICATION_FAILED, message, hint=f"{hint} hive nodes join-token makes one."
    )


async def _audit(
    tx: Transaction, kind: str, token_id: str, actor: str, now_ms: int, **details: str
) -> None:
    draft = EventDraft(
        kind=kind,
        what="token",
        what_id=token_id,
        audit=True,
        actor_kind="user",
        actor=actor,
        details=details,
    )
    await events.record(tx, draft, now_ms)


# --- revoking -------------------------------------------------------------------------------------

NODE: Final = "node"
TOKEN: Final = "token"  # noqa: S105  a word of the file


class Revocation(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the file. A node that joined again later is not meant by it."""

    what: str
    id: str
    at_ms: int


class Revocations:
    """The file of revocations beside the database, and the calls that go through it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def revoke_node(
        self, database: Database, node_id: str, *, actor: str, now_ms: int
    ) -> None:
        """Let a node never write again. Close its socket after this. Raises NOT_FOUND."""
        await database.read(nodes.get_node, node_id)
        self.append(Revocation(what=NODE, id=node_id, at_ms=now_ms))
        await database.write(nodes.revoke_node, node_id, actor=actor, now_ms=now_ms)

    async def revoke_token(
        self, database: Database, token_id: str, *, actor: str, now_ms: int
    ) -> TokenRow:
        """Have a token refused from here on. Raises NOT_FOUND."""
        await database.read(get_token, token_id)
        self.append(Revocation(what=TOKEN, id=token_id, at_ms=now_ms))
        return await database.write(revoke_token, token_id, actor=actor, now_ms=now_ms)

    def append(self, revocation: Revocation) -> None:
        """Write a line, on disk before this returns."""
        append_line(self.path, msgspec.json.encode(revocation))

    def read(self) -> list[Revocation]:
        """Return what was revoked, the latest time of each; a line cut off is passed over."""
        if not self.path.exists():
            return []
        latest: dict[tuple[str, str], Revocation] = {}
        for line in self.path.read_bytes().splitlines():
            try:
                revocation = msgspec.json.decode(line, type=Revocation)
            except msgspec.MsgspecError:
                continue
            latest[revocation.what, revocation.id] = revocation
        return list(latest.values())


async def revoke_token(tx: Transaction, token_id: str, *, actor: str, now_ms: int) -> TokenRow:
    """Have a token refused. Call it through `Revocations`, which writes it down first."""
    if await tx.execute(_REVOKE, {"id": token_id, "now_ms": now_ms}):
        await _audit(tx, "token_revoked", token_id, actor, now_ms)
    return await get_token(tx, token_id)


_REVOKED_NODE = """
UPDATE node SET revoked_at_ms = :at_ms, link_no = link_no + 1
WHERE id = :id AND revoked_at_ms IS NULL AND joined_at_ms <= :at_ms
"""
_REVOKED_TOO = """
UPDATE token SET revoked_at_ms = :at_ms WHERE id = :id AND revoked_at_ms IS NULL
"""


async def apply_revocations(tx: Transaction, revocations: list[Revocation], now_ms: int) -> int:
    """Revoke again what a restored backup still holds good; return how many that were."""
    applied = 0
    for revocation in revocations:
        statement = _REVOKED_NODE if revocation.what == NODE else _REVOKED_TOO
        applied += await tx.execute(statement, {"id": revocation.id, "at_ms": revocation.at_ms})
    if applied:
        draft = EventDraft(
            kind="revocations_applied",
            what="hive",
            what_id="",
            why="a restored backup held good what was revoked after it",
            audit=True,
            actor_kind="hive",
            details={"count": applied, "of": len(revocations)},
        )
        await events.record(tx, draft, now_ms)
    return applied
