"""What a worker reads from its host beside jobs: servers, consoles, players, overlays, the host itself.

Servers are started and stopped by jobs only. What is removed from a host here is what nobody needs any more, or
what would fill its disk: console output that is stored or too much, and versions of overlays.
"""

from jobs.watch.console_copier import finish_console
from jobs.watch.console_guard import ConsoleGuard
from jobs.watch.doctor_watch import DoctorWatch
from jobs.watch.empty_watch import EmptyWatch
from jobs.watch.host_watch import HostWatch
from jobs.watch.overlay_watch import OverlayWatch
from jobs.watch.player_watch import PlayerWatch, describe_players

__all__ = [
    "ConsoleGuard",
    "DoctorWatch",
    "EmptyWatch",
    "HostWatch",
    "OverlayWatch",
    "PlayerWatch",
    "describe_players",
    "finish_console",
]
