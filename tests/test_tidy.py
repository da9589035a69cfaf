"""The code keeps the rules of `tidy_rules`, and each rule sees the faults it is there for."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import pytest

from tests.tidy_rules import (
    LINES_MAX,
    MODULE_RULES,
    TREE_RULES,
    UNFINISHED_MARKS,
    Module,
    commands_start_quickly,
    environment_is_read_once,
    every_module_is_used,
    every_test_has_its_source,
    files_stay_small,
    layers_import_downwards,
    names_say_what_it_is,
    nothing_is_left_for_later,
    protocol_is_pure,
    read_modules,
    sql_lives_in_stores,
    stores_rest_on_pure_modules,
    supervisor_needs_nothing,
    two_ends_share_the_wire_only,
)

ModuleRule = Callable[[Module], Iterator[str]]
TreeRule = Callable[[Mapping[str, Module]], Iterator[str]]


def planted(sources: Mapping[str, str]) -> dict[str, Module]:
    """A small tree of modules, from paths and texts."""
    modules = [Module(PurePosixPath(path), text) for path, text in sources.items()]
    return {module.name: module for module in modules}


def none(complaints: Iterable[str]) -> None:
    """Fail with every complaint on a line of its own."""
    if found := list(complaints):
        pytest.fail("\n".join(found), pytrace=False)


@pytest.fixture(scope="module")
def modules(checkout: Path) -> dict[str, Module]:
    """Every module of this checkout."""
    return read_modules(checkout)


@pytest.mark.parametrize("rule", MODULE_RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps(rule: ModuleRule, modules: dict[str, Module]):
    """No module of this checkout breaks the rule."""
    none(complaint for module in modules.values() for complaint in rule(module))


@pytest.mark.parametrize("rule", TREE_RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps(rule: TreeRule, modules: dict[str, Module]):
    """The modules together do not break the rule."""
    none(rule(modules))


def test_the_tree_is_read(modules: dict[str, Module]):
    """The rules see the packages, the tests and the scripts: none of them is judged unread."""
    assert {"protocol", "node_agent", "hive", "tests.test_tidy"} <= modules.keys()


def test_migrations_stand_in_the_stores(checkout: Path):
    """SQL files are migrations of a store."""
    found = [path.relative_to(checkout) for path in checkout.glob("*/**/*.sql")]
    ours = [path for path in found if path.parts[0] in {"protocol", "node_agent", "hive"}]
    assert [path for path in ours if path.parts[1:3] != ("store", "migrations")] == []


FAULTS = [
    (protocol_is_pure, "protocol/codec.py", "import aiohttp"),
    (protocol_is_pure, "protocol/codec.py", "def f():\n    from zstandard import x"),
    (protocol_is_pure, "protocol/codec.py", "import jwt"),
    (protocol_is_pure, "protocol/tokens.py", "import zstandard"),
    (protocol_is_pure, "protocol/codec.py", "import hive.store"),
    (protocol_is_pure, "protocol/codec.py", "import time"),
    (protocol_is_pure, "protocol/codec.py", "from os import path"),
    (protocol_is_pure, "protocol/codec.py", "from pathlib import Path"),
    (protocol_is_pure, "protocol/codec.py", "from asyncio import Event"),
    (protocol_is_pure, "protocol/ids.py", "import uuid\nx = uuid.uuid4()"),
    (protocol_is_pure, "protocol/ids.py", "from datetime import datetime\nx = datetime.now()"),
    (protocol_is_pure, "protocol/ids.py", "open('x')"),
    (two_ends_share_the_wire_only, "hive/ingest.py", "from node_agent import agent"),
    (two_ends_share_the_wire_only, "node_agent/git/diff.py", "def f():\n    import hive.api"),
    (supervisor_needs_nothing, "node_agent/supervisor.py", "import msgspec"),
    (supervisor_needs_nothing, "node_agent/supervisor.py", "from node_agent import spool"),
    (supervisor_needs_nothing, "node_agent/supervisor.py", "from . import spool"),
    (supervisor_needs_nothing, "node_agent/spool_writer.py", "from node_agent.spool import x"),
    (layers_import_downwards, "hive/ingest.py", "from hive import server"),
    (layers_import_downwards, "hive/ingest.py", "from . import server"),
    (layers_import_downwards, "hive/api/streams.py", "from ..server import x"),
    (layers_import_downwards, "hive/server.py", "import hive.cli"),
    (layers_import_downwards, "hive/ingest.py", "import hive.commands.serve"),
    (layers_import_downwards, "node_agent/uplink.py", "from node_agent.agent import Agent"),
    (layers_import_downwards, "hive/api/streams.py", "import aiosqlite"),
    (layers_import_downwards, "hive/api/streams.py", "from sqlite3 import Row"),
    (layers_import_downwards, "node_agent/store/journal.py", "from aiohttp import web"),
    (layers_import_downwards, "node_agent/executors/acp.py", "from node_agent import executions"),
    (layers_import_downwards, "node_agent/executors/acp.py", "from .command import Command"),
    (sql_lives_in_stores, "hive/ingest.py", "x = 'SELECT a FROM b'"),
    (sql_lives_in_stores, "hive/ingest.py", "x = 'SELECT ' + ', '.join(columns)"),
    (sql_lives_in_stores, "hive/ingest.py", "x = 'select a from b'"),
    (sql_lives_in_stores, "hive/ingest.py", "x = f'UPDATE {table} SET a = 1'"),
    (sql_lives_in_stores, "hive/ingest.py", "x = '''\n  insert or ignore into t values (1)'''"),
    (sql_lives_in_stores, "hive/ingest.py", "x = 'DELETE FROM t'"),
    (sql_lives_in_stores, "hive/ingest.py", "x = 'CREATE TABLE t (a)'"),
    (sql_lives_in_stores, "hive/ingest.py", "x = 'CREATE UNIQUE INDEX i ON t (a)'"),
    (sql_lives_in_stores, "hive/ingest.py", "x = 'PRAGMA journal_mode = WAL'"),
    (sql_lives_in_stores, "hive/ingest.py", "x = 'BEGIN IMMEDIATE'"),
    (sql_lives_in_stores, "hive/ingest.py", "x = 'WITH a AS (SELECT 1) SELECT 2'"),
    (sql_lives_in_stores, "hive/cli.py", "x = 'VACUUM INTO ?'"),
    (environment_is_read_once, "hive/server.py", "import os\nx = os.environ['A']"),
    (environment_is_read_once, "hive/server.py", "import os\nx = os.getenv('A')"),
    (environment_is_read_once, "hive/api/config.py", "import os\nx = os.getenv('A')"),
    (environment_is_read_once, "node_agent/agent.py", "from os import environ as e"),
    (environment_is_read_once, "node_agent/agent.py", "import os\nx = os.path.expandvars('$A')"),
    (environment_is_read_once, "hive/cli.py", "import click\nx = click.option('--a', envvar='A')"),
    (commands_start_quickly, "hive/cli.py", "import aiohttp"),
    (commands_start_quickly, "node_agent/commands/run.py", "from aiohttp import web"),
    (commands_start_quickly, "node_agent/cli_attempts.py", "from websockets import connect"),
    (files_stay_small, "hive/ingest.py", "x = 1\n" * (LINES_MAX + 1)),
    (names_say_what_it_is, "hive/node_manager.py", ""),
    (names_say_what_it_is, "hive/utils.py", ""),
    (names_say_what_it_is, "hive/nodes.py", "class HTTPService: pass"),
    (names_say_what_it_is, "hive/nodes.py", "def f():\n    class NodeInfo: pass"),
    (names_say_what_it_is, "tests/hive/helpers.py", ""),
    *(
        (
            nothing_is_left_for_later,
            "tests/hive/test_nodes.py",
            f"x = 1  # {mark.upper()}: the rest",
        )
        for mark in UNFINISHED_MARKS
    ),
]


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    FAULTS,
    ids=[f"{rule.__name__}-{number}" for number, (rule, _, _) in enumerate(FAULTS)],
)
def test_a_fault_in_a_module_is_seen(rule: ModuleRule, path: str, text: str):
    """The rule complains of a planted fault, and says where it stands."""
    complaints = list(rule(Module(PurePosixPath(path), text)))
    assert complaints
    assert all(complaint.startswith(path) for complaint in complaints)


def test_every_rule_has_a_planted_fault():
    """A rule without a fault to see could be blind."""
    assert {rule for rule, _, _ in FAULTS} == set(MODULE_RULES)


ALLOWED = [
    ("protocol/log_chunks.py", "import zlib, threading, msgspec, zstandard\nfrom . import limits"),
    ("protocol/tokens.py", "import jwt\nfrom cryptography.hazmat import primitives"),
    ("protocol/errors.py", "from http import HTTPStatus\nfrom protocol.ids import AttemptId"),
    ("node_agent/supervisor.py", "import os, ctypes, selectors\nfrom sys import argv"),
    ("node_agent/agent.py", "from node_agent import uplink\nfrom protocol import node_link"),
    ("node_agent/cli.py", "import click\ndef f():\n    import aiohttp\n    from . import agent"),
    ("node_agent/commands/run.py", "def run():\n    from node_agent.agent import Agent"),
    ("node_agent/__main__.py", "from node_agent.cli import main"),
    ("node_agent/executors/acp.py", "from node_agent.executors.adapter import A\nimport protocol"),
    ("node_agent/executors/__init__.py", "from .acp import Acp\nfrom .command import Command"),
    ("node_agent/config.py", "import os\nx = os.environ.get('SKEP_HIVE_URL')"),
    ("hive/api/attempts.py", "from aiohttp import web\nfrom hive.store import attempts"),
    ("hive/store/sqlite.py", "import aiosqlite\nx = 'SELECT a FROM b'"),
    ("hive/attempts.py", "'''SELECT in a docstring'''\nx = 'Select a node from the list'"),
    ("hive/attempts.py", "x = 'update the attempt, then set its branch'\ny = 'with care'"),
    ("hive/attempts.py", "x = self.environment\ny = 'create the table of nodes'"),
    ("node_agent/data_folder.py", "class DataFolder: pass\nclass DataFolderInUse: pass"),
    ("hive/databases.py", "class Database: pass\nclass Statuses: pass\nclass Information: pass"),
]


@pytest.mark.parametrize(("path", "text"), ALLOWED)
def test_what_is_right_is_let_be(path: str, text: str):
    """No rule on one module complains of code that is as it should be."""
    module = Module(PurePosixPath(path), text)
    assert [complaint for rule in MODULE_RULES for complaint in rule(module)] == []


@pytest.mark.parametrize(
    "beside",
    [
        {"hive/live.py": "import aiohttp"},
        {"hive/live.py": "from hive import deeper", "hive/deeper.py": "import websockets"},
        {"hive/live.py": "from hive.store import journal", "hive/store/journal.py": ""},
        {"hive/live.py": "from hive.api import routes", "hive/api/routes.py": ""},
    ],
    ids=["a shell", "a shell below", "needs a store", "needs the api"],
)
def test_a_store_that_rests_on_a_shell_is_seen(beside: dict[str, str]):
    """A store may not import a module that needs sockets or a store, however far below."""
    store = {"hive/store/logs.py": "from hive import live"}
    complaints = list(stores_rest_on_pure_modules(planted({**store, **beside})))
    assert [complaint.split(":")[0] for complaint in complaints] == ["hive/store/logs.py"]


def test_a_store_may_rest_on_pure_modules():
    """A store imports pure modules beside it, and other parts of itself."""
    tree = planted(
        {
            "hive/__init__.py": "",
            "hive/projections.py": "from protocol import ops",
            "hive/store/journal.py": "from hive import projections\nfrom . import logs",
            "hive/store/logs.py": "import aiosqlite",
            "protocol/ops.py": "",
        }
    )
    assert list(stores_rest_on_pure_modules(tree)) == []


def test_a_dead_module_is_seen():
    """A module that no process reaches is named; one reached by a lazily loaded name is not."""
    tree = planted(
        {
            "hive/__init__.py": "",
            "hive/cli.py": "COMMANDS = {'serve': 'hive.cli_serve:serve'}",
            "hive/cli_serve.py": "def serve():\n    from hive.api import routes",
            "hive/api/__init__.py": "from . import middleware",
            "hive/api/routes.py": "",
            "hive/api/middleware.py": "",
            "hive/left_over.py": "from hive import cli_serve",
            "node_agent/cli.py": "import protocol.codec",
            "node_agent/supervisor.py": "",
            "protocol/codec.py": "",
            "protocol/forgotten.py": "",
        }
    )
    complaints = [complaint.split(":")[0] for complaint in every_module_is_used(tree)]
    assert complaints == ["hive/left_over.py", "protocol/forgotten.py"]


def test_a_test_of_nothing_is_seen():
    """A test module under a package's tests is named after the module it tests."""
    tree = planted(
        {
            "hive/api/streams.py": "",
            "hive/__main__.py": "",
            "tests/hive/api/test_streams.py": "",
            "tests/hive/api/test_streams_overflow.py": "",
            "tests/hive/test_main.py": "",
            "tests/hive/test_streams.py": "",
            "tests/simulation/test_links.py": "",
        }
    )
    assert [complaint.split(":")[0] for complaint in every_test_has_its_source(tree)] == [
        "tests/hive/test_streams.py"
    ]
