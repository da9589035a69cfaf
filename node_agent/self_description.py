"""What this node says of itself: its name, its slots, and the machine it runs on."""

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from typing import Final

from node_agent.config import SLOTS_DEFAULT, NodeConfig, host_name
from node_agent.direct_exposure import direct_exposure
from node_agent.identity import NodeRecord
from protocol.entities import NodeState

_UNINSTALLED: Final = "0"


def name_of(config: NodeConfig, record: NodeRecord) -> str:
    """Return the node's name: as set, else as joined, else the host's."""
    return config.name or record.name or host_name()


def slots_of(config: NodeConfig, record: NodeRecord) -> int:
    """Return how many attempts may run at a time: as set, else as joined, else the default."""
    return config.slots or record.slots or SLOTS_DEFAULT


def version() -> str:
    """Return the version of this program."""
    try:
        return importlib.metadata.version("skep")
    except importlib.metadata.PackageNotFoundError:
        return _UNINSTALLED


def node_state(
    config: NodeConfig,
    record: NodeRecord,
    executors: Sequence[str],
    agents: Sequence[str] = (),
) -> NodeState:
    """Return what the hive is told of this node."""
    direct = direct_exposure(config)
    return NodeState(
        id=record.node_id,
        name=name_of(config, record),
        slots=slots_of(config, record),
        executors=sorted(executors),
        agents=sorted(agents),
        os=platform.system().lower(),
        arch=platform.machine(),
        version=version(),
        labels=list(config.labels),
        cores=os.cpu_count() or 0,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        direct_urls=[] if direct is None else direct.urls,
    )
