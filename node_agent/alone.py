"""Answers a command from the stores themselves while no agent runs.

The same routes as the agent's socket, without what needs an agent. Holds the data folder's lock
for as long, so that no agent starts beside it.
"""

import asyncio
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

from node_agent.api.exchange import ApiRequest, reply_error
from node_agent.api.routes import answer, writes
from node_agent.callers import attempt_in
from node_agent.changes import Changes
from node_agent.config import NodeConfig, process_environment
from node_agent.data_folder import DataFolderLock
from node_agent.forge.credentials import ForgeAccess
from node_agent.identity import NODE_FILE, NodeRecord, open_identity, read_record
from node_agent.local_node import LocalNode
from node_agent.operations.dispatcher import OperationDispatcher
from node_agent.operations.table import functions_of
from node_agent.self_description import name_of, slots_of
from node_agent.stores import Stores, open_stores
from node_agent.uplink_view import LinkView
from protocol.errors import ErrorCode, OperationError, SkepError


def answer_alone(
    config: NodeConfig, method: str, target: str, body: bytes = b"", key: str | None = None
) -> tuple[int, bytes]:
    """Answer one request; returns status and body. Raises DataFolderBusyError."""
    parts = urlsplit(target)
    asked = ApiRequest(query=dict(parse_qsl(parts.query)), body=body, key=key)
    try:
        writing = writes(method, parts.path)
        if not writing and not (config.data_dir / NODE_FILE).exists():
            raise OperationError(
                ErrorCode.NOT_FOUND,
                f"there is no node in {config.data_dir}",
                hint="Name its folder with --data, or make one: node-agent join, or run.",
            )
    except SkepError as error:
        reply = reply_error(error)
        return reply.status, reply.body
    record = read_record(config.data_dir)
    if record is not None:
        asked = replace(asked, from_attempt=attempt_in(process_environment(), record.node_id))
    lock = DataFolderLock(config.data_dir)
    lock.acquire()
    try:
        return asyncio.run(_answer(config, method, parts.path, asked, writing=writing))
    finally:
        lock.close()


async def _answer(
    config: NodeConfig, method: str, path: str, asked: ApiRequest, *, writing: bool
) -> tuple[int, bytes]:
    identity = open_identity(config.data_dir)
    async with open_stores(config) as stores:
        if writing:
            await stores.journal.open_epoch(identity.instance)
        node = _node(config, stores)
        try:
            reply = await answer(node, method, path, asked)
            pieces = [] if reply.pieces is None else [piece async for piece in reply.pieces]
        except SkepError as error:
            reply, pieces = reply_error(error), []
    return reply.status, reply.body + b"".join(pieces)


def _node(config: NodeConfig, stores: Stores) -> LocalNode:
    record = read_record(config.data_dir)
    assert record is not None  # noqa: S101  open_identity has just written it
    changes = Changes()
    return LocalNode(
        config=config,
        record=lambda: record,
        name=name_of(config, record),
        slots=slots_of(config, record),
        database=stores.database,
        journal=stores.journal,
        chunks=stores.chunks,
        dispatcher=OperationDispatcher(
            functions_of(
                stores,
                changes,
                worktrees_dir=config.worktrees_dir,
                runner=None,
                forge=ForgeAccess.of(config),
            ),
            stores.ledger,
            node_id=record.node_id,
        ),
        changes=changes,
        link=lambda: _link(record),
    )


def _link(record: NodeRecord) -> LinkView | None:
    if record.hive is None:
        return None
    return LinkView(url=record.hive.url, hive_id=record.hive.hive_id)
