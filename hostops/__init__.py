"""The host layer: installs the game, makes instances, starts and stops servers. It knows no Django."""

__version__ = "0.1.0"
