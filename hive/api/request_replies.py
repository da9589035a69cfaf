"""What the API answers of agents' requests, as Structs: names and shapes that scripts rely on.

Must not read anything: handlers make these of rows and of what is known of connected nodes.
"""

from typing import Any

import msgspec

from protocol.conversation import Answer, RequestOption, ToolCall


class SentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A person's answer that its node has not taken yet: it waits for that to be back.

    Whether it counts the node says: another may be there before it. `held`: the hive was put back
    from a copy since; it does not leave before a person confirms the operation `key`.
    """

    key: str
    by: str
    at_ms: int
    expires_at_ms: int
    held: bool = False
    option: str | None = None
    text: str | None = None
    form: dict[str, Any] | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent asks of people. `status`: open, answered, expired, cancelled.

    `sent`: answers on their way to its node, oldest first. `forgotten_at_ms`: its node no longer
    knows of it.
    """

    id: str
    node_id: str
    node_name: str
    reachable: bool
    attempt_id: str
    task_id: str | None
    task_title: str | None
    project_id: str | None
    session_id: str | None
    turn_id: str | None
    execution_id: str | None
    message_id: str | None
    kind: str
    title: str
    text: str
    options: list[RequestOption]
    form: dict[str, Any] | None = None
    free_text: bool
    tool: ToolCall | None = None
    status: str
    reason: str | None = None
    answer: Answer | None = None
    sent: list[SentAnswer] = []
    deadline_ms: int | None
    reminded_at_ms: int | None
    opened_at_ms: int
    settled_at_ms: int | None
    forgotten_at_ms: int | None = None
