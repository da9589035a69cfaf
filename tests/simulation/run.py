"""Runs histories: `python -m tests.simulation.run --seeds N --from S [--jobs J]`.

Prints figures, and for each history that broke a promise its seed and how to run it again.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field

from tests.simulation.world import KINDS, MET, Rules, World, small_limits

#: Histories one process runs before it reports.
_SPAN = 500
#: Nobody reads more than this many broken histories at a time.
_BROKEN_MAX = 20


@dataclass
class Figures:
    """What came of some histories."""

    histories: int = 0
    events: int = 0
    cpu_s: float = 0.0
    #: In how many histories each kind of fault occurred, and what has to be met.
    faults: Counter[str] = field(default_factory=Counter)
    #: Seeds that broke a promise, and which.
    broken: dict[int, str] = field(default_factory=dict)

    def add(self, other: "Figures") -> None:
        self.histories += other.histories
        self.events += other.events
        self.cpu_s += other.cpu_s
        self.faults.update(other.faults)
        self.broken.update(other.broken)

    def lines(self) -> Iterator[str]:
        """Yield the figures for people."""
        each = max(1, self.histories)
        yield (
            f"{self.histories} histories of {self.events / each:.0f} events, "
            f"{self.histories / max(self.cpu_s, 1e-9):.0f} a second of CPU"
        )
        for kind in (*KINDS, *MET):
            yield f"  {kind}: in {self.faults[kind]} ({100 * self.faults[kind] / each:.1f} %)"
        for seed, why in sorted(self.broken.items()):
            yield f"seed {seed}: {why}"
            yield f"  again: python -m tests.simulation.run --seeds 1 --from {seed}"


def run(seeds: Iterable[int], rules: Rules | None = None, *, broken_max: int = 1) -> Figures:
    """Run histories until so many are broken."""
    figures = Figures()
    began = time.process_time()
    with small_limits():
        for seed in seeds:
            world = World(seed, rules)
            try:
                world.run()
            except Exception as error:  # noqa: BLE001  whatever it is, it is the seed's
                figures.broken[seed] = f"{type(error).__name__}: {error}"
            figures.histories += 1
            figures.events += world.events
            figures.faults.update({*world.faults, *+world.met})
            if len(figures.broken) >= broken_max:
                break
    figures.cpu_s = time.process_time() - began
    return figures


def _run_span(first: int, end: int) -> Figures:
    return run(range(first, end), broken_max=_BROKEN_MAX)


def main() -> int:
    """Run what the command line asks for; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.run", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5000, help="how many histories")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes; 0: one for each core")
    options = parser.parse_args()
    end = options.first + options.seeds
    spans = [(first, min(first + _SPAN, end)) for first in range(options.first, end, _SPAN)]
    total, began = Figures(), time.monotonic()
    with ProcessPoolExecutor(options.jobs or os.cpu_count()) as processes:
        running = [processes.submit(_run_span, *span) for span in spans]
        for done in as_completed(running):
            total.add(done.result())
            if len(total.broken) >= _BROKEN_MAX:
                processes.shutdown(cancel_futures=True)
                break
            if sys.stderr.isatty():
                print(f"\r{total.histories} of {options.seeds}", end="", file=sys.stderr)
    print(*total.lines(), f"{time.monotonic() - began:.0f} s", sep="\n")
    return 1 if total.broken else 0


if __name__ == "__main__":
    sys.exit(main())
