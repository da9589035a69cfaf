"""Tokens, joining once, and revocations that outlive a restore."""

import stat
from pathlib import Path

import pytest

from hive.store import credentials, nodes
from hive.store.credentials import JOIN_TTL_MS_MAX, Revocation, Revocations
from protocol import ids
from protocol.errors import ErrorCode, OperationError, SkepError
from protocol.operations import Role
from tests.hive.reported import NODE, NOW_MS
from tests.hive.store.open_hive import OpenHive

KEY, OTHER_KEY = b"K" * 32, b"L" * 32
NEW = ids.node_id_of(KEY)


async def make_token(hive: OpenHive, name: str = "ci", ttl_ms: int | None = None):
    """Make a token."""
    return await hive.write(
        credentials.create_token,
        name=name,
        role=Role.OPERATOR,
        actor="ann",
        ttl_ms=ttl_ms,
        now_ms=NOW_MS,
    )


async def make_join(hive: OpenHive, ttl_ms: int = 60_000) -> str:
    """Make a join token."""
    return await hive.write(
        credentials.create_join_token,
        label="lab",
        actor="ann",
        expires_at_ms=NOW_MS + ttl_ms,
        now_ms=NOW_MS,
    )


async def join(hive: OpenHive, secret: str, key: bytes = KEY, now_ms: int = NOW_MS):
    """Join with a token."""
    return await hive.write(
        credentials.use_join_token,
        secret,
        node_id=ids.node_id_of(key),
        public_key=key,
        name="gamma",
        now_ms=now_ms,
    )


@pytest.mark.asyncio
async def test_a_token_is_found_by_its_secret_alone(hive: OpenHive):
    """The secret is not stored; only it finds the token, until that expires."""
    secret, row = await make_token(hive, ttl_ms=1000)
    assert (row.role, row.name) == ("operator", "ci")
    assert await hive.read(credentials.find_token, secret, NOW_MS + 999) == row
    assert await hive.read(credentials.find_token, secret, NOW_MS + 1000) is None
    assert await hive.read(credentials.find_token, secret + "x", NOW_MS) is None
    stored = await hive.rows("SELECT * FROM token")
    assert secret.encode() not in b"".join(str(tuple(one)).encode() for one in stored)
    lasting, _ = await make_token(hive)
    assert await hive.read(credentials.find_token, lasting, NOW_MS * 2) is not None


@pytest.mark.asyncio
async def test_a_revoked_token_is_refused(hive: OpenHive, tmp_path: Path):
    """Revoking is written outside the database first, and once is enough."""
    secret, row = await make_token(hive)
    revocations = Revocations(tmp_path / "revocations.log")
    revoked = await revocations.revoke_token(hive.database, row.id, actor="ann", now_ms=NOW_MS)
    assert revoked.revoked_at_ms == NOW_MS
    assert await hive.read(credentials.find_token, secret, NOW_MS) is None
    assert revocations.read() == [Revocation(what="token", id=row.id, at_ms=NOW_MS)]
    assert stat.S_IMODE((tmp_path / "revocations.log").stat().st_mode) == 0o600
    with pytest.raises(OperationError) as caught:
        await revocations.revoke_token(hive.database, "nobody", actor="ann", now_ms=NOW_MS)
    assert caught.value.code is ErrorCode.NOT_FOUND
    assert len(revocations.read()) == 1


@pytest.mark.asyncio
async def test_tokens_are_listed_and_named(hive: OpenHive):
    """Lists come newest first in pages; a name, an id or a part of it names one."""
    rows = [(await make_token(hive, f"t{number}"))[1] for number in range(3)]
    rows.sort(key=lambda row: row.id, reverse=True)
    assert await hive.read(credentials.list_tokens, limit=2) == rows[:2]
    last = rows[1]
    rest = await hive.read(credentials.list_tokens, before=(last.created_at_ms, last.id))
    assert rest == rows[2:]
    assert await hive.read(credentials.resolve_token, last.name) == last.id
    assert await hive.read(credentials.resolve_token, last.id[-12:]) == last.id
    for text in ("nobody", "%", "%%%%%%%%%"):
        with pytest.raises(OperationError) as caught:
            await hive.read(credentials.resolve_token, text)
        assert caught.value.code is ErrorCode.NOT_FOUND


