"""The page of operations, from the one table they all come from."""

from collections.abc import Iterator

import msgspec

from protocol.attempt_requests import AttemptReply, ExecutionReply
from protocol.operation_examples import EXAMPLES
from protocol.operations import OPERATIONS, Operation, Role
from scripts.documentation.markdown import code, page, paragraphs, table
from scripts.documentation.messages import type_name


def operations_page() -> str:
    """Return the page of operations."""
    return page(
        "Operations",
        "What may be asked of a node. Each is a path of the hive's API below"
        " `/api/v1/attempts/{attempt}/` (or as it stands, where the path begins with `tasks/`,"
        " `executions/`, `requests/` or `sessions/`), a command `hive attempt …`, and a command"
        " `node-agent attempt …` on the node itself. `start` is `hive tasks run` and"
        " `node-agent start`; `log` is `hive attempts logs` and `node-agent logs`; `answer` is"
        " `requests answer` and `rename_session` is `sessions rename`, of both.",
        "A changing operation is carried out once for each idempotency key, and its outcome can be"
        " looked up by the key: `hive operations show KEY`.",
        table(["operation", "request", "role", "changes", "what"], map(_row, OPERATIONS.values())),
        "Roles, each with all that the ones before may do: "
        + ", ".join(code(one.name.lower()) for one in Role if one is not Role.AUDITOR)
        + ". The auditor reads events and nothing else.",
        *(block for one in OPERATIONS.values() for block in _section(one)),
    )


def _row(one: Operation) -> tuple[str, ...]:
    changes = "yes" if one.changing else ""
    request = code(f"{one.method} {one.path}")
    return code(one.name), request, one.role.name.lower(), changes, one.summary


def _section(one: Operation) -> Iterator[str]:
    yield f"## {one.name}"
    yield f"{paragraphs(one.request.__doc__)}"
    yield table(
        ["field", "type", "default"],
        (
            (code(field.encode_name), type_name(field.type), _default(field))
            for field in msgspec.structs.fields(one.request)
        ),
    )
    if one.streamed:
        reply = "a stream of bytes"
    elif one.reply is AttemptReply:
        reply = "the attempt"
    else:
        reply = ", ".join(code(name) for name in one.reply.__struct_fields__)
    errors = ", ".join(f"[{code(error)}](errors.md#{error.value})" for error in one.errors)
    own = f" Errors of its own: {errors}." if errors else ""
    yield f"Reply: {reply}. Deadline: {one.deadline_s:g} s.{own}"
    yield from _example(one)


def _example(one: Operation) -> Iterator[str]:
    example = EXAMPLES[one.name]
    asked = _told(example.request)
    if asked:
        yield f"For example: {code(_text(asked))}"
    # Attempts and executions are shown with the shapes of the API, and streams as they come.
    if one.streamed or one.reply in {AttemptReply, ExecutionReply}:
        return
    yield f"Answered, for example: {code(_text(_told(example.reply)))}"


def _told(value: msgspec.Struct) -> dict[str, object]:
    said: dict[str, object] = msgspec.to_builtins(value)
    left = {
        field.encode_name
        for field in msgspec.structs.fields(value)
        if not field.required and not getattr(value, field.name)
    }
    return {name: told for name, told in said.items() if name not in left}


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "(needed)"
    if field.default_factory is not msgspec.NODEFAULT:
        return code(field.default_factory())
    return "(none)" if field.default is None else code(repr(field.default))
