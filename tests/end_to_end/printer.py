"""The program under test's test program: prints numbered lines in bursts, with its own copies.

    printer.py FOLDER LINES_MAX EXIT_CODE [BURST]

Prints until FOLDER/stop is there, or LINES_MAX lines; to FOLDER it writes `stdout` and `stderr`,
byte for byte what it printed, and a line to `pids` at each start. Standard library only.
"""

import os
import sys
import time
from pathlib import Path

folder, lines_max, exit_code = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
burst_max = int(sys.argv[4]) if len(sys.argv) > 4 else 2000
copies = {
    stream: os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream, name in ((1, "stdout"), (2, "stderr"))
}
with (folder / "pids").open("a") as pids:
    pids.write(f"{os.getpid()}\n")


def put(stream: int, content: bytes) -> None:
    """Write to the copy, then print: at once, with no buffer between."""
    for target in (copies[stream], stream):
        left = memoryview(content)
        while left:
            left = left[os.write(target, left) :]


number, burst = 0, 1
while number < lines_max and not (folder / "stop").exists():
    size = min(burst, lines_max - number)
    lines = [b"line %08d %s" % (n, b"." * (n % 61)) for n in range(number + 1, number + size + 1)]
    # A burst may end inside a line: the next one goes on in it.
    text = b"\n".join(lines)
    split = len(text) - (number % 7)
    put(1, text[:split])
    put(2, b"burst of %d\n" % size)
    put(1, text[split:] + b"\n")
    number += size
    burst = burst * 2 if burst < burst_max else 1
    time.sleep(0.01)
sys.exit(exit_code)