@pytest.mark.asyncio
async def test_the_last_use_is_noted_now_and_then(hive: OpenHive):
    """A token that was used a moment ago needs no write."""
    _, row = await make_token(hive)
    assert credentials.use_is_worth_noting(row, NOW_MS)
    await hive.write(credentials.touch_token, row.id, NOW_MS)
    used = await hive.read(credentials.get_token, row.id)
    assert not credentials.use_is_worth_noting(used, NOW_MS + 1000)
    assert credentials.use_is_worth_noting(used, NOW_MS + 100_000)


@pytest.mark.asyncio
async def test_a_join_token_lets_one_machine_in(hive: OpenHive):
    """Used once; the same machine may ask again and is the same node; nobody else may."""
    secret = await make_join(hive)
    node = await join(hive, secret)
    assert (node.id, node.name, node.labels, node.public_key) == (NEW, "gamma", ["lab"], KEY)
    again = await join(hive, secret, now_ms=NOW_MS + 10**9)
    assert again.id == NEW
    with pytest.raises(SkepError) as caught:
        await join(hive, secret, OTHER_KEY)
    assert caught.value.code is ErrorCode.AUTHENTICATION_FAILED
    assert "used" in caught.value.message
    assert len(await hive.rows("SELECT id FROM node WHERE id = :id", id=NEW)) == 1


@pytest.mark.asyncio
async def test_a_join_token_that_is_late_or_wrong_is_refused(hive: OpenHive):
    """Expired and unknown tokens are refused, each in its own words; an hour is the longest."""
    secret = await make_join(hive, ttl_ms=10**9)
    with pytest.raises(SkepError, match="expired"):
        await join(hive, secret, now_ms=NOW_MS + JOIN_TTL_MS_MAX)
    with pytest.raises(SkepError, match="not known"):
        await join(hive, secret + "x")
    assert (await join(hive, secret, now_ms=NOW_MS + JOIN_TTL_MS_MAX - 1)).id == NEW


@pytest.mark.asyncio
async def test_names_of_nodes_do_not_collide(hive: OpenHive):
    """A second machine of a name gets the end of its id to it."""
    first = await join(hive, await make_join(hive))
    second = await join(hive, await make_join(hive), OTHER_KEY)
    assert first.name == "gamma"
    assert second.name == f"gamma-{second.id[-8:]}"


@pytest.mark.asyncio
async def test_a_revoked_node_joins_again_by_an_admins_new_token_only(
    hive: OpenHive, tmp_path: Path
):
    """The old token does not bring it back; a new one does, under the same id."""
    secret = await make_join(hive)
    await join(hive, secret)
    revocations = Revocations(tmp_path / "revocations.log")
    await revocations.revoke_node(hive.database, NEW, actor="ann", now_ms=NOW_MS + 5)
    assert (await join(hive, secret)).revoked_at_ms == NOW_MS + 5
    back = await join(hive, await make_join(hive), now_ms=NOW_MS + 10)
    assert (back.id, back.revoked_at_ms) == (NEW, None)
    # A store from after that keeps it; one from before is told again.
    assert await hive.write(credentials.apply_revocations, revocations.read(), NOW_MS) == 0


@pytest.mark.asyncio
async def test_revocations_are_applied_to_a_store_that_lacks_them(hive: OpenHive, tmp_path: Path):
    """What the file names is revoked; what it names twice, or cut off by a crash, does no harm."""
    _, row = await make_token(hive)
    revocations = Revocations(tmp_path / "revocations.log")
    assert revocations.read() == []
    for _ in range(2):
        revocations.append(Revocation(what="node", id=NODE, at_ms=NOW_MS + 1))
    revocations.append(Revocation(what="token", id=row.id, at_ms=NOW_MS + 1))
    with revocations.path.open("ab") as file:
        file.write(b'{"what":"node","id":"cut')
    assert await hive.write(credentials.apply_revocations, revocations.read(), NOW_MS) == 2
    assert (await hive.read(nodes.get_node, NODE)).revoked_at_ms == NOW_MS + 1
    assert (await hive.read(credentials.get_token, row.id)).revoked_at_ms == NOW_MS + 1
    assert (await hive.happened())[-1] == "revocations_applied"


def test_a_revocation_after_one_that_was_cut_off_is_read(tmp_path: Path):
    """A crash in the middle of a line costs that line alone, never the next."""
    revocations = Revocations(tmp_path / "revocations.log")
    revocations.append(Revocation(what="node", id="one", at_ms=1))
    with revocations.path.open("ab") as file:
        file.write(b'{"what":"token","id":"tw')
    for number in range(2):
        revocations.append(Revocation(what="token", id=f"three-{number}", at_ms=3))
    assert [one.id for one in revocations.read()] == ["one", "three-0", "three-1"]
