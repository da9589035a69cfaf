"""The page of states: diagrams and tables from `protocol.states`."""

import enum
from collections.abc import Mapping, Sequence
from typing import TypeVar

from protocol import states
from scripts.documentation.markdown import code, first_paragraph, page, table

S = TypeVar("S", bound=enum.StrEnum)


def states_page() -> str:
    """Return the page of states."""
    return page(
        "States",
        "What may follow what. A change that is not drawn here is refused, wherever it is asked.",
        *_section("Attempt: phase", states.AttemptPhase, states.ATTEMPT_TRANSITIONS),
        "An ended attempt has an outcome:",
        table(
            ["outcome", "its task becomes"],
            [(code(outcome), code(states.TASK_AFTER[outcome])) for outcome in states.TASK_AFTER],
        ),
        first_paragraph(states.AttemptOutcome.__doc__),
        *_section("Execution: status", states.ExecutionStatus, states.EXECUTION_TRANSITIONS),
        f"Kinds of executions: {_names(states.ExecutionKind)}.",
        *_section("Task: status", states.TaskStatus, states.TASK_TRANSITIONS),
        *_section("Deferred operation: status", states.DeferredStatus, states.DEFERRED_TRANSITIONS),
        "## What the hive holds of an attempt",
        f"{first_paragraph(states.SyncState.__doc__)} One of {_names(states.SyncState)}.",
        f"{first_paragraph(states.SyncPolicy.__doc__)} One of {_names(states.SyncPolicy)}.",
    )


def _section(title: str, kind: type[S], transitions: Mapping[S, frozenset[S]]) -> list[str]:
    return [f"## {title}", first_paragraph(kind.__doc__), diagram(list(kind), transitions)]


def diagram(order: Sequence[S], transitions: Mapping[S, frozenset[S]]) -> str:
    """Return a table of transitions as a diagram, in the order the states are defined in."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {order[0]}"]
    for before in order:
        after = transitions[before]
        lines += [f"    {before} --> {one}" for one in order if one in after]
        if not after:
            lines.append(f"    {before} --> [*]")
    return "\n".join([*lines, "```"])


def _names(kind: type[enum.StrEnum]) -> str:
    return ", ".join(code(one) for one in kind)
