"""The command line of `scripts/docs`: write the generated pages, or compare them."""

import argparse
import sys
from pathlib import Path

from scripts.documentation.pages import differences, pages, written


def main() -> int:
    """Write or compare the pages; return 1 where one differs from the code."""
    parser = argparse.ArgumentParser(prog="scripts/docs")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    arguments = parser.parse_args()
    root = Path(__file__).resolve().parents[2]
    if not arguments.check:
        for name in written(root):
            print(f"wrote {name}")
        return 0
    found = differences(root, pages(root))
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
