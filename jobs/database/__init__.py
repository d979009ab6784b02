"""What SQLite and PostgreSQL need: hot statements as SQL, news of commits, turns at writing, checkpoints."""

from jobs.database.change_signals import (
    ChangeSignal,
    Channel,
    Interrupt,
    announce,
    announcing,
    open_change_signal,
)
from jobs.database.sql import (
    adapt,
    among,
    execute,
    insert,
    lock_owned,
    make,
    pipelined,
    places,
    update_all,
    update_counted,
)
from jobs.database.wal_checkpoints import EVERY_SECONDS as CHECKPOINT_SECONDS
from jobs.database.wal_checkpoints import copy_log
from jobs.database.write_turns import write_turn

__all__ = [
    "CHECKPOINT_SECONDS",
    "ChangeSignal",
    "Channel",
    "Interrupt",
    "adapt",
    "among",
    "announce",
    "announcing",
    "copy_log",
    "execute",
    "insert",
    "lock_owned",
    "make",
    "open_change_signal",
    "pipelined",
    "places",
    "update_all",
    "update_counted",
    "write_turn",
]
