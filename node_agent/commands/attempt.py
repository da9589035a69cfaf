"""`node-agent attempt OPERATION A`: one sub-command for each row of the table of operations.

Owns how an operation's answer is drawn. What there is to ask stands in `protocol.operations`.
"""

import sys
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

import click
import msgspec

from node_agent.commands.attempts import pull_request_line, show_attempt
from node_agent.commands.invocation import (
    Invocation,
    Seconds,
    coloured,
    moment,
    new_key,
    node_command,
    plain,
    size_of,
)
from protocol.operation_words import words_for
from protocol.operations import OPERATIONS, Operation
from protocol.work_requests import file_reply

#: Starting makes an attempt and has a command of its own; a log is an execution's: `logs`; what
#: an agent asks is answered by `requests`, and `sessions` renames one.
_ELSEWHERE: Final = frozenset({"start", "log", "answer", "rename_session"})
#: Fields that have to be given and would not be understood without their name.
_FLAGGED: Final = frozenset({"title"})
_TYPES: Final = {int: click.INT, float: Seconds(min=0), str: click.STRING}


@click.group()
def attempt() -> None:
    """Act on one attempt (an id, or its first or last 8 digits or more)."""


def _command(operation: Operation) -> click.Command:
    """Make the sub-command of an operation from its request's fields."""
    fields = msgspec.structs.fields(operation.request)

    def called(
        invocation: Invocation,
        attempt: str,
        key: str | None = None,
        expected_head: str | None = None,
        **given: Any,
    ) -> None:
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
        if operation.method == "DELETE":
            query = {
                name: str(value).lower() if value is True else value
                for name, value in asked.items()
            }
            answer = client.send(operation.method, path, query=query, key=key or new_key())
        elif operation.changing:
            head = expected_head
            if operation.takes_head and head is None:
                head = client.get(f"attempts/{quote(attempt, safe='')}/branch-status")["head"]
            answer = client.send(
                operation.method, path, asked, key=key or new_key(), expected_head=head
            )
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
    if operation.takes_head:
        head = click.option(
            "--expected-head",
            help="Refuse where the head is another. Default: as branch-status has it.",
        )
        function = head(function)
    for field in reversed(fields):
        function = _parameter(operation.name, field)(function)
    function = click.argument("attempt")(function)
    return click.command(operation.command)(function)


