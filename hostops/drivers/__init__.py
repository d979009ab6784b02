"""What runs game servers: as processes of their own, or as units of systemd.

Other rooms use these modules.
"""

__all__ = ["driver", "process_driver", "readiness", "systemctl", "unit_files"]
