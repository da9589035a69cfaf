"""The rules of the code's shape, judged on syntax trees: who may import whom, what stands where.

A rule takes one module, or all of them, and yields its complaints, each beginning with a path.
Must not import the code it judges: a module too broken to import is still judged.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

PACKAGES = ("protocol", "node_agent", "hive")
# Where execution begins: a command, `python -m`, or a process of its own.
ENTRIES = ("cli", "__main__", "supervisor", "mcp_server")
COMMAND_LINE = {"cli", "__main__", "commands"}
COMPOSITION_ROOTS = {"node_agent.agent", "hive.server"}
# Tables that name every executor; all other executors know the adapter's contract alone.
EXECUTOR_TABLES = {"node_agent.executors", "node_agent.executors.presets"}
# What the supervisor is made of: these import the standard library and each other only.
SUPERVISOR_PARTS = {
    "node_agent.control_socket",
    "node_agent.process_identity",
    "node_agent.program",
    "node_agent.run_folder",
    "node_agent.spool_frames",
    "node_agent.spool_writer",
    "node_agent.supervision",
    "node_agent.supervisor",
}
DATABASE_DRIVERS = {"aiosqlite", "asyncpg", "sqlite3"}
NETWORK = {"aiohttp", "nats", "websockets"}
LINES_MAX = 600

# What protocol/ may import beside the standard library, msgspec and itself.
PROTOCOL_EXTRAS = {
    "protocol.log_chunks": {"zstandard"},
    "protocol.tokens": {"cryptography", "jwt"},
    "protocol.stream_tokens": {"cryptography"},
    "protocol.attempt_tokens": {"cryptography", "jwt"},
}
# Clocks, randomness, files, sockets, processes, loops and logs belong to the shells around it.
IMPURE = (
    "asyncio",
    "http.client",
    "http.server",
    "logging",
    "multiprocessing",
    "os",
    "pathlib.Path",
    "random",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "socketserver",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "time",
    "urllib.request",
)
IMPURE_CALLS = {"now", "open", "today", "utcnow", "uuid1", "uuid4"}

ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "expandvars"}
CLICK_ENVIRONMENT = {"envvar", "auto_envvar_prefix"}

# "data folder" is a word of ours: what `--data` names.
EXACT_PHRASES = re.compile(r"data_?folder", re.IGNORECASE)
VAGUE_WORDS = {"manager", "service", "util", "helper", "common", "data", "info"}
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")
# In small letters here, so that this file does not hold the marks it looks for.
UNFINISHED_MARKS = ("todo", "fixme")
UNFINISHED = re.compile(rf"\b({'|'.join(UNFINISHED_MARKS).upper()})\b")

SQL = re.compile(
    r"""\s*(?:
        SELECT\s | select\s.*\sfrom\s | select\s+(?:\d|\w+\()
      | (?i: INSERT\s+(?:OR\s+\w+\s+)?INTO\s | REPLACE\s+INTO\s | DELETE\s+FROM\s
      | UPDATE\s+\S+\s+SET\s | WITH\s+(?:RECURSIVE\s+)?\w+(?:\s*\([^)]*\))?\s+AS\s*\(
      | (?:CREATE|DROP|ALTER)\s+(?:TEMP\w*\s+|UNIQUE\s+|VIRTUAL\s+)?(?:TABLE|INDEX|VIEW|TRIGGER)\s
      | PRAGMA\s+\w+\s*(?:[=(;]|$) | BEGIN\s+(?:IMMEDIATE|EXCLUSIVE|DEFERRED)
      | ATTACH\s+DATABASE\s | VACUUM\s+INTO\s )
    )""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Module:
    """One Python file: its path from the checkout's folder, and its text."""

    path: PurePosixPath
    text: str

    @cached_property
    def name(self) -> str:
        """The dotted name it is imported by."""
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def package(self) -> str:
        """The first part of its path: one of ours, or tests, or scripts."""
        return self.path.parts[0]

    @cached_property
    def layer(self) -> str:
        """Its place in node_agent/ or hive/: cli, root, api, store, executors, or other."""
        first = self.path.parts[1].removesuffix(".py") if len(self.path.parts) > 1 else ""
        if self.name in COMPOSITION_ROOTS:
            return "root"
        if first in COMMAND_LINE or first.startswith("cli_"):
            return "cli"
        return first if first in {"api", "store", "executors"} else "other"

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text, str(self.path))

    @cached_property
    def imports(self) -> frozenset[str]:
        """Every dotted name it imports, anywhere; `from a import b` is both `a` and `a.b`."""
        return frozenset(name for node in ast.walk(self.tree) for name in self.imported_by(node))

    @cached_property
    def tops(self) -> frozenset[str]:
        """The top-level packages it imports."""
        return frozenset(name.split(".")[0] for name in self.imports)

    def imported_by(self, node: ast.AST) -> Iterator[str]:
        """The dotted names that one statement imports."""
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [node.module] if node.module else []
            if node.level:
                home = self.path.parent.parts
                base = [*home[: len(home) - node.level + 1], *base]
            yield ".".join(base)
            yield from (".".join((*base, alias.name)) for alias in node.names)

    def strings(self) -> Iterator[str]:
        """Every string of the code that is no docstring; an f-string's holes as one word each."""
        skip: set[int] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                skip.add(id(node.value))
            elif isinstance(node, ast.JoinedStr):
                parts = [part for part in node.values if isinstance(part, ast.Constant)]
                skip.update(id(part) for part in parts)
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "hole"
                    for part in node.values
                )
            elif id(node) not in skip and isinstance(node, ast.Constant):
                yield from [node.value] if isinstance(node.value, str) else []


