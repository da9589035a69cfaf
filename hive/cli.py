"""The `hive` command: finds the sub-command, and turns every error into one shape and exit code.

Owns the table of sub-commands, which are loaded when they are called. Must not do any work itself.
"""

import os
import sys
from importlib import import_module
from typing import Final, NoReturn

import click

#: What Python says of an argument that is not UTF-8, once it has to be sent.
_NOT_UTF_8: Final = "surrogates not allowed"
#: Name -> where it is defined, and what `hive --help` says of it.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "init": ("hive.commands.init:init", "Make the data folder of a new hive."),
    "serve": ("hive.commands.serve:serve", "Run the hive."),
    "status": ("hive.commands.status:status", "Show how the hive is."),
    "login": ("hive.commands.login:login", "Keep a hive's address and your token."),
    "nodes": ("hive.commands.nodes:nodes", "The machines: list, enrol, drain, revoke."),
    "projects": ("hive.commands.projects:projects", "The repositories worked on."),
    "tasks": ("hive.commands.tasks:tasks", "The work: create, list, run."),
    "templates": ("hive.commands.templates:templates", "Texts that tasks are made from."),
    "attempts": ("hive.commands.attempts:attempts", "The runs: list, show, follow their logs."),
    "attempt": ("hive.commands.attempt:attempt", "Act on one attempt: stop, diff, files, ..."),
    "sessions": ("hive.commands.sessions:sessions", "The conversations: list, read, follow."),
    "requests": ("hive.commands.requests:requests", "What agents ask of people."),
    "operations": ("hive.commands.operations:operations", "What became of a command."),
    "backfill": ("hive.commands.backfill:backfill", "Fetch what an attempt lacks here."),
    "tokens": ("hive.commands.tokens:tokens", "Who may call the hive."),
    "events": ("hive.commands.events:events", "What happened, and who did it."),
    "backup": ("hive.commands.backup:backup", "Save the hive's data to a file."),
    "restore": ("hive.commands.backup:restore", "Make a data folder from a backup."),
    "doctor": ("hive.commands.doctor:doctor", "Look for what is wrong."),
}


class LazyCommands(click.Group):
    """A group that imports a sub-command only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, row[1]) for name, row in COMMANDS.items()])


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="skep", prog_name="hive")
def root() -> None:
    """Run coding agents on every machine a team owns; see and steer each run from one hive.

    Client commands read SKEP_HIVE_URL and SKEP_TOKEN, or what `hive login` kept.
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line; exit 0 on success, 1 on failure, 2 on wrong use."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows few characters gets their numbers, not a traceback.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(_run(arguments))


def _open_closed_streams() -> None:
    """Open what the caller closed (`>&-`): else a file of ours gets its number, and is written to.

    In the order of their numbers: a file is opened as the lowest that is free.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
            setattr(sys, name, os.fdopen(opened, mode, encoding="utf-8"))


def _run(arguments: list[str]) -> int:
    from hive.commands.terminal import print_error
    from hive.config import wants_colours
    from protocol.errors import ErrorBody, SkepError

    as_json = "--json" in arguments
    try:
        outcome = root.main(
            arguments,
            prog_name="hive",
            standalone_mode=False,
            # Unset: as the terminal is.
            color=None if wants_colours() else False,
        )
    except SkepError as error:
        print_error(error.body(), as_json=as_json)
        return 1
    except click.UsageError as error:
        if as_json:
            message = error.format_message()
            print_error(ErrorBody(code="usage", message=message), as_json=True)
        else:
            error.show()
        return 2
    except click.ClickException as error:
        print_error(ErrorBody(code="invalid", message=error.format_message()), as_json=as_json)
        return 1
    except UnicodeEncodeError as error:
        if error.reason != _NOT_UTF_8:
            raise
        print_error(ErrorBody(code="invalid", message="an argument is not UTF-8"), as_json=as_json)
        return 1
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter must not complain at its exit.
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        message = f"{error.strerror or error}{where}"
        hint = "Check that the file or folder is yours, and that its disk has room."
        print_error(ErrorBody(code="internal", message=message, hint=hint), as_json=as_json)
        return 1
    return outcome if isinstance(outcome, int) else 0
