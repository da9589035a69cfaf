"""The node agent: runs attempts on one machine and owns their truth."""
