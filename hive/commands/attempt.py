"""`hive attempt OPERATION A`: one sub-command for each row of the protocol's table.

Owns how the fields of a request become arguments and options. Must not know any operation, but for
how its reply looks best.
"""

import sys
from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any, Final, get_args

import click
import msgspec

from hive.client import HiveClient, path_of
from hive.commands import attempts
from hive.commands.calling import client_command, given_only, new_key
from hive.commands.terminal import Terminal, facts, print_json, size, table
from protocol.operations import OPERATIONS, Operation
from protocol.work_requests import file_reply

#: Not below an attempt, and so not here: `hive tasks run` starts one.
_ELSEWHERE: Final = frozenset({"start"})


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
        function = _option(operation, field)(function)
    if "path" in fields and operation.name != "diff":
        function = click.argument("path_argument", metavar="[PATH]", required=False)(function)
    if operation.name == "diff":
        function = click.option(
            "-f", "--follow", is_flag=True, help="Go on as it changes; with --json a line each."
        )(function)
    if operation.changing:
        function = click.option(
            "--idempotency-key",
            "key",
            metavar="KEY",
            default=new_key,
            help="The same key again does it once only. Default: a fresh one.",
        )(function)
        function = click.option(
            "--expected-head", metavar="COMMIT", help="Refuse where the head is another by now."
        )(function)
    function = click.argument("attempt", metavar="A")(function)
    return click.command(name=operation.command, help=f"{operation.summary}.")(function)


def _option(operation: Operation, field: Any) -> Callable[[Any], Any]:
    name = field.encode_name
    kinds = [kind for kind in (get_args(field.type) or (field.type,)) if kind is not NoneType]
    flag = f"--{name.replace('_', '-').removesuffix('-id')}"
    if kinds == [bool]:
        return click.option(flag, name, is_flag=True, default=None)
    kind = {int: int, float: float}.get(kinds[0], str)
    required = field.required and name not in {"path", "execution_id"}
    del operation
    return click.option(flag, name, type=kind, required=required)


def _call(
    operation: Operation, hive: HiveClient, terminal: Terminal, attempt: str, given: dict[str, Any]
) -> None:
    key = given.pop("key", None)
    head = given.pop("expected_head", None)
    follow = given.pop("follow", False)
    fields = given_only(**given)
    if follow or operation.live:
        _follow_diff(hive, terminal, attempt, fields)
        return
    if operation.name == "log":
        _print_log(hive, terminal, attempt, fields)
        return
    path = f"attempts/{path_of(attempt)}/{operation.path}"
    file = ""
    if "{path}" in path:
        file = fields.pop("path", "")
        if not file:
            raise click.UsageError("Missing argument 'PATH'.")
        path = path.replace("{path}", "/".join(path_of(part) for part in file.split("/")))
    wait_s = operation.deadline_s + 10.0
    if operation.name == "read_file":
        _print_file(terminal, file, hive.pieces(path, timeout_s=wait_s, **fields))
    elif operation.method == "GET":
        reply = hive.get(path, timeout_s=wait_s, **fields)
        terminal.show(reply, _RENDERED.get(operation.name, _render_plainly))
    else:
        reply = hive.request(
            operation.method,
            path,
            body=fields,
            key=key,
            headers={"Expected-Head": head} if head else None,
            timeout_s=wait_s,
        )
        terminal.show(reply, _RENDERED.get(operation.name, _render_plainly))


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
            ("changed", f"{reply['dirty']} files, {reply['untracked']} untracked"),
            ("conflicts", ", ".join(reply["conflicts"])),
            ("rebase", "in progress" if reply["rebase_in_progress"] else ""),
            ("merge", "in progress" if reply["merge_in_progress"] else ""),
            ("read from", reply["source"]),
        ]
    )


def _render_diff(reply: dict[str, Any]) -> Iterable[Any]:
    from rich.text import Text

    if not reply["files"]:
        yield "Nothing changed."
    for file in reply["files"]:
        name = file["path"]
        if file.get("old_path") and file["old_path"] != name:
            name = f"{file['old_path']} → {name}"
        title = Text.assemble(
            (name, "bold"),
            f"  {file['kind']} ",
            (f"+{file['additions'] or 0}", "green"),
            " ",
            (f"-{file['deletions'] or 0}", "red"),
        )
        yield title
        if file.get("binary"):
            yield Text("  binary", style="bright_black")
        for line in (file.get("patch") or "").splitlines():
            yield Text(line, style=_patch_style(line))


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


_RENDERED: Final[dict[str, Callable[[Any], Iterable[Any]]]] = {
    "stop": attempts.render_one,
    "branch_status": _render_status,
    "diff": _render_diff,
    "list_files": _render_files,
}

for _row in OPERATIONS.values():
    if _row.name not in _ELSEWHERE:
        attempt.add_command(_sub_command(_row))
