"""All generated pages: where each stands, what it holds, and whether what stands there is that."""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from scripts.documentation import (
    commands,
    errors,
    files,
    http_api,
    limits,
    messages,
    operations,
    settings,
    states,
)

#: Lines of a difference that are shown; the rest is the same news again.
_DIFFERENCE_LINES_MAX: Final = 20


def pages(root: Path) -> dict[str, str]:
    """Return every generated page of the checkout at `root`, by its path."""
    return {
        "docs/reference/hive-commands.md": commands.hive_page(),
        "docs/reference/node-agent-commands.md": commands.node_page(),
        "docs/reference/hive-settings.md": settings.hive_page(),
        "docs/reference/node-settings.md": settings.node_page(),
        "docs/reference/errors.md": errors.errors_page(root),
        "docs/reference/http-api.md": http_api.api_page(),
        "docs/reference/operations.md": operations.operations_page(),
        "docs/reference/messages.md": messages.messages_page(),
        "docs/reference/limits.md": limits.limits_page(root),
        "docs/reference/states.md": states.states_page(),
        "docs/architecture/files.md": files.files_page(root),
        ".env.example": settings.environment_example(),
    }


def written(root: Path) -> Iterator[str]:
    """Write the pages that differ; yield their paths."""
    for name, text in pages(root).items():
        file = root / name
        if not file.exists() or file.read_text("utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
            yield name


def differences(root: Path, expected: Mapping[str, str]) -> list[str]:
    """Say of each page that is not as expected what differs; and name pages too many."""
    said: list[str] = []
    for name, text in expected.items():
        file = root / name
        there = file.read_text("utf-8") if file.exists() else ""
        if there != text:
            lines = difflib.unified_diff(there.splitlines(), text.splitlines(), lineterm="", n=0)
            shown = [f"  {line}" for line in list(lines)[2 : 2 + _DIFFERENCE_LINES_MAX]]
            said += [f"{name} is not what the code says; run scripts/docs", *shown]
    for file in sorted((root / "docs/reference").glob("*.md")):
        if (name := file.relative_to(root).as_posix()) not in expected and file.name != "index.md":
            said.append(f"{name} is made by nothing; remove it")
    return said
