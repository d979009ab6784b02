"""SteamCMD: installs and updates the game, and finds out the latest build.

These modules are for other rooms to use.
"""

__all__ = ["app_info", "install", "preflight", "steamcmd"]
