"""Conversations with agents at the node: carried on with their processes, and looked after."""
