"""The tools that Skep gives agents, as one table: what each takes, and who answers it.

From it come the MCP servers of node and hive, the hive's route, and the docs.
"""

import enum
from typing import Annotated, Any, Final, Literal

import msgspec

from protocol.operations import Role

Line = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
Text = Annotated[str, msgspec.Meta(max_length=32_768)]
Named = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
VariableName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
#: The values of TaskStatus, so that a tool's schema is in one piece.
TaskState = Literal[
    "draft", "ready", "queued", "in_progress", "in_review", "done", "failed", "cancelled"
]
WAIT_S_DEFAULT: Final = 24 * 3600.0


class _Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a tool takes."""


class AskHuman(_Arguments, frozen=True):
    """Ask a person, and wait for the answer.

    With `options` the person chooses one of them; with `form`, the JSON Schema of an object with
    plain fields, they fill it in; else they write. Where the status is `open`, or the call was cut
    off, ask the same again: that waits on, and asks nobody twice.
    """

    question: Annotated[str, msgspec.Meta(min_length=1, max_length=8_000, pattern=r"\S")]
    options: Annotated[list[Line], msgspec.Meta(max_length=20)] = []
    form: dict[str, Any] | None = None
    #: Seconds; then it is still open.
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=7 * 86_400)] = WAIT_S_DEFAULT


class ReportProgress(_Arguments, frozen=True):
    """Tell the people who watch how far the work is."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=4_000)]
    percent: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None


class CreateTask(_Arguments, frozen=True):
    """Make a task. From within an attempt it stands below the attempt's own, in its project."""

    title: Line
    description: Text = ""
    type: Literal["feature", "bugfix", "test", "docs"] = "feature"
    priority: Literal["high", "normal", "low"] = "normal"
    variables: dict[str, str] = {}
    draft: bool = False
    #: Needed outside an attempt; within one, its own.
    project: Named | None = None


class StartAttempt(_Arguments, frozen=True):
    """Start an attempt of a task, on a named node or any that can run it."""

    task: Named
    node: Named = "any"
    executor: Named = "command"
    profile: Named | None = None
    command: Annotated[str, msgspec.Meta(min_length=1, max_length=65_536)] | None = None
    prompt: Text | None = None


class GetTask(_Arguments, frozen=True):
    """Show a task with its attempts. Within an attempt, without a name: its own."""

    task: Named | None = None


class ListTasks(_Arguments, frozen=True):
    """List tasks of the project, newest first."""

    status: TaskState | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    project: Named | None = None


class SetVariable(_Arguments, frozen=True):
    """Set a variable of a task, for its text and for those below it. No place for secrets."""

    name: VariableName
    value: Annotated[str, msgspec.Meta(max_length=8_192)]
    task: Named | None = None


class GetVariables(_Arguments, frozen=True):
    """Show the variables that hold for a task, and where each is set."""

    task: Named | None = None


class ListNodes(_Arguments, frozen=True):
    """List the machines that could run the project's tasks, and why not."""

    executor: Named = "command"
    project: Named | None = None


class AnsweredBy(enum.Enum):
    """Who answers a tool: the agent's own node, or the hive."""

    NODE = "node"
    HIVE = "hive"


class AgentTool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool. `role` is what a person needs to use it from outside an attempt."""

    name: str
    arguments: type[msgspec.Struct]
    answered_by: AnsweredBy
    role: Role
    #: Whether it changes nothing.
    reading: bool = False

    @property
    def summary(self) -> str:
        """What it does, for agents to read."""
        return " ".join((self.arguments.__doc__ or "").split())

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its arguments, in one piece."""
        schema = msgspec.json.schema(self.arguments)
        definitions = schema.pop("$defs", {})
        found: dict[str, Any] = definitions[self.arguments.__name__]
        return found


def _tool(
    name: str,
    arguments: type[msgspec.Struct],
    role: Role,
    *,
    at_node: bool = False,
    reading: bool = False,
) -> AgentTool:
    answered_by = AnsweredBy.NODE if at_node else AnsweredBy.HIVE
    return AgentTool(
        name=name, arguments=arguments, answered_by=answered_by, role=role, reading=reading
    )


AGENT_TOOLS: Final[dict[str, AgentTool]] = {
    tool.name: tool
    for tool in (
        _tool("ask_human", AskHuman, Role.OPERATOR, at_node=True),
        _tool("report_progress", ReportProgress, Role.OPERATOR, at_node=True),
        _tool("create_task", CreateTask, Role.OPERATOR),
        _tool("start_attempt", StartAttempt, Role.OPERATOR),
        _tool("get_task", GetTask, Role.VIEWER, reading=True),
        _tool("list_tasks", ListTasks, Role.VIEWER, reading=True),
        _tool("set_variable", SetVariable, Role.OPERATOR),
        _tool("get_variables", GetVariables, Role.VIEWER, reading=True),
        _tool("list_nodes", ListNodes, Role.VIEWER, reading=True),
    )
}
