"""What an agent asks is answered once, from anywhere, whatever restarts meanwhile."""

from pathlib import Path
from typing import Any

import pytest

from node_agent.acp.steps import Reply
from protocol.conversation import RequestKind
from tests.end_to_end.asking_agent import AskingAgent
from tests.end_to_end.installation import Installation
from tests.end_to_end.node_program import NodeProgram
from tests.end_to_end.waiting import until

WAITING = "sh -c 'until [ -e done ]; do sleep 0.2; done'"


class Story:
    """A node with a running attempt whose agent asks, and another node of the same hive."""

    def __init__(self, installation: Installation, repository: Path) -> None:
        self.hive = installation.hive
        self.installation = installation
        self.owner = installation.add_node("owner", repository=repository)
        self.attempt = installation.run("project", WAITING, self.owner)
        until(
            lambda: self.hive.attempt_or_none(self.attempt) or {},
            "the attempt runs",
            holds=lambda one: one.get("phase") == "running" and one["worktree"],
        )
        self.owner.stop()
        self.agent = AskingAgent(self.owner, self.attempt)

    def another_node(self, role: str = "operator") -> NodeProgram:
        """A node of the same hive at which a person of this role is signed in."""
        node = self.installation.add_node(f"here-{role}")
        made = self.hive.client.post("tokens", {"name": role, "role": role})
        node.json("login", stdin=made["token"] + "\n")
        return node

    def known(self, request: str, status: str) -> dict[str, Any]:
        """Wait until the hive shows a request in this status."""
        return until(
            lambda: {one["id"]: one for one in self.hive.json("requests")["items"]}.get(request),
            f"the request is {status}",
            holds=lambda one: one is not None and one["status"] == status,
        )


@pytest.fixture
def story(installation: Installation, repository: Path) -> Story:
    """A node whose attempt runs, and whose agent process is stopped."""
    return Story(installation, repository)


def test_answered_from_another_node_after_an_hour(story: Story) -> None:
    """Hive and node restarted, an hour passed: the agent gets the answer, once."""
    hive, owner, agent = story.hive, story.owner, story.agent
    request = agent.ask()
    assert agent.ask() == request
    owner.start()
    assert story.known(request, "open")["title"] == "May I run the tests?"
    assert [one["id"] for one in hive.json("requests", "--open")["items"]] == [request]
    until(
        lambda: hive.node("owner"),
        "the node waits for a person",
        holds=lambda node: node["activity"] == "waiting",
    )
    hive.kill()
    hive.start()
    owner.kill()
    agent.an_hour_passes()
    owner.start()
    hive.wait_node("owner")
    here = story.another_node()
    assert here.json("requests")["items"] == []
    assert [one["id"] for one in here.json("requests", "--all", "--open")["items"]] == [request]
    assert here.json("requests", "show", request[-12:])["node_name"] == "owner"
    answered = here.json("requests", "answer", request[-12:], "allow", "--idempotency-key", "one")
    assert (answered["status"], answered["answer"]["by"]) == ("answered", "operator")
    again = here.json("requests", "answer", request, "Allow", "--idempotency-key", "one")
    assert again["answer"] == answered["answer"]
    # Another person, at the hive, was later.
    late = hive.refused("requests", "answer", request, "Reject")
    assert late["code"] == "already_answered"
    assert late["details"]["answer"] == answered["answer"]
    assert "operator" in late["message"]
    assert story.known(request, "answered")["answer"]["option"] == "yes"
    hive.kill()
    owner.kill()
    assert agent.told() == [("1", Reply(option="yes"))]
    assert agent.told() == []
    # The key is free: what is asked under it now is another question.
    assert agent.ask() != request


def test_an_answer_waits_for_its_node(story: Story) -> None:
    """Given while the node is away, it is shown as sent until that took it, restarts or not."""
    hive, owner, agent = story.hive, story.owner, story.agent
    request = agent.ask()
    owner.start()
    story.known(request, "open")
    owner.kill()
    hive.wait_node("owner", "offline")
    assert hive.refused("requests", "answer", request, "yes")["code"] == "node_offline"
    key = ["--idempotency-key", "later"]
    kept = hive.json("requests", "answer", request, "yes", "--when", "online", *key)
    assert (kept["status"], kept["operation"]) == ("waiting", "answer")
    hive.kill()
    hive.start()
    shown = hive.json("requests", "show", request)
    assert (shown["status"], shown["reachable"]) == ("open", False)
    assert [(one["key"], one["option"]) for one in shown["sent"]] == [("later", "yes")]
    owner.start()
    assert story.known(request, "answered")["answer"]["option"] == "yes"
    until(
        lambda: hive.json("operations", "show", "later"),
        "the operation is done",
        holds=lambda row: row["status"] == "done",
    )
    assert hive.json("requests", "show", request)["sent"] == []
    owner.kill()
    assert agent.told() == [("1", Reply(option="yes"))]


def test_what_is_refused_and_what_is_cancelled(story: Story) -> None:
    """A wrong answer names its field, a viewer answers nothing, a cancelled turn asks no more."""
    hive, owner, agent = story.hive, story.owner, story.agent
    approval = agent.ask()
    form = {"type": "object", "properties": {"port": {"type": "integer", "minimum": 1}}}
    question = agent.ask(
        "2", kind=RequestKind.QUESTION, title="Which port?", options=(), tool=None, form=form
    )
    owner.start()
    story.known(question, "open")
    wrong = hive.refused("requests", "answer", approval, "perhaps")
    assert (wrong["code"], wrong["details"]["field"]) == ("invalid", "option")
    wrong = hive.refused("requests", "answer", question, "--form", '{"port": 0}')
    assert (wrong["code"], wrong["details"]["field"]) == ("invalid", "form.port")
    viewer = story.another_node("viewer")
    assert viewer.json("requests", "show", question)["title"] == "Which port?"
    assert viewer.refused("requests", "answer", approval, "yes")["code"] == "forbidden"
    for shown in (
        hive.call("requests", "--open"),
        hive.call("requests", "show", question),
        owner.call("requests"),
        owner.call("requests", "show", question[-12:]),
    ):
        assert (shown.returncode, "Which port?" in shown.stdout) == (0, True), shown.stderr
    # The node's own operator needs no hive for what is asked here.
    hive.kill()
    taken = owner.json("requests", "answer", question[-12:], "--form", '{"port": 80}')
    assert (taken["answer"]["form"], taken["answer"]["by"]) == ({"port": 80}, "node-operator")
    owner.kill()
    agent.turn_cancelled()
    assert agent.told() == [("2", Reply(form={"port": 80}))]
    owner.start()
    hive.start()
    cancelled = story.known(approval, "cancelled")
    assert (cancelled["answer"], cancelled["reason"]) == (None, "the turn was cancelled")
    hive.wait_node("owner")
    late = hive.refused("requests", "answer", approval, "yes")
    assert (late["code"], "the turn was cancelled" in late["message"]) == ("cancelled", True)
