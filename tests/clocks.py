"""A clock that tests set."""


class Clock:
    """Stands still until it is set forward; replaces `monotonic` and the like."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Set it forward."""
        self.seconds += seconds
