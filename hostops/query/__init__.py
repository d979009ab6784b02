"""Talks to running game servers over the network, A2S queries and RCON, and reads what they say.

Other rooms use these modules.
"""

__all__ = ["a2s", "a2s_sweep", "passwords", "rcon", "status"]
