"""Capabilities are good for one call; what a node's owner refuses is refused in every guise."""

from typing import Any

import pytest

from node_agent.operations import permission
from node_agent.operations.permission import UsedCapabilities, check_refusals
from protocol import limits
from protocol.attempt_requests import (
    CleanupRequest,
    ReviewRequest,
    RunScriptRequest,
    StartRequest,
    StopRequest,
)
from protocol.errors import ErrorCode, OperationError
from protocol.operation_values import Request
from protocol.operations import OPERATIONS
from protocol.profiles import Profile
from protocol.request_rules import RequestRules
from protocol.turn_requests import FollowUpRequest, SetTurnsRequest, TurnEdit


def test_remembered_as_long_as_it_could_be_replayed() -> None:
    """A second use is refused while the token could still pass, and forgotten after that."""
    used = UsedCapabilities()
    used.use("a", expires_s=100, now_s=50)
    last_s = 100 + limits.TOKEN_LEEWAY_S
    with pytest.raises(OperationError) as caught:
        used.use("a", expires_s=100, now_s=last_s)
    assert caught.value.code is ErrorCode.FORBIDDEN
    used.use("b", expires_s=900, now_s=last_s + 1)
    assert list(used._expires_s) == ["b"]


def test_a_flood_is_refused_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """When too many are remembered new calls wait; none that counts is forgotten for them."""
    monkeypatch.setattr(permission, "_REMEMBERED_MAX", 3)
    used = UsedCapabilities()
    for jti in "abc":
        used.use(jti, expires_s=100, now_s=50)
    with pytest.raises(OperationError) as caught:
        used.use("d", expires_s=100, now_s=50)
    assert caught.value.code is ErrorCode.SLOW_DOWN
    with pytest.raises(OperationError):
        used.use("a", expires_s=100, now_s=50)
    used.use("d", expires_s=400, now_s=300)


def by_profile(**profile: Any) -> StartRequest:
    """A start by a profile that the project sent along."""
    profiles = {"p": Profile(**profile), "other": Profile(agent="custom", arguments=["sh"])}
    return StartRequest(executor="acp", profile="p", profiles=profiles)


def in_mode(profile: str, mode: str) -> StartRequest:
    """A start of an agent of the node, in a mode that was asked for."""
    return StartRequest(executor="acp", profile=profile, mode=mode)


def by_agent(**brought: Any) -> StartRequest:
    """A start of an agent that asks, with what its project has beside it."""
    return StartRequest(executor="acp", profile="claude", **brought)


@pytest.mark.parametrize(
    ("name", "request_", "refused", "stands"),
    [
        ("start", StartRequest(command="true"), "start", True),
        ("start", StartRequest(executor="other"), "executor:command", False),
        ("start", StartRequest(executor="acp", command="sh"), "executor:command", True),
        ("start", StartRequest(executor="acp", environment={"A": "b"}), "executor:command", True),
        ("start", by_profile(agent="claude", model="m", mode="plan"), "executor:command", False),
        ("start", by_profile(agent="claude", model="m", mode="plan"), "executor:acp", True),
        ("start", by_profile(agent="claude", mode="bypassPermissions"), "executor:command", True),
        ("start", by_profile(agent="codex", mode="plan"), "executor:command", True),
        ("start", in_mode("claude", "plan"), "executor:command", False),
        ("start", in_mode("claude", "acceptEdits"), "executor:command", True),
        ("start", in_mode("the-nodes-own", "plan"), "executor:command", True),
        ("start", by_profile(agent="claude", arguments=["-c"]), "executor:command", True),
        ("start", by_profile(agent="claude", environment={"A": "b"}), "executor:command", True),
        ("start", by_profile(agent="custom", arguments=["sh"]), "executor:command", True),
        ("start", by_agent(setup_script="make"), "executor:command", True),
        ("start", by_agent(cleanup_script="make"), "executor:command", True),
        ("start", by_agent(dev_script="make"), "executor:command", True),
        ("start", by_agent(setup_script="", dev_script=None), "executor:command", False),
        ("start", by_agent(request_rules=RequestRules(allow=["*"])), "executor:command", True),
        ("start", by_agent(request_rules=RequestRules(deny=["*"])), "executor:command", False),
        ("start", by_agent(copy_files=[".env"]), "executor:command", False),
        ("follow_up", FollowUpRequest(prompt="p"), "follow_up", True),
        ("follow_up", FollowUpRequest(prompt="p"), "start", True),
        ("follow_up", FollowUpRequest(command="true"), "executor:command", True),
        ("review", ReviewRequest(command="true"), "start", True),
        ("review", ReviewRequest(command="true"), "executor:command", True),
        ("set_turns", SetTurnsRequest(items=[TurnEdit(id="t", command="true")]), "start", True),
        ("set_turns", SetTurnsRequest(items=[TurnEdit(id="t")]), "start", False),
        ("run_script", RunScriptRequest(name="dev"), "run_script", True),
        ("run_script", RunScriptRequest(name="setup"), "executor:command", True),
        ("run_script", RunScriptRequest(name="cleanup"), "start", True),
        ("cleanup", CleanupRequest(), "cleanup", True),
        ("stop", StopRequest(), "start", False),
    ],
)
def test_what_an_owner_refuses(name: str, request_: Request, refused: str, stands: bool) -> None:
    """A node that takes no attempts from the hive takes none of its commands in another guise."""
    if not stands:
        check_refusals(OPERATIONS[name], request_, [refused])
        return
    with pytest.raises(OperationError) as caught:
        check_refusals(OPERATIONS[name], request_, [refused])
    assert (caught.value.code, caught.value.details["refused"]) == (ErrorCode.FORBIDDEN, refused)


