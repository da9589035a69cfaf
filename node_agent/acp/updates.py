"""What an agent says while it works, as messages: texts in blocks, tool calls, plans, usage.

Changes the machine's state and returns facts; sends nothing. What it does not know, it leaves out:
the agent's own line is in the execution's log.
"""

from decimal import Decimal
from typing import Any, Final

import msgspec

from node_agent.acp.state import (
    CALLS_BYTES_MAX,
    CALLS_MAX,
    FORGOTTEN_MAX,
    KnownCall,
    MachineState,
    OpenBlock,
)
from node_agent.acp.steps import Fact, MessageMade, TextGrew, UsageTold
from node_agent.acp.tool_calls import (
    SETTLED,
    call_id_of,
    changed_call,
    content_text,
    parent_id_of,
    size_of,
    target_in,
)
from node_agent.acp.usage_limits import reset_told
from node_agent.acp.wire import mapping_in, mappings_in, text_in
from protocol.conversation import TEXT_BYTES_MAX, PlanEntry, ToolCall, Usage, cut_text

_TEXT_ROLES: Final = {"agent_message_chunk": "assistant", "agent_thought_chunk": "thinking"}
#: With their texts they have room in one op.
PLAN_ENTRIES_MAX: Final = 64
PLAN_ENTRY_BYTES_MAX: Final = 400
_PLAN_STATUSES: Final = frozenset({"pending", "in_progress", "completed"})
_PLAN_PRIORITIES: Final = frozenset({"high", "medium", "low"})
_COUNT_MAX: Final = 2**53


def apply_update(state: MachineState, update: dict[str, Any]) -> list[Fact]:
    """Take in one `session/update`; return what became true by it."""
    kind = text_in(update, "sessionUpdate")
    if kind in _TEXT_ROLES:
        return _grow_text(state, _TEXT_ROLES[kind], update)
    if kind in {"tool_call", "tool_call_update"}:
        return change_call(state, update)
    if kind == "plan":
        return _change_plan(state, update)
    if kind == "usage_update":
        return _take_usage(state, update)
    return []


def close_block(state: MachineState) -> list[Fact]:
    """End the text that is growing, if one is: it is a message now."""
    block, state.block = state.block, None
    if block is None:
        return []
    return [
        MessageMade(
            key=block.key,
            role=block.role,
            content=block.text,
            truncated=block.truncated,
            parent_key=block.parent_key,
        )
    ]


def told(state: MachineState, text: str) -> list[Fact]:
    """Return a message of the node itself about this conversation."""
    content, truncated = cut_text(text)
    made = MessageMade(
        key=state.take_key("n"),
        role="system",
        content=content,
        truncated=truncated,
    )
    return [*close_block(state), made]


def _grow_text(state: MachineState, role: str, update: dict[str, Any]) -> list[Fact]:
    text = content_text(mapping_in(update, "content"))
    if not text:
        return []
    message_id = cut_text(text_in(update, "messageId"), 256)[0] or None
    parent_key = _parent_key(state, update)
    facts: list[Fact] = []
    block = state.block
    if block is None or (block.role, block.message_id, block.parent_key) != (
        role,
        message_id,
        parent_key,
    ):
        facts += close_block(state)
        block = state.block = OpenBlock(
            key=state.take_key("b"),
            role=role,
            message_id=message_id,
            parent_key=parent_key,
        )
    if block.truncated:
        return facts
    piece, block.truncated = cut_text(text, TEXT_BYTES_MAX - block.bytes)
    if piece:
        facts.append(TextGrew(key=block.key, role=role, at=len(block.text), text=piece))
        block.text += piece
        block.bytes += len(piece.encode())
    return facts


def _parent_key(state: MachineState, update: dict[str, Any]) -> str | None:
    parent = parent_id_of(update)
    known = None if parent is None else state.calls.get(parent)
    return None if known is None else known.key


def change_call(
    state: MachineState,
    update: dict[str, Any],
    request_key: str | None = None,
) -> list[Fact]:
    """Take in what is said of a tool call; a new one ends the text before it."""
    call_id = call_id_of(update)
    begins = text_in(update, "sessionUpdate") == "tool_call"
    asks = request_key is not None
    if not call_id or (call_id in state.forgotten and not (begins or asks)):
        return []
    facts: list[Fact] = []
    known = state.calls.get(call_id)
    if known is not None and _is_another(state, known, begins=begins, asks=asks):
        facts += _end_call(state.calls.pop(call_id))
        known = None
    if known is None:
        facts += close_block(state)
        known = state.calls[call_id] = KnownCall(
            key=state.take_key("t"),
            call=ToolCall(id=call_id),
            turn_no=state.turn_no,
            parent_key=_parent_key(state, update),
        )
        state.forgotten = [one for one in state.forgotten if one != call_id]
    call, cut, unseen = changed_call(known.call, update, aimed=known.aimed)
    known.aimed = known.aimed or bool(target_in(update))
    unchanged = call == known.call and request_key is None and bool(known.call.name)
    known.call, known.truncated = call, known.truncated or cut
    known.unseen = known.unseen or unseen
    known.request_key = request_key or known.request_key
    known.begun = known.begun or begins
    if not unchanged:
        facts.append(_call_made(known))
    _forget_calls(state)
    return facts


