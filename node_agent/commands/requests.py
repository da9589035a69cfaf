"""`node-agent requests`: what agents ask of people, here or anywhere, and how they are answered."""

from typing import Any, Final
from urllib.parse import quote

import click
import msgspec

from node_agent.commands.invocation import (
    Invocation,
    ago,
    coloured,
    moment,
    new_key,
    node_command,
    page_options,
    plain,
)
from protocol.answer_requests import answer_in_words
from protocol.conversation import RequestStatus
from protocol.form_words import form_lines

_STATUSES: Final = click.Choice([status.value for status in RequestStatus])
_TITLE_CHARACTERS_MAX: Final = 60


@click.group(invoke_without_command=True)
@click.option("--open", "only_open", is_flag=True, help="Only those that wait for an answer.")
@click.option("--status", type=_STATUSES, help="Only those that stand so.")
@click.option("--attempt", help="Only those of one attempt.")
@page_options
@click.option("--all", "everywhere", is_flag=True, help="Also those of other nodes; see login.")
@click.pass_context
@node_command
def requests(
    invocation: Invocation,
    ctx: click.Context,
    *,
    only_open: bool,
    status: str | None,
    attempt: str | None,
    limit: int,
    after: str | None,
    everywhere: bool,
) -> None:
    """What agents of this node ask, newest first; with --all, those of all nodes of the hive."""
    if ctx.invoked_subcommand is not None:
        return
    query = {
        "status": RequestStatus.OPEN.value if only_open else status,
        "attempt": attempt,
        "limit": limit,
        "cursor": after,
        "all": "1" if everywhere else None,
    }
    given = {name: value for name, value in query.items() if value is not None}
    answer = invocation.client.get("requests", given)

    def show(page: dict[str, Any]) -> None:
        invocation.table(
            ["Request", "Status", "Asks", "Answer", "Attempt", "Asked"],
            [
                [
                    one["id"][-8:],
                    coloured(one["status"]),
                    plain(_cut(one["title"])),
                    plain(_answer_line(one)),
                    one["attempt_id"][-8:],
                    ago(one["opened_at_ms"]),
                ]
                for one in page["items"]
            ],
            empty="No agent asks anything.",
        )
        invocation.more(page["next"])

    invocation.reply(answer, show)


@requests.command()
@click.argument("request")
@node_command
def show(invocation: Invocation, request: str) -> None:
    """Show REQUEST (an id, or its first or last 8 digits or more), with its answer."""
    found = invocation.client.get(f"requests/{quote(request, safe='')}")
    invocation.reply(found, lambda one: _show(invocation, one))


@requests.command()
@click.argument("request")
@click.argument("words", metavar="[TEXT_OR_OPTION]", required=False)
@click.option("--option", metavar="ID", help="An option by its id, whatever others are called.")
@click.option("--form", metavar="JSON", help="The filled form, as one JSON object.")
@click.option("--idempotency-key", "key", help="With the same key again, the first answer.")
@node_command
def answer(
    invocation: Invocation,
    request: str,
    words: str | None,
    option: str | None,
    form: str | None,
    key: str | None,
) -> None:
    """Answer REQUEST: with an option, by its id or name, else in your own words."""
    if [words, option, form].count(None) != 2:
        raise click.UsageError("Give one answer: TEXT_OR_OPTION, --option or --form.")
    found = invocation.client.get(f"requests/{quote(request, safe='')}")
    body: dict[str, Any] = {"option": option}
    if form is not None:
        body = {"form": _form(form)}
    elif words is not None:
        body = dict(answer_in_words(words, found["options"], free_text=found["free_text"]))
    settled = invocation.client.send(
        "POST", f"requests/{found['id']}/answer", body, key=key or new_key()
    )
    invocation.reply(settled, lambda one: _show(invocation, one))


def _form(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise click.UsageError(f"--form is not JSON: {error}") from error


def _show(invocation: Invocation, request: dict[str, Any]) -> None:
    tool = request.get("tool") or {}
    used = " ".join(filter(None, (tool.get("kind"), tool.get("name"), tool.get("target"))))
    form = request.get("form")
    invocation.facts(
        [
            ("Request", plain(request["id"])),
            ("Status", coloured(request["status"])),
            ("Asks", plain(request["title"])),
            ("", plain(request["text"] if request["text"] != request["title"] else "")),
            ("Tool", plain(used)),
            ("Given", plain(tool.get("input") or "")),
            ("Options", plain("\n".join(f"{o['id']}: {o['name']}" for o in request["options"]))),
            ("Form", plain("\n".join(form_lines(form or {})))),
            ("Own words", "yes" if request["free_text"] else ""),
            ("Answer", plain(_answer_line(request))),
            ("Why", plain(request.get("reason") or "")),
            ("Attempt", plain(request["attempt_id"])),
            ("Asked", moment(request["opened_at_ms"])),
            ("Until", moment(request["deadline_ms"]) if request["deadline_ms"] else ""),
            ("Settled", moment(request["settled_at_ms"]) if request["settled_at_ms"] else ""),
        ]
    )


def _answer_line(request: dict[str, Any]) -> str:
    answer = request.get("answer")
    if answer is None:
        return ""
    said = answer.get("text")
    if answer.get("option") is not None:
        names = {one["id"]: one["name"] for one in request["options"]}
        said = names.get(answer["option"], answer["option"])
    elif said is None:
        said = msgspec.json.encode(answer.get("form")).decode()
    return f"{_cut(said)} ({answer['by']})"


def _cut(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= _TITLE_CHARACTERS_MAX else f"{line[: _TITLE_CHARACTERS_MAX - 1]}…"
