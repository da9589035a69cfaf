"""`run_script` and `review`, as operations: what to run, and for which part of the work.

Must not run anything: `ScriptRuns` does.
"""

from pathlib import Path
from typing import Final, Protocol

from node_agent.attempt_worktree import repository_of
from node_agent.executors import EXECUTORS
from node_agent.executors.adapter import Wish
from node_agent.git.repository import resolve_base
from node_agent.operations.asking import Asking
from node_agent.operations.attempts import attempt_of
from node_agent.operations.head_check import check_expected_head
from node_agent.script_runs import WantedScript
from node_agent.store import plans
from node_agent.store.database import Database
from node_agent.turn_steps import DEV, done_record
from protocol.attempt_requests import (
    ExecutionReply,
    ReviewRequest,
    RunScriptRequest,
    StartRequest,
)
from protocol.entities import Attempt, OperationRecord
from protocol.errors import ErrorCode, OperationError

REVIEW: Final = "review"
_REVIEWED: Final = ("uncommitted", "base", "commit")
_INSTRUCTIONS_BYTES_MAX: Final = 64 * 1024


class ScriptStarter(Protocol):
    """What begins scripts; `ScriptRuns` is this."""

    async def start(
        self, attempt_id: str, wanted: WantedScript, record: OperationRecord, body_hash: str
    ) -> ExecutionReply: ...


class ScriptOperations:
    """Begins scripts and reviews in attempts' worktrees."""

    def __init__(self, database: Database, worktrees_dir: Path, scripts: ScriptStarter) -> None:
        self._database = database
        self._worktrees_dir = worktrees_dir
        self._scripts = scripts

    async def run_script(self, asking: Asking) -> ExecutionReply:
        """Begin one of the project's scripts."""
        request = asking.request
        assert isinstance(request, RunScriptRequest)  # noqa: S101  the table's own pairing
        attempt = await attempt_of(self._database, asking)
        plan = await self._database.read(plans.get, asking.attempt_id)
        wanted = WantedScript(name=request.name, script=_script(plan.request, request.name))
        return await self._start(asking, attempt, wanted)

    async def review(self, asking: Asking) -> ExecutionReply:
        """Begin a review by a command; the environment names what is to be looked at."""
        request = asking.request
        assert isinstance(request, ReviewRequest)  # noqa: S101  the table's own pairing
        attempt = await attempt_of(self._database, asking)
        if not request.command:
            raise OperationError(
                ErrorCode.EXECUTOR_UNAVAILABLE,
                f"the executor {attempt.executor!r} has no review of its own",
                hint="Give the command that is to review, such as: --command 'sh review.sh'.",
                executor=attempt.executor,
            )
        instructions = request.instructions or ""
        if len(instructions.encode("utf-8", "surrogateescape")) > _INSTRUCTIONS_BYTES_MAX:
            raise OperationError(
                ErrorCode.TOO_LARGE,
                f"instructions are longer than {_INSTRUCTIONS_BYTES_MAX} bytes",
                hint="Put them into a file of the repository.",
                field="instructions",
            )
        launch = EXECUTORS["command"].launch(Wish(command=request.command, prompt=instructions))
        environment = {
            "SKEP_REVIEW_WHAT": request.what,
            "SKEP_REVIEW_INSTRUCTIONS": instructions,
            **await self._reviewed(attempt, request),
        }
        wanted = WantedScript(
            name=REVIEW,
            argv=launch.argv,
            stdin=launch.stdin,
            environment={name: value for name, value in environment.items() if value},
        )
        return await self._start(asking, attempt, wanted)

    async def _reviewed(self, attempt: Attempt, request: ReviewRequest) -> dict[str, str]:
        """Return what names the reviewed part. Raises INVALID and BranchMissing."""
        match request.what:
            case "uncommitted":
                return {}
            case "base":
                branch = request.base_branch or attempt.target_branch
                name = {"SKEP_REVIEW_BASE_BRANCH": branch or ""}
                repository = await repository_of(self._database, attempt)
                commit = await resolve_base(repository, branch or attempt.base_commit)
                return {**name, "SKEP_REVIEW_BASE": commit}
            case "commit" if request.commit:
                repository = await repository_of(self._database, attempt)
                commit = await resolve_base(repository, request.commit, field="commit")
                return {"SKEP_REVIEW_COMMIT": commit}
            case "commit":
                raise OperationError(ErrorCode.INVALID, "commit: which one?", field="commit")
            case _:
                raise OperationError(
                    ErrorCode.INVALID,
                    f"what is reviewed is one of {', '.join(_REVIEWED)}",
                    field="what",
                )

    async def _start(
        self, asking: Asking, attempt: Attempt, wanted: WantedScript
    ) -> ExecutionReply:
        await check_expected_head(self._database, self._worktrees_dir, asking, attempt)
        name, key = asking.operation.name, asking.key or ""
        record = done_record(name, key, asking.attempt_id, asking.actor)
        return await self._scripts.start(asking.attempt_id, wanted, record, asking.body_hash)


def _script(request: StartRequest, name: str) -> str:
    """Return a script of the project as it was when the attempt began. Raises NO_SCRIPT."""
    scripts = {
        "setup": request.setup_script,
        "cleanup": request.cleanup_script,
        DEV: request.dev_script,
    }
    if name not in scripts:
        raise OperationError(
            ErrorCode.INVALID,
            f"there is no script {name[:40]!r}",
            hint=f"There are: {', '.join(scripts)}.",
            field="name",
        )
    script = scripts[name]
    if not script:
        raise OperationError(
            ErrorCode.NO_SCRIPT,
            f"the project had no {name} script when the attempt began",
            hint=f"Set one (hive projects edit P --{name}-script), then start another attempt.",
            script=name,
        )
    return script
