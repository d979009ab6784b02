"""Runs game servers, as plain processes or as systemd units: their starts, and what they are doing.

These modules are for other rooms to use.
"""

__all__ = [
    "driver",
    "host_settings",
    "machine_probe",
    "port_holders",
    "process_driver",
    "starting",
    "status_reader",
    "systemctl",
    "unit_files",
]
