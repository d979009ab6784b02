"""What a worker reads from its host beside jobs: states of servers, crashes, players, consoles."""

from jobs.watch.console_copier import finish_console
from jobs.watch.console_guard import ConsoleGuard
from jobs.watch.host_watch import HostWatch
from jobs.watch.player_watch import PlayerWatch

__all__ = [
    "ConsoleGuard",
    "HostWatch",
    "PlayerWatch",
    "finish_console",
]
