"""Who may call what: every route of the hive and the least role it needs, as data.

A route that is not listed is refused: default deny. Must not look at rows: which attempt, which
project, is a question for the reads.
"""

import enum
from typing import Final

import msgspec

from protocol.errors import ErrorCode, OperationError
from protocol.operation_values import ROOTS
from protocol.operations import OPERATIONS, Role


class Need(enum.Enum):
    """What a route asks of its caller beside or instead of a role."""

    #: Anyone, without a token: proves itself otherwise, or gives nothing away.
    NOBODY = "nobody"
    #: Any valid token.
    ANYONE = "anyone"
    #: The auditor, or an admin.
    AUDIT = "audit"
    #: An attempt's agent, or any role; each tool asks for its own.
    TOOLS = "tools"


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who is calling, as a token or session proved it.

    `attempt_id`: the agent of this attempt, which reaches its project and task through tools alone.
    """

    token_id: str
    name: str
    role: Role
    attempt_id: str | None = None
    task_id: str | None = None
    project_id: str | None = None


Requirement = Role | Need

_V, _O, _M, _A = Role.VIEWER, Role.OPERATOR, Role.MAINTAINER, Role.ADMIN

#: `METHOD path` -> what it needs. Paths as in `hive.api.routes`.
ROUTES: Final[dict[str, Requirement]] = {
    "GET /healthz": Need.NOBODY,
    "GET /readyz": Need.NOBODY,
    # The handler itself answers this machine only, unless a token is given.
    "GET /metrics": Need.NOBODY,
    "GET /openapi.json": Need.NOBODY,
    "GET /api/docs": Need.NOBODY,
    "GET /api/docs/{file}": Need.NOBODY,
    # Nodes prove themselves by signature, or by a join token.
    "GET /v1/link": Need.NOBODY,
    "POST /v1/enrol": Need.NOBODY,
    "GET /api/v1/openapi.json": Need.NOBODY,
    "GET /api/v1/status": Need.ANYONE,
    "GET /api/v1/me": Need.ANYONE,
    "GET /api/v1/nodes": _V,
    "GET /api/v1/nodes/{node}": _V,
    "PATCH /api/v1/nodes/{node}": _A,
    "POST /api/v1/nodes/{node}/revoke": _A,
    "POST /api/v1/nodes/{node}/release": _A,
    "POST /api/v1/join-tokens": _A,
    "GET /api/v1/projects": _V,
    "POST /api/v1/projects": _M,
    "GET /api/v1/projects/{project}": _V,
    "PATCH /api/v1/projects/{project}": _M,
    "DELETE /api/v1/projects/{project}": _A,
    "GET /api/v1/projects/{project}/nodes": _V,
    "GET /api/v1/projects/{project}/profiles": _V,
    "PUT /api/v1/projects/{project}/profiles/{name}": _M,
    "DELETE /api/v1/projects/{project}/profiles/{name}": _M,
    "GET /api/v1/tasks": _V,
    "POST /api/v1/tasks": _O,
    "GET /api/v1/tasks/{task}": _V,
    "PATCH /api/v1/tasks/{task}": _O,
    "DELETE /api/v1/tasks/{task}": _M,
    "GET /api/v1/tasks/{task}/available-nodes": _V,
    "GET /api/v1/tasks/{task}/stream-connection-info": _V,
    "POST /api/v1/tasks/{task}/attempts": OPERATIONS["start"].role,
    "GET /api/v1/tasks/{task}/preview": _V,
    "GET /api/v1/tasks/{task}/variables": _V,
    "PUT /api/v1/tasks/{task}/variables/{name}": _O,
    "DELETE /api/v1/tasks/{task}/variables/{name}": _O,
    "GET /api/v1/templates": _V,
    "POST /api/v1/templates": _M,
    "GET /api/v1/templates/{template}": _V,
    "PATCH /api/v1/templates/{template}": _M,
    "DELETE /api/v1/templates/{template}": _M,
    "GET /api/v1/attempts": _V,
    "GET /api/v1/attempts/{attempt}": _V,
    "GET /api/v1/attempts/{attempt}/stream-connection-info": _V,
    # The handler itself asks for the operation's own role.
    "POST /api/v1/attempts/{attempt}/direct-calls": _V,
    "POST /api/v1/attempts/{attempt}/backfill": _V,
    "GET /api/v1/executions": _V,
    "GET /api/v1/executions/{execution}": _V,
    "GET /api/v1/executions/{execution}/log": _V,
    "GET /api/v1/sessions": _V,
    "POST /api/v1/sessions": _O,
    "GET /api/v1/sessions/{session}": _V,
    "PATCH /api/v1/sessions/{session}": OPERATIONS["rename_session"].role,
    "DELETE /api/v1/sessions/{session}": _O,
    "POST /api/v1/sessions/{session}/heartbeat": _O,
    "GET /api/v1/sessions/{session}/turns": _V,
    "GET /api/v1/sessions/{session}/messages": _V,
    "POST /api/v1/sessions/{session}/messages": OPERATIONS["follow_up"].role,
    "GET /api/v1/messages": _V,
    "GET /api/v1/messages/{message}": _V,
    "GET /api/v1/requests": _V,
    "GET /api/v1/requests/{request}": _V,
    "POST /api/v1/requests/{request}/answer": OPERATIONS["answer"].role,
    "GET /api/v1/stream": _V,
    "GET /api/v1/operations": _V,
    "GET /api/v1/operations/{key}": _V,
    # The handler asks for the role that the operation itself needs.
    "POST /api/v1/operations/{key}/cancel": _O,
    "POST /api/v1/operations/{key}/confirm": _O,
    "POST /api/v1/agent-tools/{tool}": Need.TOOLS,
    "POST /mcp": Need.TOOLS,
    "GET /api/v1/events": Need.AUDIT,
    "GET /api/v1/tokens": _A,
    "POST /api/v1/tokens": _A,
    "DELETE /api/v1/tokens/{token}": _A,
}
#: Below one attempt, and below a task's newest: one row for each operation of the protocol.
for _operation in OPERATIONS.values():
    if not _operation.path.startswith(ROOTS):
        for _root in ("/api/v1/attempts/{attempt}", "/api/v1/tasks/{task}/attempt"):
            ROUTES[f"{_operation.method} {_root}/{_operation.path}"] = _operation.role


def least_role(requirement: Requirement | None) -> str:
    """Return the least role that meets a requirement, as tokens are given it; nobody's: default."""
    if requirement is None:
        return "nobody"
    if isinstance(requirement, Role):
        return requirement.name.lower()
    return {Need.AUDIT: "auditor", Need.TOOLS: "viewer"}.get(requirement, requirement.value)


def allows(requirement: Requirement, principal: Principal | None) -> bool:
    """Whether `principal` meets `requirement`."""
    if requirement is Need.NOBODY:
        return True
    if principal is None:
        return False
    if requirement is Need.TOOLS:
        return principal.role >= Role.VIEWER
    if principal.attempt_id is not None:
        return False
    if requirement is Need.ANYONE:
        return True
    if requirement is Need.AUDIT:
        return principal.role in {Role.AUDITOR, Role.ADMIN}
    assert isinstance(requirement, Role)  # noqa: S101  all others are above
    # The auditor is the lowest number and so below every role: it reads events, nothing else.
    return principal.role >= requirement


def role_lacking(what: str, role: str, principal: Principal | None) -> OperationError:
    """Return the error of a caller whose role is not enough for `what`."""
    return OperationError(
        ErrorCode.FORBIDDEN,
        f"{what} needs the role {role}",
        hint="An admin can give you a token with that role: hive tokens create --role.",
        role=principal.role.name.lower() if principal else "",
    )
