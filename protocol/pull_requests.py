"""Requests and replies of operations on an attempt's pull request."""

import msgspec

from protocol.operation_values import Request


class CreatePrRequest(Request, frozen=True):
    """Push the attempt's branch, and ask for its changes to be pulled into the target branch.

    Never forces: where the remote's branch has other commits, `force_push_required`. `target` is a
    branch of the remote; without one the attempt's target branch, else the remote's default.
    """

    title: str
    body: str = ""
    target: str | None = None
    draft: bool = False


class CreatePrReply(msgspec.Struct, frozen=True, kw_only=True):
    """The pull request as it was made, at commit `head`."""

    url: str
    number: int
    state: str
    target_branch: str
    head: str | None = None


class AttachPrRequest(Request, frozen=True):
    """Name the attempt's pull request: by `url` or `number`, else that of its branch."""

    url: str | None = None
    number: int | None = None


class PrRequest(Request, frozen=True):
    """How the attempt's pull request stands at its forge, at most ten seconds ago."""


class PrChecks(msgspec.Struct, frozen=True, kw_only=True):
    """What checks said of the head. `state`: passed, failed, pending, none, or unknown.

    `unknown`: they may not be read. `failures` names those that failed, at most 50.
    """

    state: str = "unknown"
    total: int = 0
    passed: int = 0
    failed: int = 0
    pending: int = 0
    failures: list[str] = msgspec.field(default_factory=list)


class PrReply(msgspec.Struct, frozen=True, kw_only=True):
    """The pull request as its forge has it. `state`: open, draft, closed or merged.

    `mergeable` is None while the forge has not found out.
    """

    url: str
    number: int
    state: str
    title: str
    branch: str
    target_branch: str
    head: str | None = None
    mergeable: bool | None = None
    mergeable_state: str | None = None
    checks: PrChecks
    as_of_ms: int
