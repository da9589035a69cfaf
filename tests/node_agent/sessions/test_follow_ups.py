"""Follow-ups of conversations: what an agent can take goes in, the rest is refused by its field."""

import pytest

from node_agent.sessions.follow_ups import check_follow_up, images_of
from protocol.conversation import Session
from protocol.errors import ErrorCode, OperationError
from protocol.turn_requests import FollowUpRequest

PNG = "data:image/png;base64,aGk="


def test_what_an_agent_can_take() -> None:
    """Images and forks pass where the agent's session lists them."""
    able = Session(id="s", attempt_id="a", executor="acp", capabilities=["images", "fork"])
    request = FollowUpRequest(prompt="p", images=[PNG], from_turn=3)
    check_follow_up(request, able, 3)
    assert images_of(request) == [("image/png", "aGk=")]
    check_follow_up(FollowUpRequest(prompt="p"), None, None)


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        (FollowUpRequest(command="other"), ErrorCode.NOT_AVAILABLE, "command"),
        (FollowUpRequest(prompt="  "), ErrorCode.INVALID, "prompt"),
        (FollowUpRequest(prompt="p", images=["a.png"]), ErrorCode.INVALID, "images"),
        *(
            (FollowUpRequest(prompt="p", images=[url]), ErrorCode.INVALID, "images")
            for url in ("data:image/png;base64,?", "data:image/png;base64,é")
        ),
        (FollowUpRequest(prompt="p", images=[PNG] * 17), ErrorCode.INVALID, "images"),
        (FollowUpRequest(prompt="p", images=[PNG]), ErrorCode.NOT_AVAILABLE, "images"),
        (FollowUpRequest(prompt="p", from_turn=2), ErrorCode.NOT_AVAILABLE, "from_turn"),
    ],
)
def test_what_is_refused(request_: FollowUpRequest, code: ErrorCode, field: str) -> None:
    """Each refusal names what it is about."""
    unable = Session(id="s", attempt_id="a", executor="acp")
    with pytest.raises(OperationError) as caught:
        check_follow_up(request_, unable, 2)
    assert (caught.value.code, caught.value.details["field"]) == (code, field)


def test_what_is_said_into_a_turn_is_for_its_agent() -> None:
    """A profile chooses an agent for a turn of its own."""
    able = Session(id="s", attempt_id="a", executor="acp", capabilities=["steer"])
    with pytest.raises(OperationError) as caught:
        check_follow_up(FollowUpRequest(prompt="p", steer=True, profile="codex"), able, 2)
    assert (caught.value.code, caught.value.details["field"]) == (ErrorCode.INVALID, "steer")


def test_a_fork_of_an_older_turn() -> None:
    """Agents fork where their session stands: an older turn is refused, not taken for the last."""
    able = Session(id="s", attempt_id="a", executor="acp", capabilities=["fork"])
    with pytest.raises(OperationError) as caught:
        check_follow_up(FollowUpRequest(prompt="p", from_turn=1), able, 2)
    assert caught.value.code is ErrorCode.NOT_AVAILABLE
