"""The checkouts of this node: which paths belong to which projects, each change with its op.

Must not look at the paths: `node_agent.checkouts` asks git.
"""

import msgspec

from node_agent.store.errors import NotStored
from node_agent.store.journal import save as save_state
from node_agent.store.journal import state_of, states_of
from node_agent.store.transaction import Transaction
from protocol.entities import Checkout
from protocol.errors import ErrorCode, SkepError
from protocol.messages import ProjectLink
from protocol.ops import OpKind
from protocol.states import SyncPolicy

_SET = """
INSERT INTO checkout (id, path, name, removed) VALUES (:id, :path, :name, :removed)
ON CONFLICT (id) DO UPDATE SET
    path = excluded.path, name = excluded.name, removed = excluded.removed
"""


async def save(tx: Transaction, checkout: Checkout, at_ms: int) -> None:
    """Write a checkout and its op."""
    await tx.execute(
        _SET,
        {
            "id": checkout.id,
            "path": checkout.path,
            "name": checkout.name,
            "removed": int(checkout.removed),
        },
    )
    await save_state(tx, OpKind.CHECKOUT, checkout.id, at_ms, checkout)


async def find(tx: Transaction, checkout_id: str) -> Checkout | None:
    """Return a checkout as it stands, also a removed one."""
    body = await state_of(tx, OpKind.CHECKOUT, checkout_id)
    return None if body is None else msgspec.msgpack.decode(body, type=Checkout)


async def present(tx: Transaction) -> list[Checkout]:
    """Return the checkouts that are not removed, by name."""
    found = [
        msgspec.msgpack.decode(body, type=Checkout) for body in await states_of(tx, OpKind.CHECKOUT)
    ]
    return sorted(
        (checkout for checkout in found if not checkout.removed), key=lambda it: (it.name, it.id)
    )


_BY_PATH = "SELECT id FROM checkout WHERE path = :path AND removed = 0"


async def at_path(tx: Transaction, path: str) -> Checkout | None:
    """Return the checkout at this path, if it is one of ours."""
    row = await tx.fetch_one(_BY_PATH, {"path": path})
    return None if row is None else await find(tx, row["id"])


_BY_TEXT = """
SELECT id FROM checkout
WHERE removed = 0 AND (id = :text OR name = :text OR path = :text
    OR (:part AND (substr(id, 1, :length) = :text OR substr(id, -:length) = :text)))
ORDER BY id = :text DESC, path = :text DESC, name = :text DESC, id LIMIT 2
"""
_PART_CHARACTERS_MIN = 8


async def resolve(tx: Transaction, text: str) -> Checkout:
    """Return the checkout a person means by its id, part of it, its name or its path.

    Raises NO_CHECKOUT, or INVALID where several fit equally well.
    """
    length = len(text)
    rows = await tx.fetch_all(
        _BY_TEXT, {"text": text, "length": length, "part": length >= _PART_CHARACTERS_MIN}
    )
    found = [checkout for row in rows if (checkout := await find(tx, row["id"])) is not None]
    if not found:
        raise NoCheckout(text, [checkout.name for checkout in await present(tx)])
    first = found[0]
    if len(found) > 1 and text not in {first.id, first.path}:
        raise SkepError(
            ErrorCode.INVALID,
            f"several checkouts fit {text!r}",
            hint="Give its path or its id.",
            paths=[checkout.path for checkout in found],
        )
    return first


class NoCheckout(NotStored):
    """This node has no checkout of the project that is meant."""

    def __init__(self, text: str, known: list[str]) -> None:
        super().__init__("checkout", text, known=known)
        self.code = ErrorCode.NO_CHECKOUT
        self.message = f"this node has no checkout {text!r}"
        self.hint = (
            f"It has: {', '.join(known)}."
            if known
            else "Add one on the node: node-agent checkout add PATH."
        )


# --- what the hive made of them -------------------------------------------------------------------

_SET_LINK = """
INSERT INTO project_link (checkout_id, body) VALUES (:checkout_id, :body)
ON CONFLICT (checkout_id) DO UPDATE SET body = excluded.body
"""


async def save_links(tx: Transaction, links: list[ProjectLink]) -> None:
    """Keep which project each checkout belongs to, as the hive says."""
    await tx.executemany(
        _SET_LINK,
        [{"checkout_id": link.checkout_id, "body": msgspec.msgpack.encode(link)} for link in links],
    )


_LINK = "SELECT body FROM project_link WHERE checkout_id = :checkout_id"


async def link_of(tx: Transaction, checkout_id: str) -> ProjectLink | None:
    """Return what the hive made of a checkout; None where it has not said."""
    row = await tx.fetch_one(_LINK, {"checkout_id": checkout_id})
    return None if row is None else msgspec.msgpack.decode(row["body"], type=ProjectLink)


_LINKS = "SELECT body FROM project_link ORDER BY checkout_id"


async def links(tx: Transaction) -> list[ProjectLink]:
    """Return what the hive made of all checkouts."""
    rows = await tx.fetch_all(_LINKS)
    return [msgspec.msgpack.decode(row["body"], type=ProjectLink) for row in rows]


async def unstreamed(tx: Transaction) -> frozenset[str]:
    """Return the checkouts whose logs the hive fetches itself, or never keeps."""
    return frozenset(
        link.checkout_id for link in await links(tx) if link.sync_policy != SyncPolicy.FULL
    )


async def for_project(tx: Transaction, project_id: str) -> list[Checkout]:
    """Return the present checkouts that the hive linked to a project."""
    linked = {link.checkout_id for link in await links(tx) if link.project_id == project_id}
    return [checkout for checkout in await present(tx) if checkout.id in linked]
