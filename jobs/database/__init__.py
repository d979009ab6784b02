"""What SQLite and PostgreSQL need: SQL, signals of commits, write turns, checkpoints, outages, file modes."""

from jobs.database.change_signals import (
    ChangeSignal,
    Channel,
    Interrupt,
    Pace,
    Rest,
    announce,
    announcing,
    open_change_signal,
)
from jobs.database.file_modes import SHARED_FILE, database_files, is_shared, keep_private, look_at
from jobs.database.outage_lines import outage_log
from jobs.database.outages import (
    Outage,
    find_outage,
    find_write_outage,
    is_away,
    is_write_locked,
)
from jobs.database.refused_writes import are_writable, write_watch
from jobs.database.schema import BEHIND, is_schema_behind
from jobs.database.sql import (
    Statement,
    driver,
    execute,
    execute_all,
    find_database_file,
    identify_database_file,
)
from jobs.database.wal_checkpoints import EVERY_SECONDS as CHECKPOINT_SECONDS
from jobs.database.wal_checkpoints import copy_log
from jobs.database.write_turns import write_turn

__all__ = [
    "BEHIND",
    "CHECKPOINT_SECONDS",
    "SHARED_FILE",
    "ChangeSignal",
    "Channel",
    "Interrupt",
    "Outage",
    "Pace",
    "Rest",
    "Statement",
    "announce",
    "announcing",
    "are_writable",
    "copy_log",
    "database_files",
    "driver",
    "execute",
    "execute_all",
    "find_database_file",
    "find_outage",
    "find_write_outage",
    "identify_database_file",
    "is_away",
    "is_schema_behind",
    "is_shared",
    "is_write_locked",
    "keep_private",
    "look_at",
    "open_change_signal",
    "outage_log",
    "write_turn",
    "write_watch",
]
