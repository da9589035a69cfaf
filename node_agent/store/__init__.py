"""What a node keeps on disk: the journal with the state it tells of, and the logs apart from it.

All SQL of this side stands below this folder. Must not run processes, git or sockets.
"""
