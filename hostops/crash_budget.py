"""How often a server that crashes is started again, and after which pause: the same rules under every driver.

Only restarts after crashes count, each at the moment it was made. The window is looked at when a server
crashes: if it holds the whole budget by then, the server stays down until somebody starts it, which begins a
new count. The launcher keeps the moments with each run and enforces this, so that no manager's own memory
matters: systemd forgets its count at a `daemon-reload`.

The launcher imports this at every start of a server, so it imports next to nothing itself.
"""

from collections.abc import Iterable

RESTART_BUDGET = 5
RESTART_WINDOW_SECONDS = 600

PAUSE_SECONDS = 5
"""Before the first restart of a window (RestartSec= of systemd.service(5))."""
LONGEST_PAUSE_SECONDS = 60
PAUSE_STEPS = 4
"""After so many restarts the pause is the longest (RestartSteps=, which systemd has since 254)."""

_ENDS_THAT_WERE_MEANT = ("success ", "exit-code exited 130", "signal killed INT")
"""How `end` begins if the game quit by itself or upon SIGINT, which 130 is to systemd: no failure to it."""


def count_restarts(restarted_at: Iterable[float], until: float) -> int:
    """Return how many restarts the window that ends at `until` holds, in seconds since the epoch.

    Never more than the budget: the launcher of an earlier version did not enforce it.
    """
    return min(sum(at > until - RESTART_WINDOW_SECONDS for at in restarted_at), RESTART_BUDGET)


def is_spent(restarted_at: Iterable[float], crashed_at: float) -> bool:
    """Whether a server that has crashed at this moment is to stay down."""
    return count_restarts(restarted_at, crashed_at) >= RESTART_BUDGET


def is_failure(end: str) -> bool:
    """Whether a run that nobody asked to end is to be restarted, by the record of its end, if there is one."""
    return not end.startswith(_ENDS_THAT_WERE_MEANT)


def pause_before(restart: int) -> float:
    """Return for how many seconds the n-th restart of a window waits: longer by the same factor each time."""
    grown = min(restart - 1, PAUSE_STEPS) / PAUSE_STEPS
    return float(PAUSE_SECONDS * (LONGEST_PAUSE_SECONDS / PAUSE_SECONDS) ** grown)
