"""Stores what a worker would have stored about a server."""

from dataclasses import replace
from typing import Any

from django.utils import timezone

from hostops.specs import InstanceState, InstanceStatus
from servers.models import Run, Server


def record_state(server: Server, state: str) -> None:
    """Store that the host reports this about the server's instance."""
    server.actual_state = state
    server.actual_state_at = timezone.now()
    server.save(update_fields=["actual_state", "actual_state_at", "updated_at"])


def make_run(server: Server, **differences: Any) -> Run:
    """Store that the server was started with what is saved, except for `differences`."""
    spec = replace(server.to_spec(), **differences)
    status = InstanceStatus(server.name, InstanceState.RUNNING, release=server.host.build_id)
    run = Run.describe(server.pk, spec, status, fingerprints={}, has_answered=True)
    Run.record([run])
    return run
