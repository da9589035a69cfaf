"""Whatever is killed while an attempt prints, it never notices, and nothing of it is lost."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.fault_proxy import FROM_HIVE, TO_HIVE, FaultProxy
from tests.end_to_end.installation import Installation
from tests.end_to_end.node_program import NodeProgram
from tests.end_to_end.printing import PrintingAttempt

TIMES = 10
Plug = Callable[[Installation, NodeProgram, FaultProxy, int], None]


def kill_node(_: Installation, node: NodeProgram, __: FaultProxy, ___: int) -> None:
    """Kill the node agent and start it again."""
    node.kill()
    node.start()


def kill_hive(installation: Installation, node: NodeProgram, _: FaultProxy, __: int) -> None:
    """Kill the hive and start it again."""
    installation.hive.kill()
    installation.hive.start()
    node.hurry()


def kill_both(installation: Installation, node: NodeProgram, _: FaultProxy, turn: int) -> None:
    """Kill both, in turns one and the other first, and start them in turns too."""
    order = [installation.hive, node] if turn % 2 else [node, installation.hive]
    for program in order:
        program.kill()
    again = order if turn % 4 < 2 else order[::-1]
    for program in again:
        program.start(wait=False)
    for program in again:
        program.wait_ready()
    node.hurry()


def cut_network(_: Installation, node: NodeProgram, proxy: FaultProxy, turn: int) -> None:
    """Reset the connection; at other turns after a silence to, from, or both ways."""
    silences = ((), (TO_HIVE,), (FROM_HIVE,), (TO_HIVE, FROM_HIVE))
    proxy.blackhole(*silences[turn % 4])
    if turn % 4:
        before = dict(proxy.carried)
        node.status()
        assert all(proxy.carried[way] == before[way] for way in silences[turn % 4])
    proxy.cut()
    proxy.heal()
    node.hurry()


@pytest.mark.parametrize("plug", [kill_node, kill_hive, kill_both, cut_network])
def test_pull_any_plug(
    plug: Plug, installation: Installation, repository: Path, tmp_path: Path
) -> None:
    """Ten times while the hive's entries rise: same pid, every byte at the hive, right outcome."""
    hive = installation.hive
    with FaultProxy(hive.port) as proxy:
        node = installation.add_node(url=proxy.url, repository=repository)
        attempt = PrintingAttempt(tmp_path / "printed")
        attempt.begin(installation, node)
        pid = attempt.wait_started()
        entries = 0
        for turn in range(TIMES):
            entries = attempt.wait_rising(hive, entries)
            os.kill(pid, 0)
            plug(installation, node, proxy, turn)
            assert attempt.pids == [pid]
        attempt.wait_rising(hive, entries)
        assert node.process_of(attempt.id)["pid"] == pid
        assert hive.attempt(attempt.id)["phase"] == "running"
        attempt.end()
        attempt.check_whole(hive)
