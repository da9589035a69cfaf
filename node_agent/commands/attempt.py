"""`node-agent attempt OPERATION A`: one sub-command for each row of the table of operations.

Owns how an operation's answer is drawn. What there is to ask stands in `protocol.operations`.
"""

import sys
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

import click
import msgspec

from node_agent.commands.attempts import show_attempt
from node_agent.commands.invocation import Invocation, new_key, node_command, plain, size_of
from protocol.operations import OPERATIONS, Operation
from protocol.work_requests import file_reply

#: Starting makes an attempt and has a command of its own; a log is an execution's: `logs`.
_ELSEWHERE: Final = frozenset({"start", "log"})
_TYPES: Final = {int: click.INT, float: click.FLOAT, str: click.STRING}


@click.group()
def attempt() -> None:
    """Act on one attempt (an id, or its first or last 8 digits or more)."""


def _command(operation: Operation) -> click.Command:
    """Make the sub-command of an operation from its request's fields."""
    fields = msgspec.structs.fields(operation.request)

    def called(invocation: Invocation, attempt: str, key: str | None = None, **given: Any) -> None:
        asked = {name: value for name, value in given.items() if value not in (None, ())}
        path = f"attempts/{quote(attempt, safe='')}/{_filled(operation.path, asked)}"
        client = invocation.client
        if operation.streamed:
            pieces = client.stream(operation.method, path, query=asked)
            if operation.name == "read_file" and invocation.as_json:
                invocation.reply_json(file_reply(given["path"], b"".join(pieces)))
                return
            show = _STREAMED.get(operation.name, _show_bytes)
            show(invocation, pieces)
            return
        if operation.changing:
            answer = client.send(operation.method, path, asked, key=key or new_key())
        else:
            answer = client.get(path, asked)
        invocation.reply(answer, lambda value: _UNARY[operation.name](invocation, value))

    called.__doc__ = operation.summary + "."
    function = node_command(called)
    if operation.changing:
        key = click.option(
            "--idempotency-key", "key", help="With the same key again, the first answer."
        )
        function = key(function)
    for field in reversed(fields):
        function = _parameter(field)(function)
    function = click.argument("attempt")(function)
    return click.command(operation.command)(function)


def _parameter(field: msgspec.structs.FieldInfo) -> Callable[[Any], Any]:
    name = field.encode_name
    if field.required:
        return click.argument(name)
    flag = f"--{name.replace('_', '-')}"
    if isinstance(field.default, bool):
        return click.option(flag, name, is_flag=True, default=None)
    kinds = [kind for kind in _TYPES if kind in _members(field.type)]
    return click.option(flag, name, type=_TYPES[kinds[0]] if kinds else click.STRING)


def _members(kind: Any) -> tuple[Any, ...]:
    return getattr(kind, "__args__", None) or (kind,)


def _filled(path: str, asked: dict[str, Any]) -> str:
    """Put fields into the path where it names them; they are not asked a second time."""
    for name in [name for name in asked if f"{{{name}}}" in path]:
        path = path.replace(f"{{{name}}}", quote(str(asked.pop(name))))
    return path


# --- how answers are drawn ------------------------------------------------------------------------


def _show_bytes(invocation: Invocation, pieces: Any) -> None:
    """Write bytes as they are."""
    del invocation
    for piece in pieces:
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _show_diff(invocation: Invocation, pieces: Any) -> None:
    if invocation.as_json:
        _show_bytes(invocation, pieces)
        sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()
        return
    _draw_files(invocation, msgspec.json.decode(b"".join(pieces))["files"])


def _show_updates(invocation: Invocation, pieces: Any) -> None:
    """Draw each update as it comes; with --json a line each."""
    waiting = b""
    for piece in pieces:
        *lines, waiting = (waiting + piece).split(b"\n")
        for line in filter(None, lines):
            if invocation.as_json:
                sys.stdout.buffer.write(line + b"\n")
                sys.stdout.buffer.flush()
                continue
            update = msgspec.json.decode(line)
            if update["whole"] or update["changed"]:
                _draw_files(invocation, update["changed"])
            for path in update["removed"]:
                invocation.say(f"{plain(path)} [dim]unchanged again[/]")


def _draw_files(invocation: Invocation, files: list[dict[str, Any]]) -> None:
    for file in files:
        old = f"{plain(file['old_path'])} → " if file.get("old_path") else ""
        counts = f"[green]+{file['additions'] or 0}[/] [red]-{file['deletions'] or 0}[/]"
        if file["binary"]:
            counts = "[dim]binary[/]"
        invocation.say(f"[bold]{file['kind']}[/] {old}{plain(file['path'])} {counts}")
        for line in (file["patch"] or "").splitlines():
            invocation.say(_patch_line(line))
        if file.get("too_large"):
            invocation.say("[dim]  the patch is too large to show[/]")
    if not files:
        invocation.say("[dim]No changes.[/]")


def _patch_line(line: str) -> str:
    shown = plain(line)
    for mark, colour in (("@@", "cyan"), ("+", "green"), ("-", "red")):
        if line.startswith(mark):
            return f"[{colour}]{shown}[/]"
    return shown


def _show_branch(invocation: Invocation, answer: dict[str, Any]) -> None:
    target = plain(answer["target_branch"])
    remote = ""
    if answer["remote_ahead"] is not None:
        remote = f"{answer['remote_ahead']} ahead, {answer['remote_behind']} behind"
    state = [
        word
        for word, there in (
            ("rebase in progress", answer["rebase_in_progress"]),
            ("merge in progress", answer["merge_in_progress"]),
        )
        if there
    ]
    invocation.facts(
        [
            ("Branch", f"[bold]{plain(answer['branch'])}[/]"),
            ("Target", f"{target} ({answer['ahead']} ahead, {answer['behind']} behind)"),
            ("Remote", remote),
            ("Head", plain(answer["head"])),
            ("Uncommitted", f"{answer['dirty']} changed, {answer['untracked']} new"),
            ("Conflicts", "\n".join(f"[red]{plain(name)}[/]" for name in answer["conflicts"])),
            ("State", "[yellow]" + ", ".join(state) + "[/]" if state else ""),
            ("Read from", plain(answer["source"])),
        ]
    )


def _show_files(invocation: Invocation, answer: dict[str, Any]) -> None:
    invocation.table(
        ["Name", "Kind", "Size"],
        [
            [
                f"[bold]{plain(one['name'])}/[/]"
                if one["kind"] == "directory"
                else plain(one["name"]),
                plain(one["kind"]),
                "" if one["size"] is None else size_of(one["size"]),
            ]
            for one in answer["entries"]
        ],
        empty="An empty folder.",
    )
    if answer["next"]:
        invocation.say(f"[dim]More: --after {plain(answer['next'])}[/]")


def _show_any(invocation: Invocation, answer: Any) -> None:
    invocation.facts([(name, plain(value)) for name, value in answer.items()])


_STREAMED: Final[dict[str, Callable[[Invocation, Any], None]]] = {
    "diff": _show_diff,
    "follow_diff": _show_updates,
}
_UNARY: Final[dict[str, Callable[[Invocation, Any], None]]] = {
    name: {
        "stop": show_attempt,
        "branch_status": _show_branch,
        "list_files": _show_files,
    }.get(name, _show_any)
    for name in OPERATIONS
}

for _operation in OPERATIONS.values():
    if _operation.name not in _ELSEWHERE:
        attempt.add_command(_command(_operation))
