"""The host layer: installs the game, creates instances, starts and stops servers. Independent of Django."""

__version__ = "0.1.0"
