"""What every executor must do, whichever it is: say what to run, purely, or why it cannot."""

import pytest

from node_agent.executors import EXECUTORS, ExecutorUnavailable, executor_named
from node_agent.executors.adapter import Executor, Wish
from protocol.errors import ErrorCode, OperationError

#: A wish each executor can fulfil.
WISHES = {
    "command": Wish(command="printf 'a b' \"$HOME\" ; true", prompt="do it\n"),
    "acp": Wish(command="my-agent --acp", prompt="do it\n"),
}


@pytest.fixture(params=sorted(EXECUTORS))
def executor(request: pytest.FixtureRequest) -> Executor:
    """Each executor in turn."""
    return EXECUTORS[request.param]


def test_each_has_a_wish_to_be_tried_with() -> None:
    """An executor without a wish here would go untested."""
    assert set(WISHES) == set(EXECUTORS)


def test_a_wish_becomes_a_process(executor: Executor) -> None:
    """The same wish gives the same words and input each time, and no shell is put before them."""
    launch = executor.launch(WISHES[executor.name])
    assert launch == executor.launch(WISHES[executor.name])
    assert launch.argv
    assert all(isinstance(word, str) and "\0" not in word for word in launch.argv)
    assert launch.argv[0] not in {"sh", "bash", "/bin/sh"}


def test_a_wish_it_cannot_fulfil_names_the_field(executor: Executor) -> None:
    """Without what it needs an executor refuses, naming the field and what to do."""
    with pytest.raises(OperationError) as caught:
        executor.launch(Wish())
    assert caught.value.code is ErrorCode.INVALID
    assert caught.value.details["field"] in Wish.__dataclass_fields__
    assert caught.value.hint


def test_an_executor_is_found_by_its_name(executor: Executor) -> None:
    """The table names each by the name it gives itself; another name is answered with these."""
    assert executor_named(executor.name) is executor
    with pytest.raises(ExecutorUnavailable) as caught:
        executor_named("none")
    assert caught.value.code is ErrorCode.EXECUTOR_UNAVAILABLE
    assert executor.name in caught.value.hint


def test_the_command_line_is_split_and_never_expanded() -> None:
    """The words are those a shell would see, with nothing of a shell done to them."""
    launch = EXECUTORS["command"].launch(WISHES["command"])
    assert launch.argv == ["printf", "a b", "$HOME", ";", "true"]
    assert launch.stdin == b"do it\n"
