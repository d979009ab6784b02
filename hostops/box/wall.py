"""The report on one wall of the box."""

OWN_ROOT = "Own root"
"""The wall without which there is no box."""

OWN_PROCESSES = "Own processes"
"""Behind this wall nothing outlives the run: when the init exits, the kernel kills all it started."""


class Wall:
    """One wall: its name, whether it stands, and if not, why and what would put it up."""

    def __init__(self, name: str, stands: bool, why_not: str = "", cure: str = "") -> None:
        self.name = name
        self.stands = stands
        self.why_not = why_not
        self.cure = cure

    @property
    def values(self) -> list[str | bool]:
        """Return what the constructor takes, for a record."""
        return [self.name, self.stands, self.why_not, self.cure]

    @property
    def sentence(self) -> str:
        """Describe it in one line, for the start log and for people."""
        if self.stands:
            return f"{self.name}: stands."
        return f"{self.name}: does not stand. {self.why_not} {self.cure}".rstrip()
