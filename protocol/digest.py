"""The running digest of a journal: after each op, one BLAKE2b-128 over all ops up to it.

Both ends keep it beside each op, so two histories that share a number but not their content are
told apart at the next hello.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

from protocol.ops import Op

DIGEST_BYTES: Final = 16
#: The digest of an epoch with no ops.
EMPTY: Final = bytes(DIGEST_BYTES)


def after(digest: bytes, epoch: int, seq: int, op: Op) -> bytes:
    """Return the digest after `op`, which is number `seq` of `epoch`, given the one before it."""
    running = hashlib.blake2b(digest, digest_size=DIGEST_BYTES)
    kind, entity = op.kind.encode(), op.entity_id.encode()
    # Lengths first: without them two different ops could concatenate to the same bytes.
    running.update(
        b"%d %d %d %d %d %d|" % (epoch, seq, op.at_ms, len(kind), len(entity), len(op.body))
    )
    running.update(kind)
    running.update(entity)
    running.update(op.body)
    return running.digest()


def running(digest: bytes, epoch: int, first_seq: int, ops: Iterable[Op]) -> list[bytes]:
    """Return the digest after each of `ops`, the first of which is number `first_seq`."""
    digests = []
    for seq, op in enumerate(ops, first_seq):
        digest = after(digest, epoch, seq, op)
        digests.append(digest)
    return digests
