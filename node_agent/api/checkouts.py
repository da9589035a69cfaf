"""Checkouts over the local API."""

from pathlib import Path
from typing import Any

import msgspec

from node_agent.api.exchange import ApiReply, ApiRequest, reply_json
from node_agent.checkouts import add_checkout, remove_checkout
from node_agent.local_node import LocalNode
from node_agent.store import checkouts as stored
from node_agent.store.transaction import Transaction
from protocol.entities import Checkout
from protocol.messages import ProjectLink


class NewCheckout(msgspec.Struct, frozen=True, kw_only=True):
    """What `checkout add` asks. `name`: the project's; else the repository's own."""

    path: str
    name: str | None = None


async def add(node: LocalNode, asked: ApiRequest) -> ApiReply:
    """Take up a checkout, or look again at one that is there."""
    new = asked.decode(NewCheckout)
    found = await add_checkout(node.database, Path(new.path), new.name)
    return reply_json(await node.database.read(_shown, found), status=201)


async def list_all(node: LocalNode, _: ApiRequest) -> ApiReply:
    """Answer all checkouts; a machine has few."""
    return reply_json({"items": await node.database.read(_all), "next": None})


async def remove(node: LocalNode, asked: ApiRequest) -> ApiReply:
    """Let a checkout go."""
    removed = await remove_checkout(node.database, asked.path["checkout"])
    return reply_json(await node.database.read(_shown, removed))


async def _all(tx: Transaction) -> list[dict[str, Any]]:
    return [await _shown(tx, one) for one in await stored.present(tx)]


async def _shown(tx: Transaction, one: Checkout) -> dict[str, Any]:
    link: ProjectLink | None = await stored.link_of(tx, one.id)
    project = None if link is None else msgspec.to_builtins(link)
    return {**msgspec.to_builtins(one), "project": project}
