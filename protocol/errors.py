"""What can go wrong, as types: one code for each, and one table of what each means to the outside.

Two trees: `LocalProtocolError` (we broke a rule of the protocol) and `RemoteProtocolError` (they
did), and `OperationError` for a command that could not be carried out.
"""

import enum
from typing import Any, Final, NamedTuple

import msgspec


class ErrorCode(enum.StrEnum):
    """Every code that can stand in an error reply or behind a close."""

    # links
    BAD_FRAME = "bad_frame"
    AUTHENTICATION_FAILED = "authentication_failed"
    REVOKED = "revoked"
    QUARANTINED = "quarantined"
    UNKNOWN_NODE = "unknown_node"
    NO_COMMON_VERSION = "no_common_version"
    SUPERSEDED = "superseded"
    HOLE = "hole"
    SLOW_DOWN = "slow_down"
    DRAINING = "draining"
    # every operation
    NOT_FOUND = "not_found"
    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    CONFLICT = "conflict"
    EXISTS = "exists"
    IN_PROGRESS = "in_progress"
    KEY_REUSED = "key_reused"
    ATTEMPT_REQUIRED = "attempt_required"
    EXPECTED_HEAD_MOVED = "expected_head_moved"
    EXPECTED_EXECUTION_MOVED = "expected_execution_moved"
    TOO_LARGE = "too_large"
    NODE_OFFLINE = "node_offline"
    HIVE_OFFLINE = "hive_offline"
    NODE_FAILED = "node_failed"
    UNKNOWN_OUTCOME = "unknown"
    DEADLINE_PASSED = "deadline_passed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    NOT_AVAILABLE = "not_available"
    STORE_FULL = "store_full"
    INTERNAL = "internal"
    # of their own
    NO_CHECKOUT = "no_checkout"
    EXECUTOR_UNAVAILABLE = "executor_unavailable"
    NODE_FULL = "node_full"
    WORKTREE_GONE = "worktree_gone"
    BINARY = "binary"
    OUTSIDE = "outside"
    NOT_A_DIRECTORY = "not_a_directory"
    BRANCH_MISSING = "branch_missing"
    PROJECT_MISMATCH = "project_mismatch"
    NO_COMMITS = "no_commits"
    NOT_A_REPOSITORY = "not_a_repository"
    GIT_FAILED = "git_failed"
    UNSAVED_WORK = "unsaved_work"
    SESSION_LOST = "session_lost"
    NO_TURN = "no_turn"
    ALREADY_ANSWERED = "already_answered"
    NO_SCRIPT = "no_script"
    RUNNING = "running"
    HELD = "held"
    GONE = "gone"
    # of branches
    CONFLICTS = "conflicts"
    TARGET_MOVED = "target_moved"
    REBASE_IN_PROGRESS = "rebase_in_progress"
    CHECKOUT_DIRTY = "checkout_dirty"
    NOTHING_TO_MERGE = "nothing_to_merge"
    FORCE_PUSH_REQUIRED = "force_push_required"
    PUSH_REJECTED = "push_rejected"
    NO_REMOTE = "no_remote"
    AUTH = "auth"
    NOTHING_TO_ABORT = "nothing_to_abort"
    INVALID_NAME = "invalid_name"
    OPEN_PR = "open_pr"
    NOTHING_TO_STASH = "nothing_to_stash"
    # of pull requests
    CLI_MISSING = "cli_missing"
    NOT_LOGGED_IN = "not_logged_in"
    TARGET_MISSING = "target_missing"
    NO_FORGE = "no_forge"
    FORGE_FAILED = "forge_failed"
    FORGE_LIMIT = "forge_limit"


class Meaning(NamedTuple):
    """What a code means outside: how a link closes, how HTTP says it, whether again may help."""

    close_code: int | None
    http_status: int
    retryable: bool


