"""The whole API on one screen: what is called how, what it takes, what it answers.

Roles stand in `hive.access`; a route without one there is refused.
"""

import msgspec
from aiohttp import web

from hive.api import (
    agent_tools,
    attempts,
    conversation_replies,
    direct,
    enrol,
    events,
    executions,
    mcp,
    messages,
    nodes,
    operations,
    outcomes,
    replies,
    request_replies,
    requests,
    sessions,
    starting,
    streams,
    system,
    tasks,
    templates,
    tokens,
    variables,
)
from hive.api.conversation_examples import TOOL_ANSWER
from hive.api.deferring import WhenQuery
from hive.api.examples import LIVE_EVENTS, STARTED
from hive.api.middleware import Handler, finishing
from hive.api.openapi import Route, RouteExample, describe, docs_handlers
from hive.api.operation_routes import operation_route
from hive.api.paging import PageQuery
from hive.api.project_routes import project_routes
from protocol.operation_values import ROOTS
from protocol.operations import OPERATIONS

_V1 = "/api/v1"
_START = OPERATIONS["start"]
_ANSWER = OPERATIONS["answer"]
_RENAME = OPERATIONS["rename_session"]


def api_routes() -> list[Route]:
    """Return every route of the API, in the order the docs show them."""
    return [*_own_routes(), *_operation_routes()]


def _own_routes() -> list[Route]:
    r = replies
    return [
        Route("GET", f"{_V1}/status", system.status, "How the hive is", reply=r.Status),
        Route("GET", f"{_V1}/me", system.me, "Who the caller is", reply=r.Me),
        *_node_routes(),
        *_catalog_routes(),
        *_text_routes(),
        Route(
            "POST",
            f"{_V1}/agent-tools/{{tool}}",
            agent_tools.call,
            "Answer a tool of agents",
            reply=None,
            example=RouteExample(reply=TOOL_ANSWER),
        ),
        Route(
            "GET",
            f"{_V1}/attempts",
            attempts.list_,
            "The attempts, newest first",
            attempts.AttemptsQuery,
            reply=r.Page[r.Attempt],
        ),
        Route(
            "GET",
            f"{_V1}/attempts/{{attempt}}",
            attempts.show,
            "One attempt",
            attempts.AttemptQuery,
            reply=r.Attempt,
        ),
        Route(
            "GET",
            f"{_V1}/attempts/{{attempt}}/stream-connection-info",
            direct.connection_info,
            "Where its streams are to be had",
            reply=r.StreamConnection,
        ),
        Route(
            "POST",
            f"{_V1}/attempts/{{attempt}}/direct-calls",
            direct.direct_call,
            "Have one changing call go straight to the node",
            body=direct.DirectCall,
            reply=r.DirectCall,
            status=201,
        ),
        Route(
            "POST",
            f"{_V1}/attempts/{{attempt}}/backfill",
            attempts.backfill,
            "Fetch what the hive lacks of it",
            reply=r.Attempt,
            status=202,
        ),
        Route(
            "GET",
            f"{_V1}/executions",
            executions.list_,
            "The executions of an attempt",
            executions.ExecutionsQuery,
            reply=r.Page[r.Execution],
        ),
        Route(
            "GET",
            f"{_V1}/executions/{{execution}}",
            executions.show,
            "One execution",
            reply=r.Execution,
        ),
        Route(
            "GET",
            f"{_V1}/executions/{{execution}}/log",
            executions.log,
            "A page of its log",
            executions.LogQuery,
            reply=r.LogPage,
        ),
        *_conversation_routes(),
        Route(
            "GET",
            f"{_V1}/stream",
            streams.stream,
            "Live events, as Server-Sent Events or over a WebSocket",
            streams.StreamQuery,
            media_type="text/event-stream",
            example=RouteExample(reply=LIVE_EVENTS),
        ),
        Route(
            "GET",
            f"{_V1}/operations",
            outcomes.list_,
            "Changing requests, newest first",
            outcomes.OperationsQuery,
            reply=r.Page[r.Operation],
        ),
        Route(
            "GET",
            f"{_V1}/operations/{{key}}",
            outcomes.show,
            "What became of a changing request",
            reply=r.Operation,
        ),
        Route(
            "POST",
            f"{_V1}/operations/{{key}}/cancel",
            outcomes.cancel,
            "Take back what waits for its node",
            reply=r.Operation,
        ),
        Route(
            "POST",
            f"{_V1}/operations/{{key}}/confirm",
            outcomes.confirm,
            "Have what is held since a restore leave",
            reply=r.Operation,
        ),
        Route(
            "GET",
            f"{_V1}/events",
            events.list_,
            "What happened, and who did it",
            events.EventsQuery,
            reply=r.Page[r.Event],
        ),
        Route(
            "GET",
            f"{_V1}/tokens",
            tokens.list_,
            "Who may call the hive",
            PageQuery,
            reply=r.Page[r.Token],
        ),
        Route(
            "POST",
            f"{_V1}/tokens",
            tokens.create,
            "Make a token",
            body=tokens.NewToken,
            reply=r.MadeToken,
            status=201,
        ),
        Route("DELETE", f"{_V1}/tokens/{{token}}", tokens.revoke, "Revoke a token", reply=r.Token),
    ]


