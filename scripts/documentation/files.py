"""The map of files: every folder and file of the code, with the first line of its docstring."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from scripts.documentation.markdown import code, page, table

#: Folders that have no docstring of their own.
FOLDERS: Final[dict[str, str]] = {
    "scripts": "What is run from a checkout: the demo, the tests, the checks, the benchmarks.",
    "hive/api/docs": "The page that shows the description of the API.",
    "hive/store/migrations": "The hive's tables, by numbered files of SQL.",
    "node_agent/store/migrations/logs": "The tables of the node's chunk store, by numbered files.",
    "node_agent/store/migrations/state": "The tables of the node's state and journal, likewise.",
}
_ROOTS: Final = ("protocol", "node_agent", "hive", "scripts")


def files_page(root: Path) -> str:
    """Return the map of files. Raises KeyError for a folder that nothing describes."""
    folders: dict[str, list[PurePosixPath]] = {}
    for path in _kept(root):
        folders.setdefault(path.parent.as_posix(), []).append(path)
    return page(
        "The map of files",
        "Every folder of the code, and what each file owns: the first line of its docstring, which"
        " goes on with what it must not do. The tests mirror the sources, path for path.",
        *(block for folder, paths in folders.items() for block in _folder(root, folder, paths)),
    )


def _kept(root: Path) -> list[PurePosixPath]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *_ROOTS],
        cwd=root,
        capture_output=True,
        check=True,
    )
    names = sorted({name for name in listed.stdout.decode().split("\0") if name})
    paths = [PurePosixPath(name) for name in names if (root / name).is_file()]
    return sorted(paths, key=lambda path: (_ROOTS.index(path.parts[0]), path.parent, path.name))


def _folder(root: Path, folder: str, paths: list[PurePosixPath]) -> Iterator[str]:
    package = root / folder / "__init__.py"
    said = _first_line(package) if package.exists() else FOLDERS[folder]
    yield f"## {code(folder + '/')}"
    yield said
    rows = [
        (code(path.name), _first_line(root / path))
        for path in paths
        if path.name not in {"__init__.py", "py.typed"}
    ]
    yield table(["file", "what it is"], rows)


def _first_line(file: Path) -> str:
    text = file.read_text("utf-8")
    if file.suffix == ".py":
        docstring = ast.get_docstring(ast.parse(text)) or ""
        return docstring.split("\n\n")[0]
    if file.suffix == ".sql" or text.startswith("#!"):
        lines = [line.lstrip("-# ") for line in text.splitlines() if line.startswith(("--", "# "))]
        return lines[0] if lines else ""
    return ""
