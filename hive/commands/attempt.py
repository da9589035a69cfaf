"""`hive attempt OPERATION A`: one sub-command for each row of the protocol's table.

Owns how the fields of a request become arguments and options. Must not know any operation, but for
how its reply looks best.
"""

import contextlib
import re
import sys
from collections.abc import Callable, Iterable
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, get_args

import click
import msgspec

from hive.client import HiveClient, path_of
from hive.commands import attempts, operations
from hive.commands.calling import (
    Seconds,
    client_command,
    given_only,
    key_option,
    when_options,
)
from hive.commands.known_head import head_to_expect
from hive.commands.terminal import (
    Terminal,
    facts,
    print_json,
    short,
    size,
    state,
    table,
    when,
    written,
)
from protocol.operation_words import words_for
from protocol.operations import OPERATIONS, Operation
from protocol.transcript import plain
from protocol.work_requests import file_reply

if TYPE_CHECKING:
    from hive.ways import Ways

#: In paths of operations, what callers name in other ways.
_PATHS: Final = frozenset({"path", "task_id", "execution_id"})
#: Not below an attempt, and so not here: `hive tasks run` starts one, `hive requests` answers,
#: `hive sessions` renames.
_ELSEWHERE: Final = frozenset({"start", "answer", "rename_session"})
#: What the options of changing operations give, beside the request's own fields.
_OF_CHANGES: Final = ("key", "expected_head", "waiting")
#: Waited for a reply beyond the operation's own time.
_ON_THE_WAY_S: Final = 10.0


@click.group()
def attempt() -> None:
    """Act on one attempt, wherever it lives."""


def _sub_command(operation: Operation) -> click.Command:
    fields = {
        field.encode_name: field
        for field in msgspec.structs.fields(operation.request)
        if not (operation.name == "log" and field.encode_name == "wait_ms")
    }

    def call(hive: HiveClient, terminal: Terminal, attempt: str, **given: Any) -> None:
        positional = given.pop("path_argument", None)
        if positional is not None:
            given["path"] = positional
        _call(operation, hive, terminal, attempt, given)

    function: Callable[..., Any] = client_command(call)
    for field in reversed(list(fields.values())):
        if field.encode_name in _named_in_path(operation):
            continue
        function = _option(operation, field)(function)
    for name in _named_in_path(operation):
        function = click.argument(name, metavar=name.upper())(function)
    if "path" in fields and operation.name not in {"diff", "compare"}:
        function = click.argument("path_argument", metavar="[PATH]", required=False)(function)
    if operation.name == "diff":
        function = click.option(
            "-f", "--follow", is_flag=True, help="Go on as it changes; with --json a line each."
        )(function)
    if operation.changing:
        function = when_options(key_option(function))
        function = click.option(
            "--expected-head",
            metavar="COMMIT",
            help="Refuse where the head is another by now."
            + (" Default: as branch-status has it." if operation.takes_head else ""),
        )(function)
    function = click.argument("attempt", metavar="A")(function)
    return click.command(name=operation.command, help=f"{operation.summary}.")(function)


