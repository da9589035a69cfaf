"""Agents that speak the Agent Client Protocol: one adapter for all of them."""
