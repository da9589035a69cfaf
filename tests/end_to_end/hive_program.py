"""A hive as a process on a data folder of its own, and the two ways to speak to it.

Owns its port, which stays the same over restarts.
"""

import contextlib
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hive.client import HiveClient
from protocol.errors import ErrorCode, SkepError
from protocol.log_chunks import GapChunk, LogChunk, open_chunk
from tests.end_to_end.programs import Program
from tests.end_to_end.waiting import until


def free_port() -> int:
    """Return a port of the loopback address that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class HiveProgram(Program):
    """A hive: its data folder, its process, the admin's command line and client."""

    def __init__(self, folder: Path) -> None:
        super().__init__("hive", folder / "hive.log", "listening on ")
        self.data_dir = folder / "hive"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.serve_arguments: list[str] = []
        # Tests start a node more often in a minute than a hive would let one come.
        self.environment["SKEP_HIVE_NODE_CONNECTS_PER_MINUTE_MAX"] = "1000"
        self._client: HiveClient | None = None

    def init(self) -> dict[str, Any]:
        """Found the hive; from then on commands are the admin's."""
        made: dict[str, Any] = self.json("init", "--data", str(self.data_dir))
        self.sign_in(made["admin_token"])
        return made

    def sign_in(self, token: str, ca: Path | None = None) -> None:
        """Have commands and the client speak with this token."""
        self.environment["SKEP_HIVE_URL"] = self.url
        self.environment["SKEP_TOKEN"] = token
        if ca is not None:
            self.environment["SKEP_CA"] = str(ca)
        self.close_client()

    def run_arguments(self) -> list[str]:
        where = ["--data", str(self.data_dir), "--port", str(self.port)]
        return ["serve", *where, *self.serve_arguments]

    # --- the API ------------------------------------------------------------------------------

    @property
    def client(self) -> HiveClient:
        """The HTTP API, as the admin."""
        if self._client is None:
            self._client = HiveClient(
                self.url, self.environment["SKEP_TOKEN"], self.environment.get("SKEP_CA")
            )
        return self._client

    def close_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def attempt(self, attempt_id: str) -> dict[str, Any]:
        """One attempt as the hive shows it."""
        shown: dict[str, Any] = self.client.get(f"attempts/{attempt_id}")
        return shown

    def attempt_or_none(self, attempt_id: str) -> dict[str, Any] | None:
        """One attempt, or None where the hive has not heard of it."""
        try:
            return self.attempt(attempt_id)
        except SkepError as error:
            if error.code != ErrorCode.NOT_FOUND:
                raise
            return None

    def entries(self, attempt_id: str) -> int:
        """How many log entries of an attempt the hive holds; 0 where it has not heard of it."""
        found = self.attempt_or_none(attempt_id)
        return sum(one["log"]["entries"] for one in found["executions"]) if found else 0

    def wait_ended(self, attempt_id: str, *, within_s: float = 60.0) -> dict[str, Any]:
        """Wait until the hive shows an attempt as ended, with all of its log."""
        return until(
            lambda: self.attempt_or_none(attempt_id) or {},
            f"attempt {attempt_id} is ended and complete at the hive",
            holds=lambda one: one.get("phase") == "ended" and one["sync_state"] == "complete",
            within_s=within_s,
        )

    def node(self, name: str) -> dict[str, Any]:
        """One node as the hive shows it."""
        shown: dict[str, Any] = self.client.get(f"nodes/{name}")
        return shown

    def wait_node(self, name: str, status: str = "online") -> dict[str, Any]:
        """Wait until the hive shows a node in this status."""
        return until(
            lambda: self.node(name),
            f"node {name} is {status}",
            holds=lambda node: node["status"] == status,
        )

    # --- the file -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """Open the hive's own file for reading only."""
        with contextlib.closing(
            sqlite3.connect(f"file:{self.data_dir / 'hive.db'}?mode=ro", uri=True)
        ) as connection:
            yield connection

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read the hive's own file."""
        with self.database() as connection:
            return connection.execute(query, values).fetchall()

    def chunks(self, execution_id: str) -> list[LogChunk | GapChunk]:
        """The chunks of a log as the hive stored them."""
        found = self.rows(
            "SELECT chunk_seq, through_seq, first_entry, entries, raw_bytes, crc32, first_ms,"
            " last_ms, gap_reason, blob FROM chunk WHERE execution_id = ? ORDER BY chunk_seq",
            execution_id,
        )
        chunks: list[LogChunk | GapChunk] = []
        for seq, through, first, entries, raw, crc, first_ms, last_ms, gap, blob in found:
            if gap is not None:
                chunks.append(
                    GapChunk(
                        execution_id=execution_id,
                        chunk_seq=seq,
                        through_seq=through,
                        first_entry=first,
                        entries=entries,
                        reason=gap,
                    )
                )
                continue
            chunks.append(
                LogChunk(
                    execution_id=execution_id,
                    chunk_seq=seq,
                    first_entry=first,
                    entries=entries,
                    raw_bytes=raw,
                    crc32=crc,
                    first_ms=first_ms,
                    last_ms=last_ms,
                    blob=bytes(blob),
                )
            )
        return chunks

    def stream(self, execution_id: str, stream: int) -> bytes:
        """Every byte of one stream of a log, as the hive stored it; fails where there is a gap."""
        pieces: list[bytes] = []
        for chunk in self.chunks(execution_id):
            assert isinstance(chunk, LogChunk), chunk
            pieces.extend(
                bytes(segment.data) for segment in open_chunk(chunk) if segment.stream == stream
            )
        return b"".join(pieces)
