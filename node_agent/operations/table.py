"""The table: which function carries out which operation. One more operation is one line here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from node_agent.changes import Changes
from node_agent.operations.attempts import AttemptOperations, Runner
from node_agent.operations.dispatcher import OperationFunction
from node_agent.operations.follow import DiffFollowing
from node_agent.operations.log import LogReading
from node_agent.operations.work import WorkReading
from node_agent.store.contract import ChunkStore
from node_agent.store.database import Database


class OpenStores(Protocol):
    """What functions read and write."""

    @property
    def database(self) -> Database: ...

    @property
    def chunks(self) -> ChunkStore: ...


def functions_of(
    stores: OpenStores, changes: Changes, *, worktrees_dir: Path, runner: Runner | None
) -> Mapping[str, OperationFunction]:
    """Return the operations of this node; without a runner only those that read."""
    logs = LogReading(stores.database, stores.chunks, changes)
    work = WorkReading(stores.database, worktrees_dir)
    functions = {
        "log": OperationFunction(logs.run),
        "branch_status": OperationFunction(work.branch_status),
        "diff": OperationFunction(work.diff),
        "list_files": OperationFunction(work.list_files),
        "read_file": OperationFunction(work.read_file),
    }
    if runner is not None:
        # Nobody else lives long enough for it.
        functions["follow_diff"] = OperationFunction(DiffFollowing(work).run)
        attempts = AttemptOperations(stores.database, runner)
        functions |= {
            "start": OperationFunction(attempts.start, keeps_key=True),
            "stop": OperationFunction(attempts.stop, settle=attempts.settle_stop),
        }
    return functions