def _as_json(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
    """Read a value in JSON, for what no flag can say."""
    try:
        return None if text is None else msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise click.BadParameter(f"this is not JSON: {error}", context, parameter) from error


def _named_in_path(operation: Operation) -> list[str]:
    """Return the fields that the path names; a file's path is an argument of its own."""
    return [name for name in re.findall(r"\{(\w+)\}", operation.path) if name not in _PATHS]


def _option(operation: Operation, field: Any) -> Callable[[Any], Any]:
    name = field.encode_name
    kinds = [kind for kind in (get_args(field.type) or (field.type,)) if kind is not NoneType]
    flag = f"--{name.replace('_', '-').removesuffix('-id')}"
    words = words_for(operation.name, name)
    if kinds == [bool]:
        return click.option(flag, name, is_flag=True, default=None, help=words)
    if field.type == list[str]:
        return click.option(flag, name, multiple=True, help=words)
    if "list[" in str(field.type):
        return click.option(
            flag, name, callback=_as_json, required=field.required, metavar="JSON", help=words
        )
    kind = {int: click.INT, float: Seconds(min=0)}.get(kinds[0], click.STRING)
    required = field.required and name not in {"path", "execution_id"}
    return click.option(flag, name, type=kind, required=required, help=words)


def _call(
    operation: Operation, hive: HiveClient, terminal: Terminal, attempt: str, given: dict[str, Any]
) -> None:
    change = {name: given.pop(name) for name in _OF_CHANGES if name in given}
    follow = given.pop("follow", False)
    fields = {name: value for name, value in given_only(**given).items() if value != ()}
    if operation.changing:
        reply = _change(operation, hive, attempt, fields, **change)
        kept = operations.is_kept(reply)
        terminal.show(reply, operations.render_one if kept else _rendered(operation))
    elif follow or operation.live:
        _follow_diff(hive, terminal, attempt, fields)
    elif operation.name == "log":
        _print_log(hive, terminal, attempt, fields)
    else:
        _read(operation, hive, terminal, attempt, fields)


def _change(
    operation: Operation,
    hive: HiveClient,
    attempt: str,
    fields: dict[str, Any],
    *,
    key: str,
    expected_head: str | None,
    waiting: dict[str, Any],
) -> Any:
    """Return the reply of what changes: it goes through the hive."""
    path = f"attempts/{path_of(attempt)}/{_path(operation, fields)}"
    if operation.takes_head and expected_head is None:
        expected_head = head_to_expect(hive, attempt, may_be_away=waiting["when"] == "online")
    return hive.request(
        operation.method,
        path,
        query={**waiting, **(fields if operation.method == "DELETE" else {})},
        body=None if operation.method == "DELETE" else fields,
        key=key,
        headers={"Expected-Head": expected_head} if expected_head else None,
        timeout_s=operation.deadline_s + _ON_THE_WAY_S,
    )


def _read(
    operation: Operation,
    hive: HiveClient,
    terminal: Terminal,
    attempt: str,
    fields: dict[str, Any],
) -> None:
    """Show what only reads: it goes straight to the node where it can."""
    file = fields.get("path", "")
    path = _path(operation, fields)
    wait_s = operation.deadline_s + _ON_THE_WAY_S
    with contextlib.closing(_ways(hive, terminal, attempt)) as ways:
        path = f"attempts/{path_of(ways.attempt_id())}/{path}"
        if operation.name == "read_file":
            _print_file(terminal, file, ways.pieces(path, timeout_s=wait_s, **fields))
        else:
            terminal.show(ways.get(path, timeout_s=wait_s, **fields), _rendered(operation))


def _path(operation: Operation, fields: dict[str, Any]) -> str:
    """Return the operation's path, and take out of the fields what it names."""
    path = operation.path
    if "{path}" in path:
        file = fields.pop("path", "")
        if not file:
            raise click.UsageError("Missing argument 'PATH'.")
        path = path.replace("{path}", "/".join(path_of(part) for part in file.split("/")))
    for name in _named_in_path(operation):
        path = path.replace(f"{{{name}}}", path_of(fields.pop(name)))
    return path


def _rendered(operation: Operation) -> Callable[[Any], Iterable[Any]]:
    return _RENDERED.get(operation.name, _render_plainly)


def _ways(hive: HiveClient, terminal: Terminal, attempt: str) -> "Ways":
    from hive.ways import Ways

    return Ways(hive, attempt, lambda way: terminal.note(f"[{way}]"))


def _follow_diff(
    hive: HiveClient, terminal: Terminal, attempt: str, fields: dict[str, Any]
) -> None:
    from hive.commands.live_diff import follow_diff

    if fields.pop("stat", None):
        raise click.UsageError("--stat is not for --follow.")
    shown = hive.get(f"attempts/{path_of(attempt)}")
    follow_diff(hive, terminal, shown["id"], fields, _render_diff)


def _print_file(terminal: Terminal, path: str, pieces: Iterable[bytes]) -> None:
    if terminal.as_json:
        print_json(file_reply(path, b"".join(pieces)))
        return
    for piece in pieces:
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _print_log(hive: HiveClient, terminal: Terminal, attempt: str, fields: dict[str, Any]) -> None:
    from hive.commands.following import Printer

    execution = fields.pop("execution_id", None)
    if execution is None:
        executions = hive.get(f"attempts/{path_of(attempt)}")["executions"]
        if not executions:
            raise click.ClickException("the attempt has run nothing yet")
        execution = executions[-1]["id"]
    page = hive.get(f"executions/{path_of(execution)}/log", source="node", **fields)
    printer = Printer(as_json=terminal.as_json)
    for entry in page["entries"]:
        printer.entry(entry)
    for gap in page["gaps"]:
        printer.gap(gap)
    printer.flush()


# --- how replies look -----------------------------------------------------------------------------


def _render_plainly(reply: dict[str, Any]) -> Iterable[Any]:
    if "attempt" in reply and isinstance(reply["attempt"], dict):
        reply = reply["attempt"]
    yield facts((name.replace("_", " "), value) for name, value in reply.items())


def _render_status(reply: dict[str, Any]) -> Iterable[Any]:
    target = reply.get("target_branch")
    yield facts(
        [
            ("branch", reply["branch"]),
            ("against", target),
            ("ahead", f"{reply['ahead']}, behind {reply['behind']}" if target else None),
            ("head", reply.get("head")),
            ("remote", _remote_of(reply)),
            ("changed", f"{reply['dirty']} files, {reply['untracked']} untracked"),
            ("stashed", reply.get("stashes") or None),
            ("conflicts", "\n".join(reply["conflicts"])),
            ("half done", (reply.get("in_progress") or "").replace("_", " ")),
            ("merged", "\n".join(_merge_line(merge) for merge in reply.get("merges", []))),
            ("pull request", attempts.pull_request_line(reply.get("pr"))),
            ("read from", reply["source"]),
        ]
    )


def _remote_of(reply: dict[str, Any]) -> str | None:
    if reply["remote_ahead"] is None:
        return None
    apart = f"ahead {reply['remote_ahead']}, behind {reply['remote_behind']}"
    return f"{(reply.get('remote_head') or '')[:12]}  {apart}"


def _merge_line(merge: dict[str, Any]) -> str:
    return f"{merge['commit'][:12]} in {merge['target']} ({merge['strategy']})"


def _render_commits(reply: dict[str, Any]) -> Iterable[Any]:
    yield table(
        "commits",
        ["commit", "when", "author", "subject"],
        (
            (one["id"][:12], when(one["committed_at_ms"]), one["author_name"], one["subject"])
            for one in reply["commits"]
        ),
    )
    if reply.get("next"):
        yield f"[bright_black]more: --after {reply['next']}[/]"


def _render_compare(reply: dict[str, Any]) -> Iterable[Any]:
    yield from _render_commits({"commits": reply["commits"]})
    yield from _render_diff(reply)


def _render_merge(reply: dict[str, Any]) -> Iterable[Any]:
    left_out = reply["uncommitted"]
    yield facts(
        [
            (reply["target"], f"{reply['target_before'][:12]} → {reply['commit'][:12]}"),
            ("merged", f"{reply['head'][:12]} ({reply['strategy']})"),
            ("left out", f"{left_out} uncommitted files" if left_out else None),
        ]
    )


def _render_push(reply: dict[str, Any]) -> Iterable[Any]:
    same = reply["before"] == reply["after"]
    before = (reply["before"] or "new")[:12]
    moved = f"{reply['after'][:12]}, as before" if same else f"{before} → {reply['after'][:12]}"
    yield facts(
        [
            ("remote", f"{reply['remote']} ({reply['url']})"),
            (reply["ref"].removeprefix("refs/heads/"), moved),
            ("forced", "yes" if reply["forced"] and not same else None),
        ]
    )


def _render_rebase(reply: dict[str, Any]) -> Iterable[Any]:
    same = reply["head"] == reply["head_before"]
    moved = f"{reply['head_before'][:12]} → {reply['head'][:12]}"
    yield facts(
        [
            ("head", f"{reply['head'][:12]}, as before" if same else moved),
            ("on top of", reply["onto"][:12]),
        ]
    )


def _render_rename(reply: dict[str, Any]) -> Iterable[Any]:
    yield facts([("branch", f"{reply['branch_before']} → {reply['branch']}")])


def _render_stash(reply: dict[str, Any]) -> Iterable[Any]:
    yield facts([("stash", reply["commit"][:12]), ("stashed now", reply["depth"])])


def _render_diff(reply: dict[str, Any]) -> Iterable[Any]:
    from rich.text import Text

    if not reply["files"]:
        yield "Nothing changed."
    for file in reply["files"]:
        name = file["path"]
        if file.get("old_path") and file["old_path"] != name:
            name = f"{file['old_path']} → {name}"
        title = Text.assemble(
            (plain(name), "bold"),
            f"  {file['kind']} ",
            (f"+{file['additions'] or 0}", "green"),
            " ",
            (f"-{file['deletions'] or 0}", "red"),
        )
        yield title
        if file.get("binary"):
            yield Text("  binary", style="bright_black")
        for line in (file.get("patch") or "").splitlines():
            yield written(line, _patch_style(line))


def _patch_style(line: str) -> str:
    if line.startswith("@@"):
        return "cyan"
    if line.startswith(("+++", "---", "diff ", "index ")):
        return "bright_black"
    return {"+": "green", "-": "red"}.get(line[:1], "default")


def _render_files(reply: dict[str, Any]) -> Iterable[Any]:
    from rich.text import Text

    yield table(
        reply["path"] or ".",
        ["kind", ">size", "name"],
        ((entry["kind"], size(entry["size"]), entry["name"]) for entry in reply["entries"]),
    )
    if reply.get("next"):
        yield Text(f"more: --after {reply['next']}", style="bright_black")


def _render_turn(turn: dict[str, Any]) -> Iterable[Any]:
    place = f"number {turn['position']} in the queue" if turn.get("position") else ""
    yield facts(
        [
            ("turn", turn.get("no") or turn["id"]),
            ("status", state(turn["status"])),
            ("place", place),
            ("command", turn.get("command")),
            ("prompt", _first_line(turn.get("prompt"))),
            ("asked by", turn.get("author")),
            ("asked", when(turn.get("created_at_ms"))),
            ("interrupted", when(turn.get("interrupt_asked_at_ms"))),
            ("parked until", when(turn.get("parked_until_ms"))),
        ]
    )


def _render_turns(reply: dict[str, Any]) -> Iterable[Any]:
    turns = [*filter(None, [reply.get("running")]), *reply["items"]]
    if not turns:
        yield "No turn runs, and none is queued."
        return
    yield table(
        "Turns",
        ["id", "status", ">place", "command", "prompt", "asked by?", "asked?"],
        (
            (
                short(turn["id"]),
                state(turn["status"]),
                turn.get("position"),
                turn.get("command"),
                _first_line(turn.get("prompt")),
                turn.get("author"),
                when(turn.get("created_at_ms")),
            )
            for turn in turns
        ),
    )


def _first_line(text: str | None) -> str:
    line = (text or "").strip().partition("\n")[0]
    return line if len(line) <= 60 else f"{line[:57]}..."


def _render_execution(execution: dict[str, Any]) -> Iterable[Any]:
    attempt, own = (short(execution[name]).plain for name in ("attempt_id", "id"))
    yield facts(
        [
            ("execution", execution["id"]),
            ("script", execution.get("script")),
            ("status", state(execution["status"])),
            ("its log", f"hive attempts logs {attempt} -f --execution {own}"),
        ]
    )


def _render_pull_request(reply: dict[str, Any]) -> Iterable[Any]:
    checks = reply["checks"]
    counts = ", ".join(f"{checks[name]} {name}" for name in ("passed", "failed", "pending"))
    yield facts(
        [
            ("pull request", attempts.pull_request_line(reply)),
            ("title", reply["title"]),
            ("from", reply["branch"]),
            ("into", reply["target_branch"]),
            ("head", reply["head"]),
            ("mergeable", {True: "yes", False: "no"}.get(reply["mergeable"], "not known yet")),
            ("checks", f"{checks['state']} ({counts})"),
            ("failed", ", ".join(checks["failures"])),
        ]
    )


_RENDERED: Final[dict[str, Callable[[Any], Iterable[Any]]]] = {
    "stop": attempts.render_one,
    "hold": attempts.render_one,
    "release": attempts.render_one,
    "cleanup": attempts.render_one,
    "follow_up": _render_turn,
    "interrupt": _render_turn,
    "go_on": _render_turn,
    "turns": _render_turns,
    "set_turns": _render_turns,
    "drop_turns": _render_turns,
    "run_script": _render_execution,
    "review": _render_execution,
    "branch_status": _render_status,
    "diff": _render_diff,
    "commits": _render_commits,
    "compare": _render_compare,
    "merge": _render_merge,
    "push": _render_push,
    "rebase": _render_rebase,
    "abort_conflicts": _render_status,
    "target_branch": _render_status,
    "rename_branch": _render_rename,
    "stash": _render_stash,
    "stash_pop": _render_stash,
    "list_files": _render_files,
    "pr": _render_pull_request,
}

for _row in OPERATIONS.values():
    if _row.name not in _ELSEWHERE:
        attempt.add_command(_sub_command(_row))
