"""A node that opens link after link has to wait; others do not."""

from pathlib import Path

from tests.end_to_end.installation import Installation
from tests.end_to_end.waiting import until


def test_a_node_that_comes_too_often_has_to_wait(tmp_path: Path) -> None:
    """The third link within a minute is refused, and the node's operator is told why."""
    installation = Installation(tmp_path)
    installation.hive.environment["SKEP_HIVE_NODE_CONNECTS_PER_MINUTE_MAX"] = "2"
    try:
        installation.found()
        node = installation.add_node()
        for _ in range(2):
            node.stop()
            installation.hive.wait_node("node1", "offline")
            node.start()
        shown = until(
            lambda: node.json("status")["hive"],
            "the node is told to wait",
            holds=lambda hive: "2 links" in hive["problem"],
        )
        assert not shown["connected"]
        assert installation.hive.node("node1")["status"] == "offline"
        installation.add_node("node2")
    finally:
        installation.close()
