"""`/api/v1/tasks/{id}/variables` and `/preview`: what holds for a task, what its text becomes."""

from typing import Annotated, Final

import msgspec
from aiohttp import web

from hive.api import replies
from hive.api.context import CONTEXT, HiveContext, now_ms
from hive.api.decoding import InvalidInput, body_of, query_of
from hive.api.middleware import json_response, principal_of
from hive.api.tasks import task_id_of
from hive.store import variables as stored
from hive.store.backend import Transaction
from hive.store.tasks import TaskRow, get_task
from hive.variables import NAME, VALUE_BYTES_MAX, Variable, expand
from protocol.one_line import as_one_line
from protocol.secret_names import names_secret

Text = Annotated[str, msgspec.Meta(max_length=262_144)]
#: A title with its variables put in stays one line, and a title.
_TITLE_CHARACTERS_MAX: Final = 500


class SetVariable(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a variable. No place for a secret: see `node-agent secrets`."""

    value: Annotated[str, msgspec.Meta(max_length=VALUE_BYTES_MAX)]


class PreviewQuery(msgspec.Struct, frozen=True, kw_only=True):
    """`prompt`: a text of its own, in place of the task's."""

    prompt: Text | None = None


class TaskText(msgspec.Struct, frozen=True, kw_only=True):
    """A task's text with its variables put in, and the names that nobody defined."""

    title: str
    description: str
    prompt: str | None
    undefined: list[str]


def expanded(task: TaskRow, variables: list[Variable], prompt: str | None) -> TaskText:
    """Return the text an agent is given. Raises INVALID where it grows too long."""
    title = expand(task.title, variables, "title")
    description = expand(task.description, variables, "description")
    said = None if prompt is None else expand(prompt, variables, "prompt")
    parts = [title, description, *([] if said is None else [said])]
    return TaskText(
        # A value may hold anything; a title is a line that is shown everywhere.
        title=as_one_line(title.text)[:_TITLE_CHARACTERS_MAX] or task.title,
        description=description.text,
        prompt=None if said is None else said.text,
        undefined=list(dict.fromkeys(name for part in parts for name in part.undefined)),
    )


async def _read(tx: Transaction, task_id: str) -> tuple[TaskRow, list[Variable]]:
    return await get_task(tx, task_id), await stored.variables_of(tx, task_id)


async def list_(request: web.Request) -> web.Response:
    """List the variables that hold for a task, by name, with where each is set."""
    context = request.app[CONTEXT]
    found = await context.database.read(stored.variables_of, await task_id_of(request))
    return _page(found)


async def set_(request: web.Request) -> web.Response:
    """Set a variable of a task."""
    asked = await body_of(request, SetVariable)
    return await _set(request, asked.value)


async def unset(request: web.Request) -> web.Response:
    """Take a variable of a task away; what it inherits by that name holds again."""
    return await _set(request, None)


async def _set(request: web.Request, value: str | None) -> web.Response:
    context: HiveContext = request.app[CONTEXT]
    name = request.match_info["name"]
    if NAME.fullmatch(name) is None:
        raise InvalidInput(
            "name: letters, digits and underscores, and no digit first", field="name"
        )
    found = await context.database.write(
        stored.set_variable,
        await task_id_of(request),
        name,
        value,
        actor=principal_of(request).name,
        now_ms=now_ms(),
    )
    return _page(found)


async def preview(request: web.Request) -> web.Response:
    """Show what an agent would be given, with warnings about what is not defined."""
    context = request.app[CONTEXT]
    query = query_of(request, PreviewQuery)
    task, variables = await context.database.read(_read, await task_id_of(request))
    text = expanded(task, variables, query.prompt)
    warnings = [
        replies.TextWarning(
            code="undefined", name=name, message=f"${name} is not defined; it stays as it stands"
        )
        for name in text.undefined
    ] + [
        replies.TextWarning(
            code="looks_secret",
            name=variable.name,
            message=f"{variable.name} looks like a secret; what is put into a task's text is"
            " stored and shown. Keep it on the node: node-agent secrets set",
        )
        for variable in variables
        if names_secret(variable.name)
    ]
    return json_response(
        replies.TaskPreview(
            title=text.title,
            description=text.description,
            prompt=text.prompt,
            variables=[_shown(variable) for variable in variables],
            warnings=warnings,
        )
    )


def _shown(variable: Variable) -> replies.Variable:
    return msgspec.convert(variable, replies.Variable, from_attributes=True)


def _page(found: list[Variable]) -> web.Response:
    return json_response(replies.Page(items=[_shown(variable) for variable in found]))
