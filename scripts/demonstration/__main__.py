"""The command line of the demo: `scripts/demo [--once] [--nodes 2] [--port P] [--agent A] [REPO]`.

Owns beginning and end: whatever happens, what was started is ended.
"""

import argparse
import shlex
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Final

from node_agent.acp.presets import PRESETS
from protocol.errors import SkepError
from scripts.demonstration import agents, repository
from scripts.demonstration.checks import check_story
from scripts.demonstration.conversation_checks import check_conversation
from scripts.demonstration.processes import BIN, DemoFolder, end, environment, free_port
from scripts.demonstration.screen import Screen, StepFailed
from scripts.demonstration.story import Story

CHECKOUT: Final = Path(__file__).resolve().parents[2]
PORT_DEFAULT: Final = 8700
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Told(Exception):  # noqa: N818  told to stop: no error, the way the demo ends
    """Somebody asked the demo to end."""


def main() -> int:
    """Tell the story; return the exit status."""
    asked = _arguments()
    screen, folder = Screen(), DemoFolder(CHECKOUT / ".skep-demo")
    for number in _SIGNALS:
        signal.signal(number, _told)
    story: Story | None = None
    status = 1
    try:
        folder.take()
        story, traces_before = _prepare(screen, folder, asked)
        story.tell()
        screen.attempts(story.table())
        if asked.once:
            status = 0 if _judge(screen, story, traces_before) else 1
        else:
            _go_on(screen, story)
            status = 0
    except StepFailed as failed:
        screen.failed(failed, str(folder.logs))
    except SkepError as error:
        screen.failed(StepFailed(error.message, error.hint), str(folder.logs))
    except Told:
        # Asked to end before the story was told: that is no success for whoever checks it.
        status = 130
        screen.say(" [yellow]■[/] Asked to stop")
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if not _end(screen, folder, story):
            status = 1
    return status


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="tell it, check it, stop; exit 0 or 1")
    parser.add_argument("--nodes", type=int, default=2, metavar="N", help="1 to 8; default: 2")
    parser.add_argument("--port", type=int, help="the hive's; default: 8700, or a free one")
    parser.add_argument(
        "--agent",
        choices=[*PRESETS],
        help="talk to this one, which costs what it costs; default: a scripted one",
    )
    parser.add_argument("--called-from", type=Path, default=Path(), help=argparse.SUPPRESS)
    parser.add_argument("repo", type=Path, nargs="?", metavar="REPO", help="default: this checkout")
    asked = parser.parse_args()
    if not 1 <= asked.nodes <= 8:
        parser.error("--nodes is 1 to 8")
    if asked.port is not None and not 1 <= asked.port <= 65535:
        parser.error("--port is 1 to 65535")
    return asked


def _prepare(screen: Screen, folder: DemoFolder, asked: argparse.Namespace) -> tuple[Story, str]:
    source = repository.top_of(folder, (asked.called_from / (asked.repo or CHECKOUT)).resolve())
    where = f"a hive and {asked.nodes} node agents on this machine, in {folder.path.name}/"
    screen.title("Skep", where if asked.nodes > 1 else where.replace("agents", "agent"))
    agent = agents.installed(asked.agent, environment(folder)) if asked.agent else None
    if folder.left_behind():
        with screen.step("Clean up what an earlier demo left"):
            folder.clean()
    else:
        folder.clean()
    port = asked.port or free_port(PORT_DEFAULT)
    story = Story(
        screen, folder, source, agent or agents.scripted(folder), nodes=asked.nodes, port=port
    )
    return story, repository.traces_in(folder, source)


def _judge(screen: Screen, story: Story, traces_before: str) -> bool:
    screen.say("\n[bold]Checked with plain git and the programs' own copies[/]\n")
    right = True
    talked = check_conversation(story.folder, story.conversation)
    for check in (*check_story(story, traces_before), *talked):
        screen.check(check.text, holds=check.holds, why=check.why)
        right = right and check.holds
    return right


def _go_on(screen: Screen, story: Story) -> None:
    """Say what to try, and stay until told to end. Raises Told, StepFailed where the hive ends."""
    attempt, task, hive = story.runs[0].id[-8:], story.runs[0].task_id[-8:], story.hive
    talk = story.conversation
    lines = []
    if hive.has_page():
        lines += [hive.sign_in_url, ""]
    lines += [
        f"export PATH={shlex.quote(str(BIN))}:$PATH",
        f"export SKEP_HIVE_URL={hive.url} SKEP_TOKEN={hive.token}",
        "",
        "hive nodes",
        "hive attempts",
        f"hive attempts logs {attempt}",
        f"hive attempt diff {attempt}",
        f"hive sessions messages {talk.session['id'][-8:]}",
        f"hive attempt follow-up {talk.id[-8:]} --prompt 'Write more notes'",
        "hive requests --open",
        f"hive tasks run {task} --node {story.nodes[-1].name} --command 'git log --stat -3'",
        f"node-agent status --data {shlex.quote(str(story.nodes[0].data))}",
    ]
    screen.next_steps("In another terminal:", lines)
    screen.say(f"The API is described at {hive.url}/api/docs. Ctrl-C ends it all.")
    programs = [hive.program, *(node.program for node in story.nodes)]
    while True:
        for program in programs:
            if not program.running:
                raise StepFailed(f"{program.name} ended by itself")
        try:
            time.sleep(1)
        except Told:
            screen.say("")
            return


def _end(screen: Screen, folder: DemoFolder, story: Story | None) -> bool:
    """End everything that was started; return whether nothing is left."""
    if story is None:
        folder.leave()
        return True
    try:
        with screen.step("Stop everything", "Everything is stopped; nothing is left running"):
            story.close()
            end(folder.living())
            _nothing_left(folder)
    except StepFailed as failed:
        screen.failed(failed, str(folder.logs))
        return False
    finally:
        folder.leave()
    return True


def _nothing_left(folder: DemoFolder) -> None:
    if left := folder.living():
        raise StepFailed(f"still running: {', '.join(str(one.pid) for one in left)}")


def _told(number: int, frame: FrameType | None) -> None:
    del number, frame
    # Only the first is heard here; `main` ignores the rest while it ends what was started.
    if threading.current_thread() is threading.main_thread():
        for one in _SIGNALS:
            signal.signal(one, signal.SIG_IGN)
        raise Told


if __name__ == "__main__":
    sys.exit(main())
