"""Examples of what the API takes and answers of conversations: sessions, messages, requests.

They tell the story of `protocol.operation_examples`. Must not be used where anything is done.
"""

from typing import Final

import msgspec

from hive.api import conversation_replies, messages, request_replies, requests, sessions
from protocol.conversation import (
    AuthorKind,
    MessageRole,
    RequestStatus,
    SessionStatus,
    ToolCall,
    Usage,
)
from protocol.operation_examples import (
    ANSWERED,
    ATTEMPT_ID,
    BASE,
    BEGUN_AT_MS,
    ENDED_AT_MS,
    EXECUTION_ID,
    HEAD,
    NODE_ID,
    PROJECT_ID,
    SESSION_ID,
    TASK_ID,
    TURN_ID,
)
from protocol.turn_requests import TurnStatus

_MESSAGE_ID: Final = "0199d306-b2f5-7e81-9d3c-a4017c6e5b92"
_PROMPT: Final = "Add a test for the case that the clock goes back."
_AGENT_SESSION: Final = "4c1f8a06-e7b3-4d52-9a08-d6e2f1b7c395"

_SESSION: Final = conversation_replies.Session(
    id=SESSION_ID,
    external=False,
    attempt_id=ATTEMPT_ID,
    task_id=TASK_ID,
    task_title="Keep sign-ins for a day",
    project_id=PROJECT_ID,
    node_id=NODE_ID,
    node_name="atlas",
    reachable=True,
    agent_session_id=_AGENT_SESSION,
    agent_session_at_ms=BEGUN_AT_MS + 1_900,
    rotation_due=False,
    executor="acp",
    profile=None,
    agent="example-agent",
    agent_version="1.4.2",
    capabilities=["load", "resume"],
    topic="Keep sign-ins for a day",
    status="open",
    reason=None,
    message_count=24,
    turn_count=2,
    usage=Usage(input_tokens=18_204, output_tokens=2_377, cost="0.09", currency="USD"),
    created_at_ms=BEGUN_AT_MS + 600,
    last_activity_at_ms=ENDED_AT_MS + 33_000,
    closed_at_ms=None,
    forgotten_at_ms=None,
)
_MESSAGE: Final = conversation_replies.Message(
    id=_MESSAGE_ID,
    session_id=SESSION_ID,
    attempt_id=ATTEMPT_ID,
    turn_id=TURN_ID,
    execution_id=EXECUTION_ID,
    seq=19,
    role="tool",
    author_kind="agent",
    author="example-agent",
    content="",
    truncated=False,
    tool=ToolCall(
        id="call_7",
        name="Read shop/sign_in.py",
        kind="read",
        status="completed",
        target="shop/sign_in.py",
        locations=["shop/sign_in.py:3"],
    ),
    plan=[],
    request_id=None,
    parent_id=None,
    created_at_ms=ENDED_AT_MS + 14_000,
    updated_at_ms=ENDED_AT_MS + 14_300,
)
_TURN: Final = conversation_replies.SessionTurn(
    id=TURN_ID,
    attempt_id=ATTEMPT_ID,
    session_id=SESSION_ID,
    execution_id=EXECUTION_ID,
    no=2,
    place=2,
    status=TurnStatus.ENDED.value,
    prompt=_PROMPT,
    truncated=False,
    author="ada",
    stop_reason="end_turn",
    head_before=BASE,
    head_after=HEAD,
    usage=Usage(input_tokens=9_120, output_tokens=1_044),
    created_at_ms=ENDED_AT_MS + 10_000,
    begun_at_ms=ENDED_AT_MS + 10_200,
    ended_at_ms=ENDED_AT_MS + 61_000,
)
_REQUEST: Final = request_replies.Request(
    id=ANSWERED.id,
    node_id=NODE_ID,
    node_name="atlas",
    reachable=True,
    attempt_id=ATTEMPT_ID,
    task_id=TASK_ID,
    task_title="Keep sign-ins for a day",
    project_id=PROJECT_ID,
    session_id=SESSION_ID,
    turn_id=TURN_ID,
    execution_id=EXECUTION_ID,
    message_id=None,
    kind=ANSWERED.kind.value,
    title=ANSWERED.title,
    text=ANSWERED.text,
    options=ANSWERED.options,
    free_text=ANSWERED.free_text,
    status=ANSWERED.status.value,
    answer=ANSWERED.answer,
    deadline_ms=ANSWERED.deadline_ms,
    reminded_at_ms=None,
    opened_at_ms=ANSWERED.opened_at_ms,
    settled_at_ms=ANSWERED.settled_at_ms,
)

INSTANCES: Final[tuple[msgspec.Struct, ...]] = (
    # What is asked for.
    sessions.SessionsQuery(task=TASK_ID, status=SessionStatus.OPEN),
    sessions.NewExternalSession(
        agent_session_id=_AGENT_SESSION, task_id=TASK_ID, agent="example-agent", topic="Sign-ins"
    ),
    sessions.EditSession(topic="Sign-ins that last for a day"),
    sessions.Heartbeat(status=SessionStatus.IDLE),
    messages.TranscriptQuery(before=120, limit=20),
    messages.MessagesQuery(attempt=ATTEMPT_ID, role=MessageRole.ASSISTANT),
    messages.SendMessages(
        messages=[
            messages.SentMessage(
                id="note-12", content=_PROMPT, author_kind=AuthorKind.PERSON, author="ada"
            )
        ]
    ),
    requests.RequestsQuery(project="shop", status=RequestStatus.OPEN),
    # What is answered.
    conversation_replies.MessagePage(
        items=[_MESSAGE],
        gaps=[
            conversation_replies.MessageGap(
                gap=(20, 21), reason="not here yet; its node is asked for it"
            )
        ],
        previous=19,
        next=21,
        message_count=24,
    ),
    conversation_replies.SentMessages(
        persisted=1,
        duplicates=0,
        items=[
            conversation_replies.SentMessage(
                id="note-12",
                duplicate=False,
                key=messages.message_key(SESSION_ID, "note-12"),
                turn_id=TURN_ID,
            )
        ],
    ),
    _TURN,
    _SESSION,
    _MESSAGE,
    _REQUEST,
)
#: What a tool of agents answers: `set_variable`, here.
TOOL_ANSWER: Final = msgspec.json.encode(
    {"items": [{"name": "HOURS", "value": "24", "from_kind": "task", "from_id": TASK_ID}]}
).decode()
