"""SteamCMD: installs and updates the game, and asks which build is the latest.

Other rooms use these modules.
"""

__all__ = ["app_info", "install", "preflight", "steamcmd"]
