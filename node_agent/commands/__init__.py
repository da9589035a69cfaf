"""The sub-commands of `node-agent`, one noun per file; `cli.py` lists and loads them."""
