"""How values are written for people."""

import time

from node_agent.commands.invocation import standing


def test_a_state_and_what_is_beside_it():
    """A parked attempt says until when it waits, one whose agent is silent since when."""
    at_ms = 1_900_000_000_000
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))
    parked = {"parked_until_ms": at_ms, "silent_since_ms": None}
    assert standing("running", parked) == f"[yellow]parked[/] until {shown}"
    silent = {"parked_until_ms": None, "silent_since_ms": at_ms}
    expected = f"[cyan]running[/] [yellow]silent since {shown}[/]"
    assert standing("running", silent) == expected
    assert standing("ended", {}) == "ended"
