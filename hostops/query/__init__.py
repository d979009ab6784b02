"""Talks to running game servers over the network, with A2S queries and RCON, and parses the answers.

These modules are for other rooms to use.
"""

__all__ = ["a2s", "a2s_sweep", "passwords", "rcon", "status"]
