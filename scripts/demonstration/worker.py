"""What the demo's attempts run: programs that print, with a copy of their own of every line.

Standard library only. Each run appends its pid to `COPY.pids`: a program that was started twice
would show there.

    worker.py report COPY          counts the lines of the repository's files, writes, commits
    worker.py until COPY FILE      prints numbered lines until FILE is there
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

REPORT = "SKEP-DEMO.md"
_FILES_MAX = 40
_LINES_MAX = 20_000
_FILE_BYTES_MAX = 4 * 1024 * 1024


class Printer:
    """Prints a line at once, after it is in the copy."""

    def __init__(self, copy: Path) -> None:
        self._copy = copy.open("ab", buffering=0)
        with copy.with_suffix(".pids").open("a") as pids:
            pids.write(f"{os.getpid()}\n")

    def line(self, text: str) -> None:
        encoded = text.encode() + b"\n"
        self._copy.write(encoded)
        sys.stdout.buffer.write(encoded)
        sys.stdout.buffer.flush()


def shown(name: bytes) -> str:
    """A file's name as one printable line, whatever it is made of."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(character if character.isprintable() else "?" for character in text)


def lines_of(name: bytes) -> str:
    """How many lines a file has, in words."""
    path = Path(os.fsdecode(name))
    if path.is_symlink() or not path.is_file():
        return "no file of its own"
    with path.open("rb") as file:
        return f"{file.read(_FILE_BYTES_MAX).count(10)} lines"


def report(printer: Printer) -> int:
    """Count the lines of the first files, write down what was found, and commit it."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True).stdout
    names = [name for name in listed.split(b"\0") if name][:_FILES_MAX]
    printer.line(f"counting the lines of {len(names)} files")
    rows = ["| file | size |", "|---|---|"]
    for number, name in enumerate(names, 1):
        counted = lines_of(name)
        printer.line(f"{number:03}/{len(names):03} {shown(name)}: {counted}")
        rows.append(f"| {shown(name)} | {counted} |")
        time.sleep(2.4 / len(names))
    Path(REPORT).write_text("\n".join(["# What the demo counted", "", *rows, ""]))
    # Forced: a repository may ignore such files, and this one is asked for.
    subprocess.run(["git", "add", "--force", REPORT], check=True)
    said = "Count the lines of this repository"
    subprocess.run(["git", "-c", "commit.gpgsign=false", "commit", "-q", "-m", said], check=True)
    printer.line(f"wrote {REPORT} and committed it")
    return 0


def until(printer: Printer, gate: Path) -> int:
    """Print numbered lines until `gate` is there; exit with what it holds."""
    for number in range(1, _LINES_MAX):
        printer.line(f"line {number:05}")
        if gate.exists():
            printer.line("told to end")
            return int(gate.read_text() or "0")
        time.sleep(0.02)
    return 1


if __name__ == "__main__":
    # Told to stop, it stops: a traceback would be noise in its log.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    wanted, copy = sys.argv[1], Printer(Path(sys.argv[2]))
    sys.exit(report(copy) if wanted == "report" else until(copy, Path(sys.argv[3])))
