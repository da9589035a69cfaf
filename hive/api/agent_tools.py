"""The tools of agents that the hive answers: the same for an attempt's agent and for a person.

Owns what a caller reaches: from within an attempt its own project and no other, from outside what
the person's role allows. Must not know how the call came: over the route here, or as MCP.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from hive import placement
from hive.access import Principal, role_lacking
from hive.api import starting
from hive.api.attempts import shown_attempts
from hive.api.context import CONTEXT, HiveContext, now_ms
from hive.api.decoding import InvalidInput, convert, idempotency_key, json_of
from hive.api.middleware import json_response, principal_of
from hive.api.tasks import check_title, task_reply
from hive.operation_proxy import new_key
from hive.store import catalog, tasks, variables
from hive.store.backend import Transaction
from hive.store.tasks import TaskRow, TaskSettings
from protocol import agent_tools
from protocol.agent_tools import AGENT_TOOLS, AgentTool, AnsweredBy
from protocol.errors import ErrorCode, OperationError
from protocol.operations import OPERATIONS

#: Attempts of a task that are shown with it, newest first.
_ATTEMPTS_SHOWN: Final = 10


async def call(request: web.Request) -> web.Response:
    """Answer one tool."""
    arguments = await json_of(request)
    answer = await call_tool(
        request.app[CONTEXT],
        principal_of(request),
        request.match_info["tool"],
        arguments,
        key=idempotency_key(request),
    )
    return json_response(answer)


def tools_for(principal: Principal) -> list[AgentTool]:
    """Return the tools of the hive that a caller may use."""
    return [
        tool
        for tool in AGENT_TOOLS.values()
        if tool.answered_by is AnsweredBy.HIVE and principal.role >= tool.role
    ]


async def call_tool(
    context: HiveContext,
    principal: Principal,
    name: str,
    arguments: Any,
    *,
    key: str | None = None,
) -> dict[str, Any]:
    """Answer one tool as JSON. Raises SkepError."""
    tool = AGENT_TOOLS.get(name)
    if tool is None or tool.answered_by is not AnsweredBy.HIVE:
        raise OperationError(
            ErrorCode.NOT_FOUND,
            f"there is no tool {name[:100]!r} here",
            hint=f"There are: {', '.join(tool.name for tool in tools_for(principal))}.",
        )
    if principal.role < tool.role:
        raise role_lacking(name, tool.role.name.lower(), principal)
    if not isinstance(arguments, dict):
        raise InvalidInput("arguments: an object", field="arguments")
    asked = convert(arguments, tool.arguments)
    answer: dict[str, Any] = msgspec.to_builtins(
        await _ANSWERS[name](_Call(context, principal, key or new_key()), asked)
    )
    return answer


class _Call:
    """Who calls, and what they reach."""

    def __init__(self, context: HiveContext, principal: Principal, key: str) -> None:
        self.context = context
        self.principal = principal
        self.key = key

    async def task(self, named: str | None) -> TaskRow:
        """Return the task that is meant; without a name, the attempt's own."""
        own = self.principal.task_id
        if named is None and own is None:
            raise InvalidInput("task: outside an attempt it is needed", field="task")
        return await self.context.database.read(self._task, named or own or "")

    async def _task(self, tx: Transaction, named: str) -> TaskRow:
        if self.principal.attempt_id is None:
            return await tasks.get_task(tx, await catalog.resolve(tx, "task", named))
        if self.principal.project_id is None:
            # Not all that belongs to no project: what else does is of other nodes.
            if named != self.principal.task_id:
                raise OperationError(ErrorCode.NOT_FOUND, f"there is no task {named[:100]!r}")
            return await tasks.get_task(tx, named)
        # Not even that there is one: another project's tasks are none of its business.
        found = await catalog.resolve(tx, "task", named, within_project=self.principal.project_id)
        return await tasks.get_task(tx, found)

    async def project_id(self, named: str | None) -> str:
        """Return the project that is meant: within an attempt always its own."""
        if self.principal.attempt_id is None:
            if named is None:
                raise InvalidInput("project: outside an attempt it is needed", field="project")
            return await self.context.database.read(catalog.resolve, "project", named)
        own = self.principal.project_id
        if own is None:
            raise OperationError(ErrorCode.CONFLICT, "this attempt belongs to no project here")
        if named is not None and not await self.context.database.read(_is_project, own, named):
            # The same whether there is one or not.
            raise OperationError(
                ErrorCode.NOT_FOUND,
                f"there is no project {named[:100]!r} here",
                hint="An attempt's agent works in its own project alone.",
            )
        return own


