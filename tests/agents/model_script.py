"""What the stub models say, by what stands in the conversation they are sent. Pure.

A prompt's lines that begin with @ are done one after another, each once the one before has its
result: `@write FILE TEXT` runs a command that makes a file, `@tool NAME JSON` calls a tool of
Skep's, `@hold` waits until the test lets go, `@recall` says the conversation's first prompt, and
`@say TEXT` ends the turn. The conversation alone tells how far that is: nothing is kept here.
"""

import json
import re
from typing import Any, Final, NamedTuple

_LINE: Final = re.compile(r"^@(write|tool|hold|recall|say)\b ?(.*)$", re.MULTILINE)
_DONE: Final = "All is done."


class Said(NamedTuple):
    """One entry of a conversation: of the user, or what a tool gave (`result`)."""

    role: str
    text: str


class Speak(NamedTuple):
    """Say this, and end the turn; `hold` first."""

    text: str
    hold: bool = False


class Run(NamedTuple):
    """Run this command line; `hold` first."""

    command: str
    hold: bool = False


class Call(NamedTuple):
    """Call this tool of Skep's; `hold` first."""

    tool: str
    arguments: dict[str, Any]
    hold: bool = False


Action = Speak | Run | Call


def next_action(history: list[Said]) -> Action:
    """Return what comes next of the newest prompt that says what to do."""
    prompts = [at for at, said in enumerate(history) if said.role == "user" and _steps(said.text)]
    if not prompts:
        return Speak(_DONE)
    steps = _steps(history[prompts[-1]].text)
    done = sum(said.role == "result" for said in history[prompts[-1] :])
    hold = False
    for kind, rest in steps:
        if kind == "hold":
            hold = done == 0
        elif kind in {"say", "recall"}:
            text = rest if kind == "say" else f"first: {_first(history)}"
            return Speak(text, hold)
        elif done > 0:
            done, hold = done - 1, False
        elif kind == "write":
            name, _, text = rest.partition(" ")
            return Run(f"printf '%s' '{text}' > {name}", hold)
        else:
            tool, _, arguments = rest.partition(" ")
            return Call(tool, json.loads(arguments or "{}"), hold)
    return Speak(_DONE, hold)


def _steps(text: str) -> list[tuple[str, str]]:
    return [(kind, rest.strip()) for kind, rest in _LINE.findall(text)]


def _first(history: list[Said]) -> str:
    told = [said.text for said in history if said.role == "user" and _steps(said.text)]
    return " / ".join(f"@{kind} {rest}".strip() for kind, rest in _steps(told[0]))
