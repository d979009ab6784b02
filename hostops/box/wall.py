"""What is told of one wall of the box."""

from typing import NamedTuple

OWN_ROOT = "Own root"
"""The wall without which there is no box."""

OWN_PROCESSES = "Own processes"
"""Behind this one nothing outlives the run: the kernel ends with the init what it has started."""


class Wall(NamedTuple):
    """One wall: what it keeps from whom, and where it does not stand, why and what would put it up."""

    name: str
    stands: bool
    why_not: str = ""
    cure: str = ""

    @property
    def sentence(self) -> str:
        """Say it in a line, for the start log and for people."""
        if self.stands:
            return f"{self.name}: stands."
        return f"{self.name}: does not stand. {self.why_not} {self.cure}".rstrip()
