"""How a server names its overlays: a folder maintained by hand on the host, or a version of an overlay.

`maps` is the folder `overlays/maps`; `maps@3-<sha256>` is version 3 of the overlay `maps`, whose manifest has
that hash. A version never changes, so its reference determines every byte of it.
"""

import re
from dataclasses import dataclass

from hostops.names import NAME_PATTERN, require_name

_VERSION = re.compile(rf"({NAME_PATTERN})@([1-9][0-9]{{0,8}})-([0-9a-f]{{64}})", re.ASCII)


@dataclass(frozen=True)
class OverlayReference:
    """One of a server's overlays. `number` and `digest` are None for a folder maintained by hand."""

    name: str
    number: int | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> "OverlayReference":
        """Return what `text` refers to. Raises ValueError."""
        if match := _VERSION.fullmatch(text):
            return cls(match[1], int(match[2]), match[3])
        return cls(require_name(text))

    def __str__(self) -> str:
        return self.name if self.digest is None else f"{self.name}@{self.number}-{self.digest}"

    @property
    def label(self) -> str:
        """The reference as people read it: `maps`, or `maps, version 3`."""
        return self.name if self.number is None else f"{self.name}, version {self.number}"
