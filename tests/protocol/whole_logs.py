"""Logs that are all at hand, read in one piece, as tests look at them."""

from collections.abc import Iterable, Iterator

from protocol.log_chunks import GapChunk, LogChunk, open_spans
from protocol.log_entries import EntryPage, Match, PageReading


def raw_stream(chunks: Iterable[LogChunk | GapChunk], stream: int) -> Iterator[bytes]:
    """Yield the exact bytes of one stream, a segment at a time; gaps have none. Raises BadChunk."""
    for chunk in chunks:
        if isinstance(chunk, LogChunk):
            payload, spans = open_spans(chunk)
            for span in spans:
                if span.stream == stream:
                    yield payload[span.start : span.end]


def entries_of(
    chunks: Iterable[LogChunk | GapChunk],
    after: int,
    limit: int,
    *,
    closed: bool,
    match: Match | None = None,
    chunks_max: int | None = None,
) -> EntryPage:
    """Return a page of a log."""
    reading = PageReading(after, limit, match=match, chunks_max=chunks_max)
    return reading.result(at_end=reading.take_all(chunks), closed=closed)