def read_modules(root: Path) -> dict[str, Module]:
    """Every Python file of the packages, the tests and the scripts, by name."""
    paths = [path for folder in (*PACKAGES, "tests") for path in (root / folder).rglob("*.py")]
    for path in (root / "scripts").rglob("*"):
        if not path.is_file() or "__pycache__" in path.parts:
            continue
        with path.open("rb") as script:
            if path.suffix == ".py" or re.match(rb"#!.*python", script.readline(200)):
                paths.append(path)
    modules = (
        Module(PurePosixPath(path.relative_to(root)), path.read_text(encoding="utf-8"))
        for path in sorted(paths)
    )
    return {module.name: module for module in modules}


# --- rules on one module -------------------------------------------------------------------------


def protocol_is_pure(module: Module) -> Iterator[str]:
    """protocol/ imports the standard library and msgspec; nothing that touches the world."""
    if module.package != "protocol":
        return
    allowed = {"protocol", "msgspec", *PROTOCOL_EXTRAS.get(module.name, ())}
    for top in sorted(module.tops - allowed - sys.stdlib_module_names):
        yield f"{module.path}: protocol/ imports {top}"
    for name in sorted(module.imports):
        if any(name == impure or name.startswith(f"{impure}.") for impure in IMPURE):
            yield f"{module.path}: protocol/ imports {name}; take what it gives as an argument"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
            if name in IMPURE_CALLS:
                yield f"{module.path}: protocol/ calls {name}(); take what it gives as an argument"


def two_ends_share_the_wire_only(module: Module) -> Iterator[str]:
    """hive/ and node_agent/ never import each other."""
    other = {"hive": "node_agent", "node_agent": "hive"}.get(module.package)
    if other in module.tops:
        yield f"{module.path}: imports {other}; what both need belongs in protocol/"


def supervisor_needs_nothing(module: Module) -> Iterator[str]:
    """The supervisor outlives upgrades and starts at once: the standard library and its parts."""
    if module.name not in SUPERVISOR_PARTS:
        return
    for name in sorted(module.imports - {"node_agent"}):
        part = any(name == own or name.startswith(f"{own}.") for own in SUPERVISOR_PARTS)
        if not part and name.split(".")[0] not in sys.stdlib_module_names:
            yield f"{module.path}: the supervisor imports {name}"


def layers_import_downwards(module: Module) -> Iterator[str]:
    """Only cli imports the composition root; api/, store/ and executors/ keep to their place."""
    if module.package not in {"hive", "node_agent"}:
        return
    own = {name for name in module.imports if name.split(".")[0] == module.package}
    if module.layer != "cli":
        above = {f"{module.package}.{name}" for name in COMMAND_LINE}
        above |= COMPOSITION_ROOTS if module.layer != "root" else set()
        for name in sorted(own):
            if any(name == upper or name.startswith(f"{upper}.") for upper in above):
                yield f"{module.path}: imports {name}, which stands above it"
    if module.layer == "api":
        for driver in sorted(module.tops & DATABASE_DRIVERS):
            yield f"{module.path}: api/ imports {driver}; ask a function of store/"
    if module.layer == "store":
        for network in sorted(module.tops & NETWORK):
            yield f"{module.path}: store/ imports {network}"
    if module.layer == "executors" and module.name not in EXECUTOR_TABLES:
        adapter = "node_agent.executors.adapter"
        for name in sorted(own - {"node_agent", "node_agent.executors", adapter}):
            if not name.startswith(f"{adapter}."):
                yield f"{module.path}: an executor imports {name}; the adapter's contract is all"


def sql_lives_in_stores(module: Module) -> Iterator[str]:
    """SQL text stands under store/ only."""
    if module.package in PACKAGES and module.layer != "store":
        for text in module.strings():
            if SQL.match(text):
                yield f"{module.path}: SQL outside store/: {' '.join(text.split())[:60]}"


def environment_is_read_once(module: Module) -> Iterator[str]:
    """The environment is read in config.py only; it hands out copies where one is needed."""
    if module.package not in PACKAGES or module.name in {"hive.config", "node_agent.config"}:
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT:
            read = node.attr
        elif isinstance(node, ast.ImportFrom) and node.module in {"os", "posix", "os.path"}:
            read = next((alias.name for alias in node.names if alias.name in ENVIRONMENT), None)
        elif isinstance(node, ast.keyword) and node.arg in CLICK_ENVIRONMENT:
            read = node.arg
        else:
            continue
        if read:
            yield f"{module.path}:{getattr(node, 'lineno', 0)}: reads the environment by {read}"


