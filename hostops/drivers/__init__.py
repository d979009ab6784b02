"""The ways to run game servers: as plain processes, or as systemd units.

These modules are for other rooms to use.
"""

__all__ = ["driver", "process_driver", "readiness", "systemctl", "unit_files"]
