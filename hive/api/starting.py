"""`POST /api/v1/tasks/{id}/attempts`: choose a node, have it start an attempt, answer what it said.

Owns the choice and the wait for a free node. Must not invent an attempt: there is one once its
node says so.
"""

import asyncio
import shlex
import time
from typing import Annotated, Final

import msgspec
from aiohttp import web

from hive import placement
from hive.access import Principal
from hive.api import replies
from hive.api.attempts import await_first_op, remember_started, shown_attempt
from hive.api.context import CONTEXT, HiveContext
from hive.api.decoding import InvalidInput, body_of, idempotency_key, query_of
from hive.api.deferring import refuse_wish
from hive.api.middleware import json_response, principal_of
from hive.api.nodes import slots_of, status_of
from hive.api.operations import ATTEMPT_HEADER, deadline_of, node_errors
from hive.api.tasks import Branch, task_id_of
from hive.api.variables import expanded
from hive.operation_proxy import Intent, Target, new_key
from hive.placement import Place
from hive.store import catalog, operations, tasks
from hive.store.backend import Transaction
from hive.store.catalog import ProjectRow
from hive.store.nodes import NodeRow, list_nodes
from hive.store.tasks import TaskRow
from hive.store.variables import variables_of
from hive.variables import Variable
from protocol.attempt_requests import AttemptReply, StartRequest
from protocol.errors import ErrorCode, OperationError
from protocol.operations import OPERATIONS
from protocol.request_rules import rules_of_settings
from protocol.silence import silence_stop_s_of_settings

Word = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]

ANY: Final = "any"
WAIT_S_MAX: Final = 300.0
#: While waiting for a node, looked at anew this often even where no event came.
_LOOK_AGAIN_S: Final = 5.0
_NODES_MAX: Final = 10_000
_START: Final = OPERATIONS["start"]
#: What another node may not answer: there the next candidate is tried.
_ELSEWHERE: Final = frozenset(
    {ErrorCode.NODE_FULL, ErrorCode.NODE_OFFLINE, ErrorCode.EXECUTOR_UNAVAILABLE}
)


class StartAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how to run a task. `node_id` is an id, a name, or `any`.

    `command` is one string, split as a shell would and run without one. `profile`: the project's of
    that name, else the node's, else an agent's name; `model` and `mode` go before its own. `wait_s`
    is how long to wait for a node that can run it, where any may.
    """

    node_id: str = ANY
    executor: str = "command"
    profile: str | None = None
    model: Word | None = None
    mode: Word | None = None
    command: Annotated[str, msgspec.Meta(min_length=1, max_length=65536)] | None = None
    prompt: Annotated[str, msgspec.Meta(max_length=262_144)] | None = None
    base_branch: Branch | None = None
    target_branch: Branch | None = None
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=WAIT_S_MAX)] = 0.0


class AvailableQuery(msgspec.Struct, frozen=True, kw_only=True):
    """By which executor."""

    executor: str = "command"


class _Work(msgspec.Struct, frozen=True, kw_only=True):
    task: TaskRow
    project: ProjectRow
    variables: list[Variable]


async def _read_work(tx: Transaction, task_id: str) -> _Work:
    task = await tasks.get_task(tx, task_id)
    if task.project_id is None:
        raise OperationError(
            ErrorCode.CONFLICT,
            "the task belongs to no project of this hive",
            hint="It is a node's own; start it there: node-agent start.",
        )
    return _Work(
        task=task,
        project=await catalog.get_project(tx, task.project_id),
        variables=await variables_of(tx, task_id),
    )


async def places_of(context: HiveContext, project_id: str) -> list[Place]:
    """Return every node as a place for a project's tasks."""
    checkouts, rows = await context.database.read(_read_places, project_id)
    return [
        Place(
            node_id=row.id,
            name=row.name,
            status=status_of(row, online=context.registry.is_online(row.id)),
            slots_total=slots_of(context, row).total,
            slots_busy=slots_of(context, row).busy,
            executors=row.executors,
            last_seen_at_ms=row.last_seen_at_ms,
            checkout_id=checkouts.get(row.id),
        )
        for row in rows
    ]


async def _read_places(tx: Transaction, project_id: str) -> tuple[dict[str, str], list[NodeRow]]:
    checkouts = {
        row.node_id: row.id for row in reversed(await catalog.checkouts_of(tx, project_id))
    }
    return checkouts, await list_nodes(tx, limit=_NODES_MAX)


async def available_nodes(request: web.Request) -> web.Response:
    """List every node, with whether it can run a task now, and why not."""
    context = request.app[CONTEXT]
    query = query_of(request, AvailableQuery)
    work = await context.database.read(_read_work, await task_id_of(request))
    items = []
    for place in await places_of(context, work.project.id):
        found = placement.refusal(place, query.executor, work.project.name)
        items.append(
            replies.AvailableNode(
                id=place.node_id,
                name=place.name,
                status=place.status,
                slots=replies.Slots(total=place.slots_total, busy=place.slots_busy),
                executors=list(place.executors),
                checkout_id=place.checkout_id,
                last_seen_at_ms=place.last_seen_at_ms,
                can_run=found is None,
                why_not="" if found is None else found.why,
                code="" if found is None else found.code.value,
            )
        )
    items.sort(key=lambda node: (not node.can_run, node.name))
    return json_response(replies.Page(items=items))