@pytest.mark.parametrize(
    ("began", "request_", "refused", "stands"),
    [
        (by_agent(), FollowUpRequest(prompt="p"), "executor:command", False),
        (by_agent(), FollowUpRequest(prompt="p", steer=True), "executor:command", False),
        (by_agent(), FollowUpRequest(prompt="p"), "executor:acp", True),
        (by_agent(), FollowUpRequest(prompt="p"), "follow_up", True),
        (by_agent(), FollowUpRequest(prompt="p"), "start", True),
        (by_agent(), FollowUpRequest(command="true"), "executor:command", True),
        (by_agent(setup_script="make"), FollowUpRequest(prompt="p"), "executor:command", True),
        (by_agent(mode="bypassPermissions"), FollowUpRequest(prompt="p"), "executor:command", True),
        (StartRequest(command="sh"), FollowUpRequest(prompt="p"), "executor:command", True),
        (
            StartRequest(executor="acp", command="agent"),
            FollowUpRequest(prompt="p"),
            "executor:command",
            True,
        ),
        (
            by_profile(agent="claude", arguments=["-c"]),
            FollowUpRequest(prompt="p"),
            "executor:command",
            True,
        ),
        (
            by_profile(agent="claude", arguments=["-c"]),
            FollowUpRequest(prompt="p", profile="claude"),
            "executor:command",
            False,
        ),
        (
            by_profile(agent="claude"),
            FollowUpRequest(prompt="p", profile="other"),
            "executor:command",
            True,
        ),
        (
            by_agent(),
            SetTurnsRequest(items=[TurnEdit(id="t", prompt="p")]),
            "executor:command",
            False,
        ),
        (by_agent(), SetTurnsRequest(items=[TurnEdit(id="t", prompt="p")]), "start", True),
        (
            by_agent(),
            SetTurnsRequest(items=[TurnEdit(id="t"), TurnEdit(id="u", command="sh")]),
            "executor:command",
            True,
        ),
        (by_agent(), ReviewRequest(command="true"), "executor:command", True),
        (by_agent(), RunScriptRequest(name="dev"), "executor:command", True),
    ],
)
def test_a_follow_up_is_judged_as_the_start_of_its_attempt(
    began: StartRequest, request_: Request, refused: str, stands: bool
) -> None:
    """What is said to an agent that asks is no command line; what has its words run is one."""
    names = {
        FollowUpRequest: "follow_up",
        SetTurnsRequest: "set_turns",
        ReviewRequest: "review",
        RunScriptRequest: "run_script",
    }
    operation = OPERATIONS[names[type(request_)]]
    if not stands:
        check_refusals(operation, request_, [refused], began)
        return
    with pytest.raises(OperationError) as caught:
        check_refusals(operation, request_, [refused], began)
    assert (caught.value.code, caught.value.details["refused"]) == (ErrorCode.FORBIDDEN, refused)


def test_who_is_refused_reads_what_of_the_start_it_was() -> None:
    """A project's scripts go along with every start: without a word of them nobody would know."""
    start = by_agent(setup_script="make", request_rules=RequestRules(allow=["execute"]))
    with pytest.raises(OperationError) as caught:
        check_refusals(OPERATIONS["start"], start, ["executor:command"])
    assert "setup_script, request_rules.allow" in caught.value.hint
    with pytest.raises(OperationError) as caught:
        check_refusals(OPERATIONS["start"], start, ["start"])
    assert "setup_script" not in caught.value.hint
