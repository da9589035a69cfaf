"""The workload: seeded lines as agents print them (text, JSON, ANSI), 115 bytes on average."""

import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path

_WORDS = (
    "the",
    "build",
    "passes",
    "after",
    "the",
    "change",
    "to",
    "parser",
    "and",
    "lexer",
    "so",
    "running",
    "tests",
    "again",
    "with",
    "coverage",
    "error",
    "warning",
    "retry",
    "connection",
    "refused",
    "timeout",
    "module",
    "import",
    "function",
    "returns",
    "expected",
    "value",
    "assert",
    "equal",
    "failed",
    "at",
    "line",
    "file",
    "path",
    "src",
    "main",
    "index",
    "config",
    "server",
    "client",
    "request",
)
_PATHS = ("src/app/main.py", "lib/parser/lexer.ts", "tests/test_api.py", "cmd/serve/root.go")


@dataclass(frozen=True)
class Workload:
    """One producer's output, as a file."""

    path: Path
    lines: int
    size: int
    sha256: str


def write_workload(path: Path, *, seed: int, lines: int) -> Workload:
    """Write `lines` lines made from `seed`."""
    rng = random.Random(seed)
    digest = hashlib.sha256()
    size = 0
    with path.open("wb") as file:
        for start in range(0, lines, 1000):
            block = "".join(
                _line(rng, number) for number in range(start, min(lines, start + 1000))
            ).encode()
            digest.update(block)
            size += len(block)
            file.write(block)
    return Workload(path, lines, size, digest.hexdigest())


def _line(rng: random.Random, number: int) -> str:
    kind = rng.random()
    words = " ".join(rng.choices(_WORDS, k=rng.randint(11, 20)))
    if kind < 0.5:
        return f"{number:>7} {words}\n"
    if kind < 0.75:
        event = {"n": number, "level": rng.choice(("info", "debug", "warn")), "msg": words[:95]}
        return json.dumps(event) + "\n"
    colour = rng.randint(31, 36)
    return f"\x1b[{colour}m{rng.choice(_PATHS)}:{rng.randint(1, 900)}\x1b[0m {words[:105]}\n"
