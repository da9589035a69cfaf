"""The page of limits: every constant of `protocol.limits` with the reason that stands above it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from protocol import limits
from scripts.documentation.markdown import code, page, paragraphs, table


def limits_page(root: Path) -> str:
    """Return the page of limits."""
    text = (root / "protocol/limits.py").read_text("utf-8")
    return page("Limits of the wire", paragraphs(limits.__doc__), *_blocks(text))


def _blocks(text: str) -> Iterator[str]:
    rows: list[tuple[str, str, str]] = []
    reason: list[str] = []
    for line in text.splitlines():
        if line.startswith("# --- "):
            yield table(["limit", "value", "why"], rows)
            yield f"## {line.strip('# -').capitalize()}"
            rows, reason = [], []
        elif line.startswith("#:"):
            reason.append(line[2:].strip())
        elif ": Final" in line and line[0].isupper():
            name = line.split(":")[0]
            if reason:
                rows.append((code(name), _value(name), " ".join(reason)))
            elif rows:
                # A second constant under the same reason.
                rows.append((code(name), _value(name), "as above"))
            reason = []
    yield table(["limit", "value", "why"], rows)


def _value(name: str) -> str:
    value: Any = getattr(limits, name)
    if "BYTES" in name and value % limits.MIB == 0 and value:
        return f"{value // limits.MIB} MiB"
    if "BYTES" in name and value % limits.KIB == 0 and value:
        return f"{value // limits.KIB} KiB"
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else f"{value:g}"