def commands_start_quickly(module: Module) -> Iterator[str]:
    """No command imports the network libraries at its top: most calls never need them."""
    if module.package in PACKAGES and module.layer == "cli":
        for node in module.tree.body:
            for name in module.imported_by(node):
                if name in NETWORK:
                    yield f"{module.path}: imports {name} at its top; import it where it is used"


def files_stay_small(module: Module) -> Iterator[str]:
    """A file that outgrows one room usually holds two nouns."""
    lines = module.text.count("\n")
    if module.package != "tests" and lines > LINES_MAX:
        yield f"{module.path}: {lines} lines, over {LINES_MAX}; name its two nouns and part them"


def names_say_what_it_is(module: Module) -> Iterator[str]:
    """No module or class is named by a word that fits everything."""
    names = [module.path.with_suffix("").name]
    names += [node.name for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)]
    for name in names:
        for word in WORD.findall(EXACT_PHRASES.sub("", name)):
            if word.lower() in VAGUE_WORDS or word.lower().removesuffix("s") in VAGUE_WORDS:
                yield f"{module.path}: the name {name} says {word.lower()}, which fits everything"


def nothing_is_left_for_later(module: Module) -> Iterator[str]:
    """No marks of unfinished work in what is committed."""
    for number, line in enumerate(module.text.splitlines(), 1):
        if UNFINISHED.search(line):
            yield f"{module.path}:{number}: finish it, or say in the docs what is not done"


# --- rules on all modules ------------------------------------------------------------------------


def stores_rest_on_pure_modules(modules: Mapping[str, Module]) -> Iterator[str]:
    """What store/ imports from beside it is pure: no shell, no socket, no need of a store."""
    for module in modules.values():
        if module.package not in {"hive", "node_agent"} or module.layer != "store":
            continue
        for name in sorted(_references(module, modules)):
            used = modules[name]
            if used.package != module.package or used.layer == "store" or name == used.package:
                continue
            below = [modules[found] for found in _reachable([name], modules)]
            if any(found.package == module.package and found.layer != "other" for found in below):
                yield f"{module.path}: store/ imports {name}, which stands above it"
            elif shells := {top for found in below for top in found.tops & NETWORK}:
                yield f"{module.path}: store/ imports {name}, a shell ({', '.join(sorted(shells))})"


def every_module_is_used(modules: Mapping[str, Module]) -> Iterator[str]:
    """Each module is reached from a command or another start of a process."""
    entered = {package for package in PACKAGES if f"{package}.cli" in modules}
    if entered == {"hive", "node_agent"}:
        entered.add("protocol")
    starts = [f"{package}.{entry}" for package in PACKAGES for entry in ENTRIES]
    used = _reachable([start for start in starts if start in modules], modules)
    for name, module in modules.items():
        if module.package in entered and name not in used:
            yield f"{module.path}: nothing that runs imports it"


def every_test_has_its_source(modules: Mapping[str, Module]) -> Iterator[str]:
    """tests/hive/api/test_streams.py, or test_streams_<aspect>.py, tests hive/api/streams.py."""
    for module in modules.values():
        parts = module.path.parts
        stem = module.path.stem
        if parts[0] != "tests" or parts[1] not in PACKAGES or not stem.startswith("test_"):
            continue
        words = stem.removeprefix("test_").split("_")
        folder = ".".join(parts[1:-1])
        tested = {f"{folder}.{'_'.join(words[:size])}" for size in range(1, len(words) + 1)}
        # `test_main.py` tests `__main__.py`, whose underscores no one would write.
        if words[0] == "main":
            tested.add(f"{folder}.__main__")
        if not tested & modules.keys():
            yield f"{module.path}: no module {folder.replace('.', '/')}/{'_'.join(words)}.py"


def _references(module: Module, modules: Mapping[str, Module]) -> set[str]:
    """Our modules that one names: by import, or as a string, as commands loaded lazily are."""
    found: set[str] = set()
    texts = {text.partition(":")[0] for text in module.strings() if len(text) < 200}
    for name in module.imports | texts:
        parts = name.split(".")
        # Importing a.b.c runs a and a.b first.
        found.update(".".join(parts[:size]) for size in range(1, len(parts) + 1))
    return (found & modules.keys()) - {module.name}


def _reachable(starts: Iterable[str], modules: Mapping[str, Module]) -> set[str]:
    """All modules that the given ones lead to, themselves included."""
    reached: set[str] = set()
    waiting = list(starts)
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting.extend(_references(modules[name], modules))
            parent = name.rpartition(".")[0]
            if parent in modules:
                waiting.append(parent)
    return reached


MODULE_RULES = (
    protocol_is_pure,
    two_ends_share_the_wire_only,
    supervisor_needs_nothing,
    layers_import_downwards,
    sql_lives_in_stores,
    environment_is_read_once,
    commands_start_quickly,
    files_stay_small,
    names_say_what_it_is,
    nothing_is_left_for_later,
)
TREE_RULES = (stores_rest_on_pure_modules, every_module_is_used, every_test_has_its_source)
