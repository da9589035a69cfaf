"""Capabilities are good for one call, and remembered no longer than they could be replayed."""

import pytest

from node_agent.operations import permission
from node_agent.operations.permission import UsedCapabilities
from protocol import limits
from protocol.errors import ErrorCode, OperationError


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