async def start(request: web.Request) -> web.Response:
    """Start an attempt of a task now."""
    context = request.app[CONTEXT]
    task_id = await task_id_of(request)
    refuse_wish(request)
    asked = await body_of(request, StartAttempt)
    key = idempotency_key(request) or new_key()
    shown = await start_attempt(
        context,
        principal_of(request),
        task_id,
        asked,
        key=key,
        deadline_s=deadline_of(request, _START.deadline_s),
    )
    response = json_response(shown, status=201)
    response.headers["Idempotency-Key"] = key
    response.headers[ATTEMPT_HEADER] = shown.id
    return response


async def start_attempt(
    context: HiveContext,
    principal: Principal,
    task_id: str,
    asked: StartAttempt,
    *,
    key: str,
    deadline_s: float,
) -> replies.Attempt:
    """Have a node start an attempt; return it once the hive has heard of it itself."""
    _check(asked)
    work = await context.database.read(_read_work, task_id)
    intent = Intent(
        operation=_START.name,
        principal=principal,
        key=key,
        said=msgspec.msgpack.encode([task_id, asked]),
        deadline_s=deadline_s,
    )
    node_id, reply = await _start_somewhere(context, intent, work, asked)
    attempt = msgspec.msgpack.decode(reply, type=AttemptReply).attempt
    # Whoever is answered finds the attempt: its first op is waited for, not a time. A node that is
    # cut off right then has still said that there is one.
    remember_started(context, attempt, node_id)
    await await_first_op(context, attempt.id)
    return await shown_attempt(context, attempt.id)


def _check(asked: StartAttempt) -> None:
    if asked.executor != "command":
        return
    if asked.command is None:
        raise InvalidInput(
            "command: the executor `command` needs one",
            field="command",
            hint="hive tasks run T --command 'make test'",
        )
    try:
        words = shlex.split(asked.command)
    except ValueError as error:
        raise InvalidInput(f"command: {error}", field="command") from error
    if not words:
        raise InvalidInput("command: it is empty", field="command")


async def _start_somewhere(
    context: HiveContext, intent: Intent, work: _Work, asked: StartAttempt
) -> tuple[str, bytes]:
    # A key that was sent before goes to the node it went to: that one may have done it.
    before = await context.database.read(operations.find_operation, intent.key)
    if before is not None and before.node_id is not None and before.status != "failed":
        return await _start_on(context, intent, work, asked, before.node_id, None)
    if asked.node_id != ANY:
        node_id = await context.database.read(catalog.resolve, "node", asked.node_id)
        places = await places_of(context, work.project.id)
        place = next((one for one in places if one.node_id == node_id), None)
        if place is None:
            raise OperationError(
                ErrorCode.NOT_FOUND,
                f"there is no node {asked.node_id!r}",
                hint="hive nodes lists them.",
            )
        found = placement.refusal(place, asked.executor, work.project.name)
        # Whether a slot is free the node knows better than its last heartbeat.
        if found is not None and found.code is not ErrorCode.NODE_FULL:
            raise placement.refused(found, place)
        return await _start_on(context, intent, work, asked, node_id, place.checkout_id)
    return await _start_on_any(context, intent, work, asked)


async def _start_on_any(
    context: HiveContext, intent: Intent, work: _Work, asked: StartAttempt
) -> tuple[str, bytes]:
    until = time.monotonic() + asked.wait_s
    with context.feed.subscribe(["nodes"]) as subscription:
        while True:
            said: OperationError | None = None
            lacking = 0
            places = await places_of(context, work.project.id)
            for place in placement.in_order(places, asked.executor, work.project.name):
                try:
                    return await _start_on(
                        context, intent, work, asked, place.node_id, place.checkout_id
                    )
                except OperationError as error:
                    if error.code not in _ELSEWHERE:
                        raise
                    said = error
                    lacking += error.code is ErrorCode.EXECUTOR_UNAVAILABLE
            # It could by its last heartbeat; the node itself knew better.
            refused = said or placement.refused(
                placement.waiting_because(places, asked.executor, work.project.name)
            )
            left_s = until - time.monotonic()
            # What no node has does not come by waiting; a name may be mistyped.
            hopeless = 0 < lacking == len(places) or (
                said is None and refused.code is ErrorCode.EXECUTOR_UNAVAILABLE
            )
            if left_s <= 0 or context.stopping or hopeless:
                raise refused
            try:
                async with asyncio.timeout(min(left_s, _LOOK_AGAIN_S)):
                    await subscription.take()
            except TimeoutError:
                continue


async def _start_on(
    context: HiveContext,
    intent: Intent,
    work: _Work,
    asked: StartAttempt,
    node_id: str,
    checkout_id: str | None,
) -> tuple[str, bytes]:
    task, project = work.task, work.project
    if checkout_id is None:
        checkouts, _ = await context.database.read(_read_places, project.id)
        checkout_id = checkouts.get(node_id)
    text = expanded(task, work.variables, asked.prompt)
    request = StartRequest(
        checkout_id=checkout_id,
        project=project.name,
        project_id=project.id,
        task_id=task.id,
        task_title=text.title,
        task_description=text.description,
        executor=asked.executor,
        profile=asked.profile,
        model=asked.model,
        mode=asked.mode,
        command=asked.command,
        prompt=text.prompt,
        base_branch=asked.base_branch or task.base_branch,
        target_branch=asked.target_branch or task.target_branch,
        setup_script=project.setup_script,
        cleanup_script=project.cleanup_script,
        dev_script=project.dev_script,
        copy_files=project.copy_files,
        # A command is run by no profile.
        profiles={} if asked.executor == "command" else project.profiles,
        request_rules=rules_of_settings(project.policies),
        silence_stop_s=silence_stop_s_of_settings(project.policies),
    )
    target = Target(node_id=node_id, task_id=task.id, project_id=project.id)
    async with node_errors(context, node_id):
        return node_id, await context.proxy.change(intent, target, request)