MEANINGS: Final[dict[ErrorCode, Meaning]] = {
    ErrorCode.BAD_FRAME: Meaning(4400, 400, False),
    ErrorCode.AUTHENTICATION_FAILED: Meaning(4401, 401, False),
    ErrorCode.REVOKED: Meaning(4403, 403, False),
    ErrorCode.QUARANTINED: Meaning(4403, 403, False),
    ErrorCode.UNKNOWN_NODE: Meaning(4403, 403, False),
    ErrorCode.NO_COMMON_VERSION: Meaning(4406, 406, False),
    ErrorCode.SUPERSEDED: Meaning(4409, 409, True),
    ErrorCode.HOLE: Meaning(4410, 409, True),
    ErrorCode.SLOW_DOWN: Meaning(4429, 429, True),
    ErrorCode.DRAINING: Meaning(4503, 503, True),
    ErrorCode.NOT_FOUND: Meaning(None, 404, False),
    ErrorCode.INVALID: Meaning(None, 422, False),
    ErrorCode.UNAUTHENTICATED: Meaning(None, 401, False),
    ErrorCode.FORBIDDEN: Meaning(None, 403, False),
    ErrorCode.CONFLICT: Meaning(None, 409, False),
    ErrorCode.EXISTS: Meaning(None, 409, False),
    ErrorCode.IN_PROGRESS: Meaning(None, 409, True),
    ErrorCode.KEY_REUSED: Meaning(None, 409, False),
    ErrorCode.ATTEMPT_REQUIRED: Meaning(None, 409, False),
    ErrorCode.EXPECTED_HEAD_MOVED: Meaning(None, 409, False),
    ErrorCode.EXPECTED_EXECUTION_MOVED: Meaning(None, 409, False),
    ErrorCode.TOO_LARGE: Meaning(None, 413, False),
    ErrorCode.NODE_OFFLINE: Meaning(None, 503, True),
    ErrorCode.HIVE_OFFLINE: Meaning(None, 503, True),
    ErrorCode.NODE_FAILED: Meaning(None, 502, True),
    ErrorCode.UNKNOWN_OUTCOME: Meaning(None, 504, True),
    ErrorCode.DEADLINE_PASSED: Meaning(None, 504, True),
    ErrorCode.EXPIRED: Meaning(None, 409, False),
    ErrorCode.CANCELLED: Meaning(None, 409, False),
    ErrorCode.NOT_AVAILABLE: Meaning(None, 501, False),
    ErrorCode.STORE_FULL: Meaning(None, 503, True),
    ErrorCode.INTERNAL: Meaning(None, 500, True),
    ErrorCode.NO_CHECKOUT: Meaning(None, 409, False),
    ErrorCode.EXECUTOR_UNAVAILABLE: Meaning(None, 409, False),
    ErrorCode.NODE_FULL: Meaning(None, 409, True),
    ErrorCode.WORKTREE_GONE: Meaning(None, 409, False),
    ErrorCode.BINARY: Meaning(None, 409, False),
    ErrorCode.OUTSIDE: Meaning(None, 422, False),
    ErrorCode.NOT_A_DIRECTORY: Meaning(None, 409, False),
    ErrorCode.BRANCH_MISSING: Meaning(None, 409, False),
    ErrorCode.PROJECT_MISMATCH: Meaning(None, 409, False),
    ErrorCode.NO_COMMITS: Meaning(None, 409, False),
    ErrorCode.NOT_A_REPOSITORY: Meaning(None, 422, False),
    ErrorCode.GIT_FAILED: Meaning(None, 502, False),
    ErrorCode.UNSAVED_WORK: Meaning(None, 409, False),
    ErrorCode.SESSION_LOST: Meaning(None, 409, False),
    ErrorCode.ALREADY_ANSWERED: Meaning(None, 409, False),
    ErrorCode.NO_TURN: Meaning(None, 409, False),
    ErrorCode.NO_SCRIPT: Meaning(None, 409, False),
    ErrorCode.RUNNING: Meaning(None, 409, True),
    ErrorCode.HELD: Meaning(None, 409, False),
    ErrorCode.GONE: Meaning(None, 410, False),
    ErrorCode.CONFLICTS: Meaning(None, 409, False),
    ErrorCode.TARGET_MOVED: Meaning(None, 409, False),
    ErrorCode.REBASE_IN_PROGRESS: Meaning(None, 409, False),
    ErrorCode.CHECKOUT_DIRTY: Meaning(None, 409, False),
    ErrorCode.NOTHING_TO_MERGE: Meaning(None, 409, False),
    ErrorCode.FORCE_PUSH_REQUIRED: Meaning(None, 409, False),
    ErrorCode.PUSH_REJECTED: Meaning(None, 409, False),
    ErrorCode.NO_REMOTE: Meaning(None, 409, False),
    ErrorCode.AUTH: Meaning(None, 409, False),
    ErrorCode.NOTHING_TO_ABORT: Meaning(None, 409, False),
    ErrorCode.INVALID_NAME: Meaning(None, 422, False),
    ErrorCode.OPEN_PR: Meaning(None, 409, False),
    ErrorCode.NOTHING_TO_STASH: Meaning(None, 409, False),
    ErrorCode.CLI_MISSING: Meaning(None, 409, False),
    ErrorCode.NOT_LOGGED_IN: Meaning(None, 409, False),
    ErrorCode.TARGET_MISSING: Meaning(None, 409, False),
    ErrorCode.NO_FORGE: Meaning(None, 409, False),
    ErrorCode.FORGE_FAILED: Meaning(None, 502, True),
    ErrorCode.FORGE_LIMIT: Meaning(None, 429, True),
}

#: A link closed with one of these is not tried again soon: only a person can mend it.
REFUSALS: Final = frozenset({4400, 4401, 4403, 4406})


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """The one shape of an error, on the wire, in the API and from the command line."""

    code: str
    message: str
    hint: str = ""
    retryable: bool = False
    details: dict[str, Any] = {}


class SkepError(Exception):
    """Root of everything Skep raises on purpose.

    Attributes: `code`, `message` (what happened), `hint` (what the person reading can do),
    `details` (JSON-able facts, by name).
    """

    def __init__(self, code: ErrorCode, message: str, *, hint: str = "", **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.details = details

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    @property
    def meaning(self) -> Meaning:
        return MEANINGS[self.code]

    def body(self) -> ErrorBody:
        """The error as it travels."""
        return ErrorBody(
            code=self.code.value,
            message=self.message,
            hint=self.hint,
            retryable=self.meaning.retryable,
            details=self.details,
        )


class ProtocolError(SkepError):
    """A rule of the link was broken; the link is closed with `meaning.close_code`."""


class LocalProtocolError(ProtocolError):
    """We broke a rule: a bug on this side."""


class RemoteProtocolError(ProtocolError):
    """They broke a rule; nothing of the frame is taken."""


class OperationError(SkepError):
    """An operation was refused or failed; the caller is told in the one error shape."""


def operation_error(body: ErrorBody) -> OperationError:
    """Rebuild the error another process reported; a code from a newer release reads as internal."""
    try:
        code = ErrorCode(body.code)
    except ValueError:
        code = ErrorCode.NODE_FAILED
    error = OperationError(code, body.message, hint=body.hint)
    # Not as keywords: the other process chooses the names, and one may be that of a parameter.
    error.details = dict(body.details)
    return error
