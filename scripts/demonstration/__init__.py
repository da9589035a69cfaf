"""The demo: a hive and node agents on this machine, and a story they go through before your eyes.

What it says is what happened; nothing is staged, and everything it started ends with it.
"""