def _as_json(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
    """Read a value in JSON, for what no flag can say."""
    try:
        return None if text is None else msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise click.BadParameter(f"this is not JSON: {error}", context, parameter) from error


def _parameter(operation: str, field: msgspec.structs.FieldInfo) -> Callable[[Any], Any]:
    name = field.encode_name
    flag = f"--{name.replace('_', '-')}"
    words = words_for(operation, name)
    if "list[" in str(field.type) and field.type != list[str]:
        return click.option(
            flag, name, callback=_as_json, required=field.required, metavar="JSON", help=words
        )
    if field.required and name in _FLAGGED:
        return click.option(flag, name, required=True, help=words)
    if field.required:
        return click.argument(name)
    if field.type == list[str]:
        return click.option(flag, name, multiple=True, help=words)
    if isinstance(field.default, bool):
        return click.option(flag, name, is_flag=True, default=None, help=words)
    kinds = [kind for kind in _TYPES if kind in _members(field.type)]
    type_ = _TYPES[kinds[0]] if kinds else click.STRING
    return click.option(flag, name, type=type_, help=words)


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
    diff = msgspec.json.decode(b"".join(pieces))
    for one in diff.get("commits", []):
        invocation.say(f"[yellow]{one['id'][:12]}[/] {plain(one['subject'])}")
    _draw_files(invocation, diff["files"])


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
    half_done = (answer["in_progress"] or "").replace("_", " ")
    merges = [
        f"{one['commit'][:12]} in {plain(one['target'])} ({one['strategy']})"
        for one in answer["merges"]
    ]
    invocation.facts(
        [
            ("Branch", f"[bold]{plain(answer['branch'])}[/]"),
            ("Target", f"{target} ({answer['ahead']} ahead, {answer['behind']} behind)"),
            ("Remote", remote),
            ("Head", plain(answer["head"])),
            ("Uncommitted", f"{answer['dirty']} changed, {answer['untracked']} new"),
            ("Stashed", str(answer["stashes"] or "")),
            ("Conflicts", "\n".join(f"[red]{plain(name)}[/]" for name in answer["conflicts"])),
            ("Half done", f"[yellow]{half_done}[/]" if half_done else ""),
            ("Merged", "\n".join(merges)),
            ("Pull request", pull_request_line(answer["pr"])),
            ("Read from", plain(answer["source"])),
        ]
    )


def _show_commits(invocation: Invocation, answer: dict[str, Any]) -> None:
    invocation.table(
        ["Commit", "Author", "Subject"],
        [
            [one["id"][:12], plain(one["author_name"]), plain(one["subject"])]
            for one in answer["commits"]
        ],
        empty="No commits.",
    )
    invocation.more(answer["next"])


def _show_merge(invocation: Invocation, answer: dict[str, Any]) -> None:
    moved = f"{answer['target_before'][:12]} → [bold]{answer['commit'][:12]}[/]"
    left_out = answer["uncommitted"]
    invocation.facts(
        [
            (plain(answer["target"]), moved),
            ("Merged", f"{answer['head'][:12]} ({answer['strategy']})"),
            ("Left out", f"[yellow]{left_out} uncommitted files[/]" if left_out else ""),
        ]
    )


def _show_push(invocation: Invocation, answer: dict[str, Any]) -> None:
    same = answer["before"] == answer["after"]
    moved = f"{(answer['before'] or 'new')[:12]} → [bold]{answer['after'][:12]}[/]"
    invocation.facts(
        [
            ("Remote", f"{plain(answer['remote'])} ({plain(answer['url'])})"),
            (
                plain(answer["ref"].removeprefix("refs/heads/")),
                f"{answer['after'][:12]}, as before" if same else moved,
            ),
            ("Forced", "yes" if answer["forced"] and not same else ""),
        ]
    )


def _show_rebase(invocation: Invocation, answer: dict[str, Any]) -> None:
    same = answer["head"] == answer["head_before"]
    moved = f"{answer['head_before'][:12]} → [bold]{answer['head'][:12]}[/]"
    invocation.facts(
        [
            ("Head", f"{answer['head'][:12]}, as before" if same else moved),
            ("On top of", answer["onto"][:12]),
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
    invocation.more(answer["next"])


def _show_turn(invocation: Invocation, turn: dict[str, Any]) -> None:
    place = f", number {turn['position']} in the queue" if turn["position"] else ""
    invocation.facts(
        [
            ("Turn", plain(turn["no"] or turn["id"])),
            ("Status", coloured(turn["status"]) + place),
            ("Command", plain(turn["command"])),
            ("Prompt", plain((turn["prompt"] or "").strip().partition("\n")[0][:80])),
            ("Asked", f"{moment(turn['created_at_ms'])} by {plain(turn['author'])}"),
            ("Interrupted", moment(turn["interrupt_asked_at_ms"])),
            ("Parked until", moment(turn["parked_until_ms"])),
        ]
    )


def _show_turns(invocation: Invocation, answer: dict[str, Any]) -> None:
    found = [*filter(None, [answer["running"]]), *answer["items"]]
    invocation.table(
        ["Turn", "Status", "Place", "Command", "Prompt", "Asked by", "Asked"],
        [
            [
                turn["id"][-8:],
                coloured(turn["status"]),
                plain(turn["position"]),
                plain(turn["command"]),
                plain((turn["prompt"] or "").strip().partition("\n")[0][:60]),
                plain(turn["author"]),
                moment(turn["created_at_ms"]),
            ]
            for turn in found
        ],
        empty="No turn runs, and none is queued.",
    )


def _show_execution(invocation: Invocation, one: dict[str, Any]) -> None:
    log = invocation.command_line(
        "logs", one["attempt_id"][-8:], "-f", "--execution", one["id"][-8:]
    )
    invocation.facts(
        [
            ("Execution", plain(one["id"])),
            ("Script", plain(one["script"])),
            ("Status", coloured(one["status"])),
            ("Its log", plain(log)),
        ]
    )


def _show_pull_request(invocation: Invocation, answer: dict[str, Any]) -> None:
    checks = answer["checks"]
    counts = ", ".join(f"{checks[name]} {name}" for name in ("passed", "failed", "pending"))
    invocation.facts(
        [
            ("Pull request", pull_request_line(answer)),
            ("Title", plain(answer["title"])),
            ("From", plain(answer["branch"])),
            ("Into", plain(answer["target_branch"])),
            ("Head", plain(answer["head"])),
            ("Mergeable", {True: "yes", False: "no"}.get(answer["mergeable"], "not known yet")),
            ("Checks", f"{plain(checks['state'])} ({counts})"),
            ("Failed", "\n".join(f"[red]{plain(name)}[/]" for name in checks["failures"])),
        ]
    )


def _show_any(invocation: Invocation, answer: Any) -> None:
    invocation.facts([(name, plain(value)) for name, value in answer.items()])


_STREAMED: Final[dict[str, Callable[[Invocation, Any], None]]] = {
    "diff": _show_diff,
    "compare": _show_diff,
    "follow_diff": _show_updates,
}
_UNARY: Final[dict[str, Callable[[Invocation, Any], None]]] = {
    name: {
        "stop": show_attempt,
        "hold": show_attempt,
        "release": show_attempt,
        "cleanup": show_attempt,
        "follow_up": _show_turn,
        "interrupt": _show_turn,
        "go_on": _show_turn,
        "turns": _show_turns,
        "set_turns": _show_turns,
        "drop_turns": _show_turns,
        "run_script": _show_execution,
        "review": _show_execution,
        "branch_status": _show_branch,
        "commits": _show_commits,
        "merge": _show_merge,
        "push": _show_push,
        "rebase": _show_rebase,
        "abort_conflicts": _show_branch,
        "target_branch": _show_branch,
        "list_files": _show_files,
        "pr": _show_pull_request,
    }.get(name, _show_any)
    for name in OPERATIONS
}

for _operation in OPERATIONS.values():
    if _operation.name not in _ELSEWHERE:
        attempt.add_command(_command(_operation))
