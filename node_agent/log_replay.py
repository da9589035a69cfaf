"""Cuts chunks again that the chunk store lost, just as they were: its database is of an older copy.

Owns the note of each cut that is kept in the run folder, beside the output it was made of. Without
it, what is read again would be cut elsewhere, and a hive that has it already would show it twice.
Must not write anything that differs from what is noted: then the log is cut on as it comes.
"""

import functools
import logging
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from node_agent.log_cutter import CutChunk, LogCutter, SpoolEnd
from node_agent.redaction import Redactor
from node_agent.run_context import when_there_is_room
from node_agent.spool import START, Frame, SpoolPosition, SpoolReader
from node_agent.store.contract import ChunkStore
from node_agent.store.errors import LogMoved
from protocol import limits
from protocol.log_chunks import ContentDigest, LogChunk

LOG: Final = logging.getLogger(__name__)
CUTS_FILE: Final = "cuts"
_LENGTH: Final = struct.Struct(">I")
_READ_BYTES: Final = 64 * 1024
#: What is read ahead for one chunk: it ends there, or it was cut in another way.
_WAITING_BYTES_MAX: Final = 2 * limits.CHUNK_RAW_BYTES_MAX


class _Noted(msgspec.Struct, frozen=True, array_like=True):
    """One chunk that was committed: its number, the check of its blob, and where it ends."""

    chunk_seq: int
    crc32: int
    end: SpoolEnd


def note_cuts(folder: Path, cuts: Sequence[CutChunk]) -> None:
    """Note chunks that are committed. Not synced: a note that is lost is of no great harm."""
    encoded = [
        msgspec.msgpack.encode(_Noted(cut.chunk.chunk_seq, cut.chunk.crc32, cut.spool_end))
        for cut in cuts
        if isinstance(cut.chunk, LogChunk)
    ]
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        with os.fdopen(os.open(folder / CUTS_FILE, flags, 0o600), "wb") as file:
            file.write(b"".join(_LENGTH.pack(len(one)) + one for one in encoded))
    except OSError as error:
        LOG.warning("what was cut could not be noted in %s: %s", folder, error)


async def replay_cuts(
    chunks: ChunkStore, execution_id: str, hidden: list[bytes], folder: Path
) -> int:
    """Commit again what is noted behind the end of the log; return how many chunks."""
    log = await chunks.log(execution_id)
    noted = _read_notes(folder)
    if log is None or log.closed or log.next_chunk not in noted:
        return 0
    resumed = SpoolEnd() if log.spool_end is None else SpoolEnd.decode(log.spool_end)
    # The digest of the content is for the end of the log, which is not written here.
    cutter = LogCutter(execution_id, Redactor(hidden), resume=resumed, content=ContentDigest())
    cutter.renumber(log.next_chunk, log.next_entry)
    began = START if log.spool_end is None else SpoolPosition(*resumed.position)
    reader = SpoolReader(folder, began, resumed.emitted)
    committed = 0
    try:
        while (wanted := noted.get(cutter.next_chunk)) is not None:
            cut = _cut_to(cutter, reader, wanted)
            if cut is None:
                break
            stored = [(cut, wanted.end.encode())]
            try:
                await when_there_is_room(functools.partial(chunks.commit, stored))
            except LogMoved:
                # The hive was ahead, and had it numbered on meanwhile.
                break
            committed += 1
    finally:
        reader.close()
    if committed:
        LOG.warning("%d chunks of execution %s were cut again", committed, execution_id)
    return committed


def _cut_to(cutter: LogCutter, reader: SpoolReader, wanted: _Noted) -> LogChunk | None:
    """Return the chunk that was noted; None where it comes out as another."""
    while (cut := cutter.take_to(wanted.end)) is None:
        if cutter.waiting_bytes > _WAITING_BYTES_MAX:
            return None
        position = reader.position
        items = reader.read(_READ_BYTES)
        for item in items:
            if not isinstance(item, Frame):
                return None
            cutter.feed(item.stream, item.at_ms, item.data, position, item.stream_offset)
        if not items:
            return None
    chunk = cut.chunk
    same = isinstance(chunk, LogChunk) and chunk.crc32 == wanted.crc32
    return chunk if same and isinstance(chunk, LogChunk) else None


def _read_notes(folder: Path) -> dict[int, _Noted]:
    """Return what is noted, by number; of two lives of a log the later one counts."""
    noted: dict[int, _Noted] = {}
    try:
        content = memoryview((folder / CUTS_FILE).read_bytes())
    except OSError:
        return noted
    while len(content) >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(content)
        try:
            one = msgspec.msgpack.decode(content[_LENGTH.size :][:length], type=_Noted)
        except msgspec.DecodeError:
            # Torn, as after a power cut: what was before it holds.
            break
        noted[one.chunk_seq] = one
        content = content[_LENGTH.size + length :]
    return noted
