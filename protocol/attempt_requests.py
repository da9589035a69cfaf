"""Requests and replies of operations that begin, end or keep attempts."""

import msgspec

from protocol.entities import Attempt
from protocol.operation_values import Request


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
    command: str | None = None
    prompt: str | None = None
    base_branch: str | None = None
    target_branch: str | None = None
    setup_script: str | None = None
    cleanup_script: str | None = None
    copy_files: list[str] = msgspec.field(default_factory=list)
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    commit_leftovers: bool = False


class StopRequest(Request, frozen=True):
    """Stop an attempt: interrupt, then terminate, then kill after `grace_s`."""

    grace_s: float | None = None


class AttemptReply(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt as its node has it now."""

    attempt: Attempt
