"""Requests and replies of operations that begin, end or keep attempts."""

from typing import Annotated

import msgspec

from protocol.entities import Attempt, Execution
from protocol.limits import SILENCE_STOP_S_MAX, SILENCE_STOP_S_MIN
from protocol.operation_values import Request
from protocol.profiles import Profile
from protocol.request_rules import RequestRules

SilenceS = Annotated[float, msgspec.Meta(ge=SILENCE_STOP_S_MIN, le=SILENCE_STOP_S_MAX)]


class StartRequest(Request, frozen=True):
    """Start an attempt of a task on this node.

    `command` is one string, split as a shell would and run without one. `task_*` come from the
    hive's task, so that the node's record stands alone.
    """

    checkout_id: str | None = None
    project: str | None = None
    project_id: str | None = None
    task_id: str | None = None
    task_title: str = ""
    task_description: str = ""
    executor: str = "command"
    profile: str | None = None
    #: Asked for by whoever starts it, and so before what a profile says.
    model: str | None = None
    mode: str | None = None
    command: str | None = None
    prompt: str | None = None
    base_branch: str | None = None
    target_branch: str | None = None
    setup_script: str | None = None
    cleanup_script: str | None = None
    dev_script: str | None = None
    copy_files: list[str] = msgspec.field(default_factory=list)
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    commit_leftovers: bool = False
    #: The project's, by name; its node looks there before its own. Follow-ups may name them too.
    profiles: dict[str, Profile] = msgspec.field(default_factory=dict)
    #: What the project lets agents do without asking, and what it never does.
    request_rules: RequestRules = msgspec.field(default_factory=RequestRules)
    #: An agent that says nothing in a turn for so long is stopped; None: never.
    silence_stop_s: SilenceS | None = None


class StopRequest(Request, frozen=True):
    """Stop an attempt: interrupt, then terminate, then kill after `grace_s`."""

    grace_s: float | None = None


class AttemptReply(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt as its node has it now."""

    attempt: Attempt


class HoldRequest(Request, frozen=True):
    """Keep the attempt's worktree until a time; without one, until it is released."""

    until_ms: int | None = None


class ReleaseRequest(Request, frozen=True):
    """Hold the attempt's worktree no longer than its project's rules keep it."""


class CleanupRequest(Request, frozen=True):
    """Remove the attempt's worktree now.

    `save`: with what is uncommitted, which goes to a ref first. `force`: also where it is held, and
    where repositories within it hold work that no ref can keep; what can be saved is.
    """

    save: bool = False
    force: bool = False


class RunScriptRequest(Request, frozen=True):
    """Run a script of the project: `setup`, `cleanup` or `dev`, as it was when the attempt began.

    `dev` may run beside a turn, and runs until the attempt is stopped.
    """

    name: str


class ReviewRequest(Request, frozen=True):
    """Have the attempt's work looked at.

    `what`: the `uncommitted` changes, all that parts it from a `base` branch, or one `commit`.
    `command` is run in the worktree where the executor has no review of its own.
    """

    what: str = "uncommitted"
    base_branch: str | None = None
    commit: str | None = None
    instructions: str | None = None
    command: str | None = None


class ExecutionReply(msgspec.Struct, frozen=True, kw_only=True):
    """The execution that was begun, as its node has it now."""

    execution: Execution
