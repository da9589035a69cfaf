"""The wire between node and hive: pure values and state machines.

Owns every rule about what may be said on a link. Must not touch sockets, clocks, files or SQL:
time and randomness are arguments everywhere, and what happened is returned as values.
"""
