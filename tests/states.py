"""Says of a server what a worker would have stored of it."""

from django.utils import timezone

from servers.models import Server


def record_state(server: Server, state: str) -> None:
    """Store that the host says this of the server's instance."""
    server.actual_state = state
    server.actual_state_at = timezone.now()
    server.save(update_fields=["actual_state", "actual_state_at", "updated_at"])
