"""Whether a link may write for its node: its key, its number, and whose rows it names.

Every commit of a link begins with `check_link`, so that an older socket, a revoked node or a second
holder of an identity writes nothing. Must not change anything: `links` does.
"""

from typing import Final

import msgspec

from hive.store.backend import CLOSES_PRESENT_LINK, Row, Transaction
from protocol.errors import ErrorCode, RemoteProtocolError

_SELECT = """
SELECT public_key, revoked_at_ms, quarantined_at_ms, quarantine_reason, holder, released_instance,
    link_no, snapshot_rank, snapshot_seq
FROM node WHERE id = :node_id
"""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict to be raised once it is written down."""

    code: ErrorCode
    message: str
    hint: str = ""
    #: Whether the link that the node has is refused with it.
    closes_present_link: bool = False

    def error(self) -> RemoteProtocolError:
        more = {CLOSES_PRESENT_LINK: True} if self.closes_present_link else {}
        return RemoteProtocolError(self.code, self.message, hint=self.hint, **more)


_UNKNOWN: Final = Refused(
    code=ErrorCode.UNKNOWN_NODE,
    message="this hive does not know the node",
    hint="Join again: node-agent join URL TOKEN. The node keeps its data and its id.",
)
_REVOKED: Final = Refused(
    code=ErrorCode.REVOKED,
    message="the node was revoked",
    hint="If that was a mistake, make a join token and join it again.",
)
SUPERSEDED: Final = Refused(
    code=ErrorCode.SUPERSEDED, message="another link of this node has taken its place"
)


def quarantined(node_id: str, *, closes_present_link: bool = False) -> Refused:
    """Return the refusal of a node in quarantine."""
    return Refused(
        closes_present_link=closes_present_link,
        code=ErrorCode.QUARANTINED,
        message="the node is in quarantine: two processes hold its identity, or its history forked",
        hint=f"See hive nodes show {node_id}, then hive nodes release {node_id} --instance I.",
    )


async def node_row(tx: Transaction, node_id: str) -> Row:
    """Return a node's row. Raises UNKNOWN_NODE, REVOKED."""
    row = await tx.fetch_one(_SELECT, {"node_id": node_id})
    if row is None:
        raise _UNKNOWN.error()
    if row["revoked_at_ms"] is not None:
        raise _REVOKED.error()
    return row


async def node_key(tx: Transaction, node_id: str) -> bytes:
    """Return a node's public key. Raises UNKNOWN_NODE, REVOKED."""
    row = await node_row(tx, node_id)
    return bytes(row["public_key"])


async def check_link(tx: Transaction, node_id: str, link_no: int) -> Row:
    """Raise unless `link_no` is the node's present link, and the node may write."""
    row = await node_row(tx, node_id)
    if row["quarantined_at_ms"] is not None:
        raise quarantined(node_id).error()
    if row["link_no"] != link_no:
        raise SUPERSEDED.error()
    return row


def foreign(what: str, entity_id: str) -> RemoteProtocolError:
    """Return the refusal of a frame that names what belongs to another node."""
    return RemoteProtocolError(
        ErrorCode.FORBIDDEN, f"the {what} belongs to another node", named=entity_id
    )
