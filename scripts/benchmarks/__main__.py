"""The command line of the benchmarks."""

import argparse
import importlib
import sys

NAMES = ("link", "latency", "relay", "chat")


def main() -> int:
    """Run one benchmark; return 1 where a gate does not hold."""
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--quick", action="store_true", help="2 rounds and a smaller workload")
    arguments = parser.parse_args()
    module = importlib.import_module(f"scripts.benchmarks.{arguments.name}")
    return 0 if module.run(quick=arguments.quick) else 1


if __name__ == "__main__":
    sys.exit(main())
