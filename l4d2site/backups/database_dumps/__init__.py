"""Dumps the panel's database to a file, consistently while it runs, and restores it. For both engines."""

from l4d2site.backups.database_dumps.engines import (
    dump,
    engine,
    list_replaced,
    replacing,
    telling_of_waits,
    verify,
)
from l4d2site.backups.database_dumps.faults import DumpError, advise
from l4d2site.backups.database_dumps.folders import dump_folder
from l4d2site.backups.database_dumps.panel_tables import is_panels, list_unknown_migrations

__all__ = [
    "DumpError",
    "advise",
    "dump",
    "dump_folder",
    "engine",
    "is_panels",
    "list_replaced",
    "list_unknown_migrations",
    "replacing",
    "telling_of_waits",
    "verify",
]
