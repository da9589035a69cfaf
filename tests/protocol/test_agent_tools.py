"""What the tools of agents take: wrong arguments are refused, never taken for an empty answer."""

import json
from typing import get_args

import msgspec
import pytest

from protocol.agent_tools import AGENT_TOOLS, AskHuman, ListTasks, TaskState
from protocol.states import TaskStatus


@pytest.mark.parametrize("question", ["", "   ", "\n\t"])
def test_a_question_that_says_nothing(question: str):
    """People would see an empty request: it is refused."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"question": question}, AskHuman)


def test_a_status_that_no_task_has():
    """It is refused, since no tasks at all would be taken for an answer."""
    assert set(get_args(TaskState)) == {one.value for one in TaskStatus}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"status": "odd"}, ListTasks)


@pytest.mark.parametrize("name", AGENT_TOOLS)
def test_a_schema_is_in_one_piece(name: str):
    """Clients of agents resolve no references."""
    assert "$ref" not in json.dumps(AGENT_TOOLS[name].schema)