async def _is_project(tx: Transaction, project_id: str, named: str) -> bool:
    """Whether `named` is this project."""
    try:
        return await catalog.resolve(tx, "project", named) == project_id
    except OperationError:
        return False


async def _create_task(call: _Call, asked: agent_tools.CreateTask) -> Any:
    check_title(asked.title)
    settings = TaskSettings(
        title=asked.title,
        description=asked.description,
        type=asked.type,
        priority=asked.priority,
        variables=asked.variables,
        parent_id=call.principal.task_id,
    )
    row = await call.context.database.write(
        _make_task,
        await call.project_id(asked.project),
        settings,
        draft=asked.draft,
        actor=call.principal.name,
        now_ms=now_ms(),
    )
    return task_reply(row)


async def _make_task(
    tx: Transaction,
    project_id: str,
    settings: TaskSettings,
    *,
    draft: bool,
    actor: str,
    now_ms: int,
) -> TaskRow:
    # How deep tasks may stand also bounds agents that make tasks for agents that make tasks.
    await variables.check_parent(tx, settings.parent_id, project_id)
    return await tasks.create_task(
        tx, project_id, settings, draft=draft, actor=actor, now_ms=now_ms
    )


async def _start_attempt(call: _Call, asked: agent_tools.StartAttempt) -> Any:
    task = await call.task(asked.task)
    wanted = starting.StartAttempt(
        node_id=asked.node,
        executor=asked.executor,
        profile=asked.profile,
        command=asked.command,
        prompt=asked.prompt,
    )
    return await starting.start_attempt(
        call.context,
        call.principal,
        task.id,
        wanted,
        key=call.key,
        deadline_s=OPERATIONS["start"].deadline_s,
    )


async def _get_task(call: _Call, asked: agent_tools.GetTask) -> Any:
    task = await call.task(asked.task)
    found = await shown_attempts(call.context, task_id=task.id, limit=_ATTEMPTS_SHOWN)
    return {"task": task_reply(task), "attempts": found}


async def _list_tasks(call: _Call, asked: agent_tools.ListTasks) -> Any:
    project_id = await call.project_id(asked.project)

    async def read(tx: Transaction) -> list[TaskRow]:
        return await tasks.list_tasks(
            tx, limit=asked.limit, project_id=project_id, status=asked.status
        )

    return {"items": [task_reply(row) for row in await call.context.database.read(read)]}


async def _set_variable(call: _Call, asked: agent_tools.SetVariable) -> Any:
    task = await call.task(asked.task)
    found = await call.context.database.write(
        variables.set_variable,
        task.id,
        asked.name,
        asked.value,
        actor=call.principal.name,
        now_ms=now_ms(),
    )
    return {"items": found}


async def _get_variables(call: _Call, asked: agent_tools.GetVariables) -> Any:
    task = await call.task(asked.task)
    return {"items": await call.context.database.read(variables.variables_of, task.id)}


async def _list_nodes(call: _Call, asked: agent_tools.ListNodes) -> Any:
    project_id = await call.project_id(asked.project)
    project = await call.context.database.read(catalog.get_project, project_id)
    items = []
    for place in await starting.places_of(call.context, project_id):
        refusal = placement.refusal(place, asked.executor, project.name)
        items.append(
            {
                "id": place.node_id,
                "name": place.name,
                "status": place.status,
                "slots": {"total": place.slots_total, "busy": place.slots_busy},
                "executors": list(place.executors),
                "can_run": refusal is None,
                "why_not": "" if refusal is None else refusal.why,
            }
        )
    return {"items": sorted(items, key=lambda node: (not node["can_run"], node["name"]))}


_ANSWERS: Final[Mapping[str, Callable[[_Call, Any], Awaitable[Any]]]] = {
    "create_task": _create_task,
    "start_attempt": _start_attempt,
    "get_task": _get_task,
    "list_tasks": _list_tasks,
    "set_variable": _set_variable,
    "get_variables": _get_variables,
    "list_nodes": _list_nodes,
}
