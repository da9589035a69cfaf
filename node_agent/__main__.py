"""`python -m node_agent`: the same as the `node-agent` script."""

from node_agent.cli import main

if __name__ == "__main__":
    main()
