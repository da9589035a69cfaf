"""What a node says of itself: set beats joined beats found."""

from pathlib import Path

from node_agent.config import NodeConfig, host_name
from node_agent.identity import NodeRecord
from node_agent.self_description import name_of, node_state, slots_of


def test_set_beats_joined_beats_default() -> None:
    """Name and slots come from the settings, else from the join, else from the machine."""
    plain = NodeConfig(data_dir=Path("/x"))
    chosen = NodeConfig(data_dir=Path("/x"), name="set", slots=7)
    joined = NodeRecord(node_id="n", name="joined", slots=3)
    fresh = NodeRecord(node_id="n")
    assert [name_of(chosen, joined), name_of(plain, joined)] == ["set", "joined"]
    assert name_of(plain, fresh) == host_name()
    assert [slots_of(chosen, joined), slots_of(plain, joined), slots_of(plain, fresh)] == [7, 3, 2]


def test_the_machine_is_described() -> None:
    """The node's state names its executors and agents in order, and what the machine has."""
    config = NodeConfig(data_dir=Path("/x"), labels=["gpu"])
    state = node_state(config, NodeRecord(node_id="n", name="bee"), ["b", "a"], ["y", "x"])
    assert state.agents == ["x", "y"]
    assert (state.id, state.name, state.executors, state.labels) == (
        "n",
        "bee",
        ["a", "b"],
        ["gpu"],
    )
    assert state.cores > 0
    assert state.memory_bytes > 0
    assert state.os
    assert state.arch
    assert state.version
