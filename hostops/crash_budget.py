"""How often a crashing server is restarted, and after what pause: the same rules under every driver.

Only restarts after crashes count, each at the time it was made. The window is checked when a server crashes:
if it already contains the whole budget, the server stays down until somebody starts it, which begins a new
count. The launcher records the times with each run and enforces this, so no manager's own memory matters:
systemd forgets its count at a `daemon-reload`.

The launcher imports this module at every start of a server, so the module imports next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

RESTART_BUDGET = 5
RESTART_WINDOW_SECONDS = 600

PAUSE_SECONDS = 5
"""The pause before the first restart of a window (RestartSec= of systemd.service(5))."""
LONGEST_PAUSE_SECONDS = 60
PAUSE_STEPS = 4
"""After this many restarts the pause is the longest (RestartSteps=, in systemd since 254)."""

_ENDS_THAT_WERE_MEANT = ("success ", "exit-code exited 130", "signal killed INT")
"""How `end` begins if the game quit by itself or on SIGINT (systemd sees 130); no failure to systemd."""


def count_restarts(restarted_at: Iterable[float], until: float) -> int:
    """Return how many restarts are in the window that ends at `until`, in seconds since the epoch.

    Never returns more than the budget: the launcher of an earlier version did not enforce it. A time far after
    `until` is from before the clock was set back, and does not count.
    """
    in_window = sum(abs(until - at) < RESTART_WINDOW_SECONDS for at in restarted_at)
    return min(in_window, RESTART_BUDGET)


def is_spent(restarted_at: Iterable[float], crashed_at: float) -> bool:
    """Whether a server that crashed at this time must stay down."""
    return count_restarts(restarted_at, crashed_at) >= RESTART_BUDGET


def is_failure(end: str) -> bool:
    """Whether a run that nobody asked to end should be restarted, judging by the record of its end, if any."""
    return not end.startswith(_ENDS_THAT_WERE_MEANT)


def pause_before(restart: int) -> float:
    """Return the pause in seconds before the n-th restart of a window; each is longer by the same factor."""
    grown = min(restart - 1, PAUSE_STEPS) / PAUSE_STEPS
    return float(PAUSE_SECONDS * (LONGEST_PAUSE_SECONDS / PAUSE_SECONDS) ** grown)
