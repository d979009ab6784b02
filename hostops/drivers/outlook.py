"""Says what follows a crash, in the same words for every driver: a restart, or giving up."""

from dataclasses import replace

from hostops.crash_budget import RESTART_BUDGET, RESTART_WINDOW_SECONDS, count_restarts
from hostops.instances import runs
from hostops.specs import InstanceStatus

_MINUTES = RESTART_WINDOW_SECONDS // 60


def restarting(restart: int) -> str:
    """Return the note, shown beside the state, that the n-th restart of the budget is in progress."""
    return f"restarting ({min(restart, RESTART_BUDGET)} of {RESTART_BUDGET})"


def tell_restart(status: InstanceStatus, run: runs.Run, now: float) -> InstanceStatus:
    """Add to the status of a starting server which restart this is; nothing if a person started it."""
    restart = count_restarts(run.restarted_at, now)
    if not restart:
        return status
    lead = f"Restarting after a crash ({restart} of {RESTART_BUDGET})."
    return with_lead(replace(status, note=restarting(restart)), lead)


def tell_giving_up(status: InstanceStatus, restarts: int) -> InstanceStatus:
    """Add that a crashed server stays down after this many restarts, and what to do."""
    lead = f"Crashed{_how(status)}, gave up after {restarts} restarts within {_MINUTES} minutes."
    cure = f"Look at why, then start it: {RESTART_BUDGET} restarts are allowed again."
    # The detail comes last. It may end with a line of the console, such as `command "sv_password"`, and what
    # follows the name of a password is masked.
    return replace(
        status, note="gave up", detail=" ".join(filter(None, (lead, cure, status.detail)))
    )


def tell_crash(status: InstanceStatus, note: str = "") -> InstanceStatus:
    """Add that a server has crashed, how, and what comes next if that is known."""
    lead = f"Crashed{_how(status)}{f', {note}' if note else ''}."
    return with_lead(replace(status, note=note), lead)


def with_lead(status: InstanceStatus, lead: str) -> InstanceStatus:
    """Put a sentence before a status's detail."""
    return replace(status, detail=f"{lead} {status.detail}".strip())


def _how(status: InstanceStatus) -> str:
    crash = status.crashed_runs[-1] if status.crashed_runs else None
    return f" ({crash.how})" if crash and crash.how else ""
