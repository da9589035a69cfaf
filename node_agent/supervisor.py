"""The process that owns one execution: it detaches, claims its run folder, starts the program.

Run by `executions.start` as `python -I -S -X utf8 supervisor.py RUN_FOLDER`; says `started`,
`failed` (see the exit record) or `claimed` (by another) on its stdout, once. It outlives the node
agent. Must not import anything beyond the standard library and the few modules of the supervisor,
nor what is slow to import: the program is to run well under 100 ms after the spawn.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

if __name__ == "__main__":
    # Isolated mode leaves the package's own folder out; it goes last, so that nothing in it can
    # take the place of a module of the standard library.
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from node_agent.process_identity import identify
from node_agent.program import NotExecutedError, become_subreaper, start
from node_agent.run_folder import (
    PROCESS,
    SPEC,
    SUPERVISOR_LOG,
    VERSION,
    claim,
    read_record,
    write_record,
)
from node_agent.supervision import Supervision, record_exec_failure

#: What the caller may have left open beyond its standard streams; more than any caller does.
_INHERITED_FDS_MAX: Final = 4096


def detach(log: Path) -> int:
    """Leave the caller's session and family; return where to tell it how the start went.

    The caller sees its child end at once, and nothing that happens to the caller reaches us.
    """
    if os.fork():
        os._exit(0)
    os.setsid()
    # Its end closes when we exec nothing, so it is closed by hand once the caller has been told.
    ready = os.dup2(1, 3, inheritable=False)
    os.closerange(4, _INHERITED_FDS_MAX)
    devnull = os.open(os.devnull, os.O_RDWR)
    complaints = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, fd in ((0, devnull), (1, devnull), (2, complaints)):
        os.dup2(fd, target)
    os.close(devnull)
    os.close(complaints)
    return ready


def tell(ready: int, word: bytes) -> None:
    """Tell the caller how the start went; a caller that is gone learns it from the run folder."""
    try:
        os.write(ready, word + b"\n")
    except BrokenPipeError:
        pass
    finally:
        os.close(ready)


def supervise(folder: Path, umask: int, ready: int) -> None:
    """Claim the folder, start the program of its spec, and see it to its end."""
    spec: dict[str, Any] | None = read_record(folder / SPEC)
    if spec is None or spec["version"] != VERSION:
        tell(ready, b"unreadable")
        return
    own = identify(os.getpid())
    record = {
        "version": VERSION,
        "boot_id": own.boot_id,
        "supervisor_pid": own.pid,
        "supervisor_start_time": own.start_time,
        "marker": spec["env"].get("SKEP_EXECUTION_ID", ""),
    }
    if not claim(folder, record):
        tell(ready, b"claimed")
        return
    become_subreaper()
    supervision = Supervision(folder, spec)
    supervision.watch_signals()

    def announce(pid: int) -> None:
        process = identify(pid)
        write_record(
            folder / PROCESS,
            {"version": VERSION, "pid": pid, "start_time": process.start_time},
        )

    with_stdin = spec["stdin"] or spec["keep_stdin_open"]
    try:
        program, pipes = start(spec, umask, announce, with_stdin=with_stdin)
    except NotExecutedError as error:
        record_exec_failure(supervision, error.step, error.number)
        tell(ready, b"failed")
        return
    tell(ready, b"started")
    supervision.run(program, pipes)


def main() -> None:
    """Supervise the run folder named on the command line."""
    folder = Path(sys.argv[1]).resolve()
    umask = os.umask(0o077)
    # Relative names stay short enough for a socket, whatever the folder is called.
    os.chdir(folder)
    ready = detach(folder / SUPERVISOR_LOG)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    supervise(Path(), umask, ready)


if __name__ == "__main__":
    main()
