"""How agents say that a limit was reached, in words and fields they really use."""

import pytest

from node_agent.acp.reset_times import OWN_ZONE, WallTime
from node_agent.acp.usage_limits import UsageLimit, reset_told, usage_limit_in
from node_agent.acp.wire import RpcError

AT = 1_900_000_000

LIMITS = {
    "claude's stamp": (RpcError(-32603, f"Claude AI usage limit reached|{AT}"), AT * 1000, None),
    "claude's kind": (RpcError(-32603, "Internal error", {"errorKind": "rate_limit"}), None, None),
    "claude's words": (
        RpcError(-32603, "You've hit your limit · resets 3pm"), None, None
    ),
    "claude's session": (RpcError(-32603, "You've hit your session limit"), None, None),
    "claude's week": (RpcError(-32603, "Weekly limit reached"), None, None),
    "codex's kind": (
        RpcError(-32603, "Internal error", {"codexErrorInfo": "usageLimitExceeded"}), None, None
    ),
    "codex's words": (
        RpcError(-32603, "x", {"message": "You've hit your usage limit. Upgrade to Pro, or try"
                                          " again in 2 hours 5 minutes."}),
        None, 7_500_000,
    ),
    "codex's days": (
        RpcError(-32603, "You've hit your usage limit. Try again in 1 day, 2 hours."),
        None, 93_600_000,
    ),
    "codex's fields": (
        RpcError(-32603, "e", {"error": {"type": "usage_limit_reached", "resets_at": AT,
                                         "resets_in_seconds": 60}}),
        AT * 1000, 60_000,
    ),
    "gemini's words": (
        RpcError(429, "You have exhausted your daily quota on this model."), None, None
    ),
    "gemini's delay": (
        RpcError(429, "You have exhausted your capacity on this model. Your quota will reset after"
                      " 21h53m56s."),
        None, 78_836_000,
    ),
    "codex's three parts": (
        RpcError(-32603, "You've hit your usage limit. Upgrade to Pro"
                         " (https://openai.com/chatgpt/pricing) or try again in 5 days 22 hours 11"
                         " minutes."),
        None, 511_860_000,
    ),
    "gemini's status": (
        RpcError(-32603, "e", {"status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "34s"}]}),
        None, 34_000,
    ),
    "a moment": (
        RpcError(-32603, "Rate limit exceeded", {"resetTime": "2030-03-17T17:46:40Z"}),
        AT * 1000, None,
    ),
    "a moment in words": (
        RpcError(-32603, "quota exceeded, resets 2030-03-17T17:46:40+00:00"), AT * 1000, None
    ),
    "data that is a text": (RpcError(-32603, "Internal error", "Too Many Requests"), None, None),
}  # fmt: skip


@pytest.mark.parametrize(("error", "at_ms", "after_ms"), LIMITS.values(), ids=LIMITS)
def test_a_limit_is_seen(error: RpcError, at_ms: int | None, after_ms: int | None):
    """With its end where it is named so that it can mean one moment only."""
    assert usage_limit_in(error) == UsageLimit(reset_at_ms=at_ms, reset_after_ms=after_ms)


def test_a_clock_on_the_wall():
    """The end by a clock whose zone is named is handed on: when that is, is not known here."""
    limit = usage_limit_in(RpcError(-32603, "You've hit your limit · resets 3pm (Europe/Berlin)"))
    assert limit == UsageLimit(reset_by_clock=WallTime(hour=15, minute=0, zone="Europe/Berlin"))


def test_codexs_own_clock():
    """The end of a long wait, which Codex tells by its machine's clock, is handed on as that."""
    words = "You've hit your usage limit. Upgrade to Pro or try again at Jul 5th, 2026 8:19 PM."
    error = RpcError(
        -32603, "Internal error", {"message": words, "codexErrorInfo": "usageLimitExceeded"}
    )
    told = WallTime(hour=20, minute=19, zone=OWN_ZONE, year=2026, month=7, day=5)
    assert usage_limit_in(error) == UsageLimit(reset_by_clock=told)


@pytest.mark.parametrize(
    "error",
    [
        RpcError(-32603, "Internal error"),
        RpcError(-32000, "Authentication required"),
        RpcError(-32603, "The context limit of this model is 200000 tokens"),
        RpcError(-32603, "No route to host", {"errorKind": "server_error"}),
        RpcError(0, "", [[[[[[[["rate_limit"]]]]]]]]),
        RpcError(0, "", {"resetsAt": AT}),
        RpcError(0, "file size limit is 1 MiB"),
    ],
)
def test_another_error_is_no_limit(error: RpcError):
    """What is not said in words or fields of a limit is told as what it is."""
    assert usage_limit_in(error) is None


@pytest.mark.parametrize("value", [True, "soon", "2030-03-17T17:46:40", -1, 10**30, [], None, 5.5])
def test_a_time_that_is_none(value: object):
    """It is left out, and the limit is told without."""
    error = RpcError(-32603, "usage limit reached", {"resetsAt": value, "retryAfter": value})
    limit = usage_limit_in(error)
    assert limit is not None
    assert limit.reset_at_ms is None


def test_what_claude_tells_in_passing():
    """The end of a limit that stopped it; a warning is none."""
    told = {"_meta": {"_claude/rateLimit": {"status": "rejected", "resetsAt": AT}}}
    assert reset_told(told) == AT * 1000
    told["_meta"]["_claude/rateLimit"]["status"] = "allowed_warning"
    assert reset_told(told) is None
    assert reset_told({"_meta": []}) is None
