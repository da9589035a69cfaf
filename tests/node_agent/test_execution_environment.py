"""What a program of an attempt finds in its environment."""

import pytest

from node_agent.execution_environment import check_environment, environment_of, secrets_in
from protocol.entities import Attempt
from protocol.errors import OperationError
from protocol.states import AttemptPhase


def attempt(**fields: object) -> Attempt:
    """An attempt without project or target."""
    wanted = {
        "id": "a-1",
        "task_id": "t-1",
        "task_title": "t",
        "checkout_id": "c",
        "project_identity": "root:1",
        "project_name": "p",
        "executor": "command",
        "branch": "skep/x",
        "phase": AttemptPhase.RUNNING,
    }
    return Attempt(**(wanted | fields))


def made(base: dict[str, str], requested: dict[str, str] | None = None, **fields: object):
    """The environment of an execution."""
    return environment_of(
        base,
        attempt(**fields),
        node_id="n",
        execution_id="e-1",
        identity={"GIT_AUTHOR_NAME": "Skep"},
        requested=requested or {},
    )


def test_what_is_not_there_is_unset():
    """No project and no target: their names are absent, not empty."""
    environment = made({"PATH": "/bin"})
    assert environment == {
        "PATH": "/bin",
        "GIT_AUTHOR_NAME": "Skep",
        "SKEP_NODE_ID": "n",
        "SKEP_TASK_ID": "t-1",
        "SKEP_ATTEMPT_ID": "a-1",
        "SKEP_EXECUTION_ID": "e-1",
        "SKEP_BRANCH": "skep/x",
    }
    more = made({}, project_id="p", target_branch="main")
    assert (more["SKEP_PROJECT_ID"], more["SKEP_TARGET_BRANCH"]) == ("p", "main")


def test_what_is_the_node_agents_own_stays_with_it():
    """Its settings, its service manager's sockets, and repositories git was told of."""
    base = {
        "SKEP_NODE_DATA_DIR": "x",
        "SKEP_TOKEN": "x",
        "SKEP_FAILPOINT": "x",
        "NOTIFY_SOCKET": "x",
        "LISTEN_FDS": "3",
        "GIT_DIR": "/elsewhere",
        "GIT_INDEX_FILE": "x",
        "LANG": "C.UTF-8",
        "GIT_SSH_COMMAND": "ssh -i key",
    }
    kept = set(made(base)) & set(base)
    assert kept == {"LANG", "GIT_SSH_COMMAND"}


def test_a_request_may_set_its_own_but_not_skeps():
    """It overrides what it inherits and whose commits these are, never who the attempt is."""
    environment = made(
        {"COLOUR": "red"}, {"COLOUR": "blue", "GIT_AUTHOR_NAME": "Ada", "SKEP_NODE_ID": "lie"}
    )
    assert (environment["COLOUR"], environment["GIT_AUTHOR_NAME"]) == ("blue", "Ada")
    assert environment["SKEP_NODE_ID"] == "n"
    for wrong in ({"": "x"}, {"A=B": "x"}, {"A\0": "x"}, {"A": "x\0"}, {"SKEP_X": "x"}):
        with pytest.raises(OperationError):
            check_environment(wrong)
    check_environment({"A": "", "b": "=x"})


def test_values_that_are_secret_by_their_name():
    """Names say what is hidden; short values would blank out ordinary words."""
    environment = {
        "GITHUB_TOKEN": "ghp-something",
        "db_password": "correct horse",
        "OPENAI_API_KEY": "sk-123456789",
        "AWS_SECRET_ACCESS_KEY": "abcdefghij",
        "TOKEN": "short",
        "KEYBOARD": "qwertyuiop",
        "PATH": "/usr/bin:/bin",
    }
    assert sorted(secrets_in(environment)) == [
        b"abcdefghij",
        b"correct horse",
        b"ghp-something",
        b"sk-123456789",
    ]
