"""Rows of the API that carry operations: made from the protocol's table.

Owns what of a request stands in path, query and body. Must not carry anything out.
"""

from typing import Any

import msgspec

from hive.api import replies, request_replies
from hive.api.deferring import WhenQuery
from hive.api.examples import example_of
from hive.api.middleware import Handler
from hive.api.openapi import Route, RouteExample
from protocol.attempt_requests import AttemptReply, ExecutionReply
from protocol.conversation import AgentRequest
from protocol.operation_examples import EXAMPLES
from protocol.operation_values import StreamHead
from protocol.operations import Operation

#: What has one shape wherever it comes from.
_SHOWN_AS: dict[type[msgspec.Struct], type[msgspec.Struct]] = {
    AttemptReply: replies.Attempt,
    ExecutionReply: replies.Execution,
    AgentRequest: request_replies.Request,
}


def operation_route(operation: Operation, path: str, handler: Handler) -> Route:
    """Return the row of the API that carries an operation at a path."""
    reply = _SHOWN_AS.get(operation.reply, operation.reply)
    in_query = operation.method in {"GET", "DELETE"}
    fields = msgspec.structs.fields(operation.request)
    return Route(
        operation.method,
        path,
        handler,
        operation.summary,
        query=_query_of(operation),
        body=None if in_query or (fields and not _left(operation)) else _body_of(operation),
        reply=None if operation.streamed else reply,
        media_type=_media_type(operation),
        changing=operation.changing,
        errors=operation.errors,
        # Asked of a node that is away, with `when`: its record.
        kept_reply=replies.Operation if operation.changing else None,
        example=_example(operation),
    )


def _media_type(operation: Operation) -> str:
    head = EXAMPLES[operation.name].reply
    # What a file is, its bytes say: the example's is text, the next one an image.
    if not isinstance(head, StreamHead):
        return "application/json"
    return "application/octet-stream" if "{path}" in operation.path else head.media_type


def _example(operation: Operation) -> RouteExample:
    shown = EXAMPLES[operation.name]
    as_shown = _SHOWN_AS.get(operation.reply)
    reply = shown.content if operation.streamed else example_of(as_shown) or shown.reply
    return RouteExample(shown.request, reply)


def _query_of(operation: Operation) -> type[msgspec.Struct] | None:
    if operation.method == "GET":
        return _with_left(operation, "Query")
    if operation.method != "DELETE":
        return WhenQuery if operation.changing else None
    # A DELETE has no body: what it takes stands beside when it may be done.
    return _with_left(operation, "Query", WhenQuery)


def _body_of(operation: Operation) -> type[msgspec.Struct]:
    return _with_left(operation, "Body")


def _left(operation: Operation) -> list[msgspec.structs.FieldInfo]:
    """Return what a request takes beside what its path names: that is not asked for twice."""
    fields = msgspec.structs.fields(operation.request)
    return [field for field in fields if f"{{{field.encode_name}}}" not in operation.path]


def _with_left(
    operation: Operation, word: str, base: type[msgspec.Struct] = msgspec.Struct
) -> type[msgspec.Struct]:
    """Return the request without what its path names, with what `base` has; itself where equal."""
    left = _left(operation)
    whole = len(left) == len(msgspec.structs.fields(operation.request))
    if whole and base is msgspec.Struct:
        return operation.request
    own: list[Any] = []
    for field in left:
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = msgspec.field(default_factory=field.default_factory)
        kept = (field.name, field.type)
        own.append(kept if default is msgspec.NODEFAULT else (*kept, default))
    return msgspec.defstruct(
        operation.request.__name__.replace("Request", word),
        own,
        bases=(base,),
        namespace={"__doc__": operation.request.__doc__},
        frozen=True,
        kw_only=True,
    )
