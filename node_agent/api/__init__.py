"""The node's own HTTP: the table of routes, its handlers by noun, the socket that serves them."""