def _is_another(state: MachineState, known: KnownCall, *, begins: bool, asks: bool) -> bool:
    """Whether this is of another call with the same id: some agents count anew in each turn."""
    over = known.call.status in SETTLED
    if asks:
        # Nobody asks leave for what is over; shown with what was told of that, it would mislead.
        return over
    return begins and ((known.begun and over) or known.turn_no != state.turn_no)


def _call_made(known: KnownCall) -> MessageMade:
    return MessageMade(
        key=known.key,
        role="tool",
        content=known.call.target or known.call.name,
        tool=known.call,
        truncated=known.truncated,
        parent_key=known.parent_key,
        request_key=known.request_key,
    )


def end_calls(state: MachineState) -> list[Fact]:
    """Say of the tool calls that are not over that nothing will come of them any more."""
    return [fact for known in state.calls.values() for fact in _end_call(known)]


def _end_call(known: KnownCall) -> list[Fact]:
    if known.call.status in SETTLED:
        return []
    known.call = msgspec.structs.replace(known.call, status="cancelled")
    return [_call_made(known)]


def _forget_calls(state: MachineState) -> None:
    """Keep within bounds: what is over goes first, then what is oldest; never the last one."""
    sizes = {call_id: size_of(known.call) for call_id, known in state.calls.items()}
    held = sum(sizes.values())
    over = [call_id for call_id, one in state.calls.items() if one.call.status in SETTLED]
    for call_id in [*over, *(one for one in sizes if one not in over)]:
        if len(state.calls) <= 1 or (len(state.calls) <= CALLS_MAX and held <= CALLS_BYTES_MAX):
            break
        del state.calls[call_id]
        held -= sizes[call_id]
        state.forgotten = [*state.forgotten, call_id][-FORGOTTEN_MAX:]


def _change_plan(state: MachineState, update: dict[str, Any]) -> list[Fact]:
    entries = []
    given = mappings_in(update, "entries")
    cut = len(given) > PLAN_ENTRIES_MAX
    for entry in given[:PLAN_ENTRIES_MAX]:
        content, content_cut = cut_text(text_in(entry, "content"), PLAN_ENTRY_BYTES_MAX)
        cut = cut or content_cut
        status, priority = text_in(entry, "status"), text_in(entry, "priority")
        entries.append(
            PlanEntry(
                content=content,
                status=status if status in _PLAN_STATUSES else "pending",
                priority=priority if priority in _PLAN_PRIORITIES else "medium",
            )
        )
    facts: list[Fact] = []
    if state.plan_key is None:
        facts += close_block(state)
        state.plan_key = state.take_key("p")
    made = MessageMade(key=state.plan_key, role="plan", plan=entries, truncated=cut)
    return [*facts, made]


def _take_usage(state: MachineState, update: dict[str, Any]) -> list[Fact]:
    if (reset_at_ms := reset_told(update)) is not None:
        state.limit_reset_at_ms = reset_at_ms
    cost = mapping_in(update, "cost")
    amount, currency = cost.get("amount"), text_in(cost, "currency")[:16]
    usage = Usage(
        context_tokens=count_in(update, "used"),
        context_tokens_max=count_in(update, "size"),
        cost=_decimal(amount),
        currency=currency or None,
    )
    return [] if usage == Usage() else [UsageTold(usage=usage)]


def turn_usage(result: dict[str, Any]) -> Usage | None:
    """Return what the end of a turn says was used, or None where it says nothing."""
    told_usage = mapping_in(result, "usage")
    usage = Usage(
        input_tokens=count_in(told_usage, "inputTokens"),
        output_tokens=count_in(told_usage, "outputTokens"),
        cached_tokens=count_in(told_usage, "cachedReadTokens"),
        thought_tokens=count_in(told_usage, "thoughtTokens"),
    )
    return None if usage == Usage() else usage


def count_in(fields: dict[str, Any], name: str) -> int | None:
    """Return a field's count, or None where there is none that can be one."""
    value = fields.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _COUNT_MAX:
        return None
    return value


def _decimal(amount: Any) -> str | None:
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        return None
    if not 0 <= amount <= _COUNT_MAX:
        return None
    # The shortest text that is this number, never 1e-05.
    return format(Decimal(repr(amount)), "f")
