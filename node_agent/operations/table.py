"""The table: which function carries out which operation. One more operation is one line here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from node_agent.changes import Changes
from node_agent.forge.credentials import ForgeAccess
from node_agent.operations.answers import AnswerOperations
from node_agent.operations.attempts import AttemptOperations, Runner
from node_agent.operations.branch_changes import BranchChanges
from node_agent.operations.branch_names import BranchNames
from node_agent.operations.branch_place import BranchPlaces
from node_agent.operations.branch_push import BranchPush
from node_agent.operations.branch_reading import BranchReading
from node_agent.operations.dispatcher import OperationFunction
from node_agent.operations.follow import DiffFollowing
from node_agent.operations.keeping import KeepingOperations
from node_agent.operations.log import LogReading
from node_agent.operations.pull_requests import PullRequests
from node_agent.operations.scripts import ScriptOperations, ScriptStarter
from node_agent.operations.sessions import SessionOperations
from node_agent.operations.stashes import Stashes
from node_agent.operations.turns import TurnOperations, TurnReading, TurnRunner
from node_agent.operations.work import WorkReading
from node_agent.store.contract import ChunkStore
from node_agent.store.database import Database


class OpenStores(Protocol):
    """What functions read and write."""

    @property
    def database(self) -> Database: ...

    @property
    def chunks(self) -> ChunkStore: ...


class WholeRunner(Runner, TurnRunner, Protocol):
    """What carries attempts on, their turns and their scripts."""

    @property
    def scripts(self) -> ScriptStarter: ...


def functions_of(
    stores: OpenStores,
    changes: Changes,
    *,
    worktrees_dir: Path,
    runner: WholeRunner | None,
    forge: ForgeAccess,
    git_identity: str | None = None,
    node_name: Callable[[], str] = str,
    secrets: Callable[[], list[bytes]] = list,
) -> Mapping[str, OperationFunction]:
    """Return the operations of this node; without a runner only those that read."""
    logs = LogReading(stores.database, stores.chunks, changes)
    work = WorkReading(stores.database, worktrees_dir)
    branches = BranchReading(work)
    pulls = PullRequests(stores.database, worktrees_dir, forge, writes=runner is not None)
    functions = {
        "log": OperationFunction(logs.run),
        "branch_status": OperationFunction(work.branch_status),
        "diff": OperationFunction(work.diff),
        "list_files": OperationFunction(work.list_files),
        "read_file": OperationFunction(work.read_file),
        "turns": OperationFunction(TurnReading(stores.database, secrets).turns),
        "commits": OperationFunction(branches.commits),
        "compare": OperationFunction(branches.compare),
        "pr": OperationFunction(pulls.state),
    }
    if runner is not None:
        # Nobody else lives long enough for it.
        functions["follow_diff"] = OperationFunction(DiffFollowing(work).run)
        attempts = AttemptOperations(stores.database, runner)
        functions |= {
            "start": OperationFunction(attempts.start, keeps_key=True),
            "stop": OperationFunction(attempts.stop, settle=attempts.settle_stop),
            "create_pr": OperationFunction(pulls.create, settle=pulls.settle_create),
            "attach_pr": OperationFunction(pulls.attach, keeps_key=True),
        }
        answers = AnswerOperations(stores.database, secrets)
        functions["answer"] = OperationFunction(answers.answer, keeps_key=True)
        talks = SessionOperations(stores.database, secrets)
        functions["rename_session"] = OperationFunction(talks.rename, keeps_key=True)
        turns = TurnOperations(stores.database, worktrees_dir, runner, secrets)
        scripts = ScriptOperations(stores.database, worktrees_dir, runner.scripts)
        functions |= {
            name: OperationFunction(run, keeps_key=True, again=again)
            for name, run, again in (
                ("follow_up", turns.follow_up, turns.turn_again),
                ("set_turns", turns.set_turns, turns.turns_again),
                ("drop_turns", turns.drop_turns, turns.turns_again),
                ("interrupt", turns.interrupt, turns.turn_again),
                ("go_on", turns.go_on, turns.turn_again),
            )
        }
        functions |= {
            "run_script": OperationFunction(scripts.run_script, keeps_key=True),
            "review": OperationFunction(scripts.review, keeps_key=True),
        }
        keeping = KeepingOperations(stores.database, worktrees_dir)
        functions |= {
            "hold": OperationFunction(keeping.hold, keeps_key=True),
            "release": OperationFunction(keeping.release, keeps_key=True),
            "cleanup": OperationFunction(keeping.cleanup, settle=keeping.settle_cleanup),
        }
        places = BranchPlaces(stores.database, work, git_identity=git_identity, node_name=node_name)
        functions |= _branch_functions(stores.database, places)
    return functions


def _branch_functions(database: Database, places: BranchPlaces) -> Mapping[str, OperationFunction]:
    """Return what changes git: each writes down what it will do, and can be resumed."""
    changing = BranchChanges(database, places)
    pushing = BranchPush(places)
    names = BranchNames(database, places)
    stashes = Stashes(places)
    return {
        "merge": OperationFunction(changing.merge, resume=changing.resume_merge),
        "rebase": OperationFunction(changing.rebase, resume=changing.resume_rebase),
        "abort_conflicts": OperationFunction(
            changing.abort_conflicts, resume=changing.resume_abort
        ),
        "push": OperationFunction(pushing.push, resume=pushing.resume_push),
        "target_branch": OperationFunction(names.target_branch, resume=names.resume_target),
        "rename_branch": OperationFunction(names.rename_branch, resume=names.resume_rename),
        "stash": OperationFunction(stashes.stash, resume=stashes.resume_stash),
        "stash_pop": OperationFunction(stashes.stash_pop, resume=stashes.resume_pop),
    }