def _conversation_routes() -> list[Route]:
    r, c = replies, conversation_replies
    session = f"{_V1}/sessions/{{session}}"
    return [
        Route(
            "GET",
            f"{_V1}/sessions",
            sessions.list_,
            "The sessions, newest first",
            sessions.SessionsQuery,
            reply=r.Page[c.Session],
        ),
        Route(
            "POST",
            f"{_V1}/sessions",
            sessions.create,
            "Map the session of an agent that is no node's",
            body=sessions.NewExternalSession,
            reply=c.Session,
            status=201,
        ),
        Route("GET", session, sessions.show, "One session", reply=c.Session),
        Route(
            "PATCH",
            session,
            sessions.edit,
            "Give a session another topic; of an external one, another session of its agent's",
            WhenQuery,
            body=sessions.EditSession,
            reply=c.Session,
            changing=True,
            errors=_RENAME.errors,
            kept_reply=r.Operation,
        ),
        Route("DELETE", session, sessions.delete, "Close an external session", reply=c.Session),
        Route(
            "POST",
            f"{session}/heartbeat",
            sessions.heartbeat,
            "Keep an external session alive",
            body=sessions.Heartbeat,
            reply=c.Session,
        ),
        Route(
            "GET",
            f"{session}/turns",
            sessions.list_turns,
            "Its turns: those that have begun, then the queue",
            PageQuery,
            reply=r.Page[c.SessionTurn],
        ),
        Route(
            "GET",
            f"{session}/messages",
            messages.transcript,
            "A page of its transcript, both ways",
            messages.TranscriptQuery,
            reply=c.MessagePage,
        ),
        Route(
            "POST",
            f"{session}/messages",
            messages.send,
            "Send messages into it; with `when=online` they wait for a node that is away",
            WhenQuery,
            body=messages.SendMessages,
            reply=c.SentMessages,
            kept_reply=c.SentMessages,
            errors=OPERATIONS["follow_up"].errors,
        ),
        Route(
            "GET",
            f"{_V1}/messages",
            messages.list_,
            "Messages of an attempt, a task or a project",
            messages.MessagesQuery,
            reply=r.Page[c.Message],
        ),
        Route("GET", f"{_V1}/messages/{{message}}", messages.show, "One message", reply=c.Message),
        Route(
            "GET",
            f"{_V1}/requests",
            requests.list_,
            "What agents ask of people, newest first",
            requests.RequestsQuery,
            reply=r.Page[request_replies.Request],
        ),
        Route(
            "GET",
            f"{_V1}/requests/{{request}}",
            requests.show,
            "One request, with its answer",
            reply=request_replies.Request,
        ),
        operation_route(_ANSWER, f"{_V1}/requests/{{request}}/answer", requests.answer),
    ]


def _node_routes() -> list[Route]:
    r = replies
    return [
        Route(
            "GET",
            f"{_V1}/nodes",
            nodes.list_,
            "The nodes, by name",
            nodes.NodesQuery,
            reply=r.Page[r.Node],
        ),
        Route("GET", f"{_V1}/nodes/{{node}}", nodes.show, "One node", reply=r.Node),
        Route(
            "PATCH",
            f"{_V1}/nodes/{{node}}",
            nodes.edit,
            "Drain a node, or label it",
            body=nodes.EditNode,
            reply=r.Node,
        ),
        Route(
            "POST", f"{_V1}/nodes/{{node}}/revoke", nodes.revoke, "Shut a node out", reply=r.Node
        ),
        Route(
            "POST",
            f"{_V1}/nodes/{{node}}/release",
            nodes.release,
            "Let one holder of a quarantined identity on",
            body=nodes.ReleaseNode,
            reply=r.Node,
        ),
        Route(
            "POST",
            f"{_V1}/join-tokens",
            tokens.create_join_token,
            "Make a one-time token that lets a machine join",
            body=tokens.NewJoinToken,
            reply=r.JoinToken,
            status=201,
        ),
        Route(
            "POST",
            "/v1/enrol",
            enrol.enrol,
            "Join as a node",
            body=enrol.Enrolment,
            reply=r.Enrolled,
        ),
    ]


