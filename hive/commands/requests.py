"""`hive requests`: what agents ask of people, and how they are answered."""

from collections.abc import Iterable
from typing import Any

import click
import msgspec

from hive.client import HiveClient, path_of
from hive.commands import operations
from hive.commands.calling import NounGroup, client_command, key_option, page_options, when_options
from hive.commands.terminal import Terminal, facts, more, short, state, table, when
from protocol.answer_requests import answer_in_words
from protocol.conversation import RequestStatus
from protocol.form_words import form_lines

_STATUSES = click.Choice([status.value for status in RequestStatus])
_TITLE_CHARACTERS_MAX = 60


@click.group(cls=NounGroup)
def requests() -> None:
    """Show what agents ask of people, and answer it."""


@requests.command(name="list")
@click.option("--open", "only_open", is_flag=True, help="Those that wait for an answer.")
@click.option("--status", type=_STATUSES)
@click.option("--attempt", metavar="A")
@click.option("--task", metavar="T")
@click.option("--project", metavar="P")
@click.option("--node", metavar="N")
@page_options
@client_command
def list_requests(
    hive: HiveClient, terminal: Terminal, *, only_open: bool, status: str | None, **given: Any
) -> None:
    """List what agents ask, newest first."""
    wanted = RequestStatus.OPEN.value if only_open else status
    terminal.show(hive.get("requests", status=wanted, **given), _render_list)


@requests.command()
@click.argument("request", metavar="R")
@client_command
def show(hive: HiveClient, terminal: Terminal, request: str) -> None:
    """Show one request, with its answer."""
    terminal.show(hive.get(f"requests/{path_of(request)}"), _render_one)


@requests.command()
@click.argument("request", metavar="R")
@click.argument("words", metavar="[TEXT_OR_OPTION]", required=False)
@click.option("--option", metavar="ID", help="An option by its id, whatever others are called.")
@click.option("--form", metavar="JSON", help="The filled form, as one JSON object.")
@when_options
@key_option
@client_command
def answer(
    hive: HiveClient,
    terminal: Terminal,
    request: str,
    words: str | None,
    option: str | None,
    form: str | None,
    waiting: dict[str, Any],
    key: str,
) -> None:
    """Answer a request: with an option, by its id or name, else in your own words."""
    if [words, option, form].count(None) != 2:
        raise click.UsageError("Give one answer: TEXT_OR_OPTION, --option or --form.")
    found = hive.get(f"requests/{path_of(request)}")
    body: dict[str, Any] = {"option": option}
    if form is not None:
        body = {"form": _form(form)}
    elif words is not None:
        body = dict(answer_in_words(words, found["options"], free_text=found["free_text"]))
    reply = hive.request(
        "POST",
        f"requests/{path_of(found['id'])}/answer",
        query=waiting,
        body=body,
        key=key,
    )
    terminal.show(reply, operations.render_one if operations.is_kept(reply) else _render_one)


def _form(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise click.UsageError(f"--form is not JSON: {error}") from error


# --- how they look --------------------------------------------------------------------------------


def _render_list(page: dict[str, Any]) -> Iterable[Any]:
    if not page["items"]:
        yield "No agent asks anything."
        return
    answered = any(request["answer"] for request in page["items"])
    yield table(
        "",
        [
            *("id", "status", "asks", "answer" if answered else "answer?"),
            *("attempt?", "node", "asked", "until?"),
        ],
        (
            (
                short(request["id"]),
                state(_status(request)),
                _cut(request["title"]),
                _answer_line(request),
                short(request["attempt_id"]),
                request["node_name"],
                when(request["opened_at_ms"]),
                when(request["deadline_ms"]) if request["status"] == "open" else "",
            )
            for request in page["items"]
        ),
    )
    yield from more(page)


def _render_one(request: dict[str, Any]) -> Iterable[Any]:
    tool = request.get("tool") or {}
    yield facts(
        [
            ("id", request["id"]),
            ("status", state(_status(request))),
            ("asks", request["title"]),
            ("", request["text"] if request["text"] != request["title"] else None),
            ("tool", " ".join(filter(None, (tool.get("kind"), tool.get("name"))))),
            ("for", tool.get("target")),
            ("given", tool.get("input")),
            ("options", "\n".join(f"{one['id']}: {one['name']}" for one in request["options"])),
            ("form", "\n".join(form_lines(request["form"] or {}))),
            ("own words", "yes" if request["free_text"] else None),
            ("answer", _answer_line(request)),
            ("why", request.get("reason")),
            *(_sent_line(one, request) for one in request["sent"]),
            ("task", request.get("task_title")),
            ("attempt", request["attempt_id"]),
            ("node", request["node_name"] + ("" if request["reachable"] else " (away)")),
            ("asked", when(request["opened_at_ms"])),
            ("until", when(request["deadline_ms"]) if request["deadline_ms"] else None),
            ("settled", when(request["settled_at_ms"]) if request["settled_at_ms"] else None),
        ]
    )


def _status(request: dict[str, Any]) -> str:
    leaves = any(not one["held"] for one in request["sent"])
    return "sent" if request["status"] == "open" and leaves else str(request["status"])


def _sent_line(sent: dict[str, Any], request: dict[str, Any]) -> tuple[str, str]:
    said = f"{_said(sent, request)} ({sent['by']})"
    if not sent["held"]:
        return "on its way", said
    return "held", f"{said}, until you say: hive operations confirm {sent['key']}"


def _answer_line(request: dict[str, Any]) -> str:
    answer = request.get("answer")
    return "" if answer is None else f"{_said(answer, request)} ({answer['by']})"


def _said(answer: dict[str, Any], request: dict[str, Any]) -> str:
    if answer.get("option") is not None:
        names = {one["id"]: one["name"] for one in request["options"]}
        return str(names.get(answer["option"], answer["option"]))
    if answer.get("text") is not None:
        return _cut(answer["text"])
    return msgspec.json.encode(answer.get("form")).decode()


def _cut(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= _TITLE_CHARACTERS_MAX else f"{line[: _TITLE_CHARACTERS_MAX - 1]}…"
