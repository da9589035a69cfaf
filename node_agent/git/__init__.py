"""Git at the node: worktrees, branches, what changed, and the files in them."""