def _catalog_routes() -> list[Route]:
    r = replies
    task = f"{_V1}/tasks/{{task}}"
    return [
        *project_routes(_V1),
        Route(
            "GET",
            f"{_V1}/tasks",
            tasks.list_,
            "The tasks, newest first",
            tasks.TasksQuery,
            reply=r.Page[r.Task],
        ),
        Route(
            "POST",
            f"{_V1}/tasks",
            tasks.create,
            "Make a task",
            body=tasks.NewTask,
            reply=r.Task,
            status=201,
        ),
        Route("GET", task, tasks.show, "One task", reply=r.Task),
        Route("PATCH", task, tasks.edit, "Change a task", body=tasks.EditTask, reply=r.Task),
        Route("DELETE", task, tasks.delete, "Delete a task", reply=r.Deleted),
        Route(
            "GET",
            f"{task}/available-nodes",
            starting.available_nodes,
            "Where it can run, and why not elsewhere",
            starting.AvailableQuery,
            reply=r.Page[r.AvailableNode],
        ),
        Route(
            "GET",
            f"{task}/stream-connection-info",
            direct.task_connection_info,
            "Where the streams of its newest attempt are to be had",
            reply=r.StreamConnection,
        ),
        Route(
            "POST",
            f"{task}/attempts",
            starting.start,
            _START.summary,
            body=starting.StartAttempt,
            reply=r.Attempt,
            status=201,
            changing=True,
            errors=_START.errors,
            example=RouteExample(reply=STARTED),
        ),
    ]


def _text_routes() -> list[Route]:
    r = replies
    of_task, template = f"{_V1}/tasks/{{task}}", f"{_V1}/templates/{{template}}"
    return [
        Route(
            "GET",
            f"{of_task}/preview",
            variables.preview,
            "Its text with its variables put in, and warnings",
            variables.PreviewQuery,
            reply=r.TaskPreview,
        ),
        Route(
            "GET",
            f"{of_task}/variables",
            variables.list_,
            "The variables that hold for it, and where each is set",
            reply=r.Page[r.Variable],
        ),
        Route(
            "PUT",
            f"{of_task}/variables/{{name}}",
            variables.set_,
            "Set a variable of it",
            body=variables.SetVariable,
            reply=r.Page[r.Variable],
        ),
        Route(
            "DELETE",
            f"{of_task}/variables/{{name}}",
            variables.unset,
            "Take a variable of it away",
            reply=r.Page[r.Variable],
        ),
        Route(
            "GET",
            f"{_V1}/templates",
            templates.list_,
            "The templates, by name",
            templates.TemplatesQuery,
            reply=r.Page[r.Template],
        ),
        Route(
            "POST",
            f"{_V1}/templates",
            templates.create,
            "Make a template",
            body=templates.NewTemplate,
            reply=r.Template,
            status=201,
        ),
        Route("GET", template, templates.show, "One template", reply=r.Template),
        Route(
            "PATCH",
            template,
            templates.edit,
            "Change a template",
            body=templates.EditTemplate,
            reply=r.Template,
        ),
        Route("DELETE", template, templates.delete, "Delete a template", reply=r.Deleted),
    ]


def _operation_routes() -> list[Route]:
    routes = []
    for operation in OPERATIONS.values():
        if operation.path.startswith(ROOTS):
            # Those have handlers of their own above.
            continue
        for root, make in (
            (f"{_V1}/attempts/{{attempt}}", operations.attempt_handler),
            (f"{_V1}/tasks/{{task}}/attempt", operations.task_handler),
        ):
            routes.append(operation_route(operation, f"{root}/{operation.path}", make(operation)))
    return routes


def add_routes(app: web.Application, link: Handler, *, server_url: str) -> list[Route]:
    """Put every route on `app`; return those that the description describes."""
    routes = api_routes()
    for route in routes:
        # A file's path has slashes of its own, and may have line ends.
        path = route.path.replace("{path}", "{path:(?s:.+)}")
        # What goes to a node is carried on by the proxy; waiting for one ends with the caller.
        own_change = route.method != "GET" and not route.changing
        handler = finishing(route.handler) if own_change else route.handler
        app.router.add_route(route.method, path, handler)
    app[mcp.ENDPOINT] = mcp.McpEndpoint()
    app.cleanup_ctx.append(mcp.serving)
    # Each message is answered by itself: there is no session to listen to, nor to delete.
    app.router.add_post("/mcp", mcp.handle)
    document = msgspec.json.encode(describe(routes, server_url=server_url))
    description, page, file = docs_handlers(document)
    for path, handler in (
        ("/openapi.json", description),
        (f"{_V1}/openapi.json", description),
        ("/api/docs", page),
        ("/api/docs/{file}", file),
        ("/healthz", system.healthz),
        ("/readyz", system.readyz),
        ("/metrics", system.metrics),
        ("/v1/link", link),
    ):
        app.router.add_get(path, handler)
    return routes
