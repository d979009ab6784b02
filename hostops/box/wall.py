"""The report on one wall of the box."""

from typing import NamedTuple

OWN_ROOT = "Own root"
"""The wall without which there is no box."""

OWN_PROCESSES = "Own processes"
"""Behind this wall nothing outlives the run: when the init exits, the kernel kills all it started."""


class Wall(NamedTuple):
    """One wall: its name, whether it stands, and if not, why and what would put it up."""

    name: str
    stands: bool
    why_not: str = ""
    cure: str = ""

    @property
    def sentence(self) -> str:
        """Describe it in one line, for the start log and for people."""
        if self.stands:
            return f"{self.name}: stands."
        return f"{self.name}: does not stand. {self.why_not} {self.cure}".rstrip()
