"""`python -m hive` is the `hive` command."""

from hive.cli import main

if __name__ == "__main__":
    main()
