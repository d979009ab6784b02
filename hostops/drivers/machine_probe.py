"""Finds out what this machine can do for game servers: mount overlays, and put a game in a box."""

from hostops.box.probe import has_box, walls_here
from hostops.box.wall import Wall
from hostops.instances import disk_usage, layers
from hostops.instances.host_root import make_root
from hostops.layout import HostLayout


class MachineProbe:
    """Tries what this machine can do, and remembers it. What was found to work is not tried again.

    `forced_layering` is what `find_layering` returns without trying anything. Creating one touches nothing.
    """

    def __init__(self, layout: HostLayout, forced_layering: layers.Layering | None) -> None:
        self._layout = layout
        self._forced_layering = forced_layering
        self._layering: layers.Layering | None = None
        self._walls: tuple[Wall, ...] | None = None

    def find_layering(self) -> layers.Layering:
        """Return how layers are done here. The first call tries a mount, and makes the root for that."""
        if self._forced_layering is not None:
            return self._forced_layering
        if self._layering is None:
            with disk_usage.explain_full_disk(self._layout):
                make_root(self._layout)
                self._layering = layers.probe(self._layout.root)
        return self._layering

    def find_walls(self) -> tuple[Wall, ...]:
        """Return the walls of the box here. They are tried again as long as no box is possible."""
        if self._walls is None or not has_box(self._walls):
            self._walls = walls_here()
        return self._walls

    def explain_missing_box(self, *, may_assume: bool) -> str:
        """Return why a game cannot be boxed here; empty if it can.

        With `may_assume`, walls that were never tried are not tried where overlays can be mounted.
        """
        if self._walls is None and self.find_layering().is_overlay and may_assume:
            # Whatever can mount an overlay can make a box too; if it cannot, the launcher says what failed.
            # Checking all walls takes longer than the whole launch.
            return ""
        walls = self.find_walls()
        return "" if has_box(walls) else walls[0].sentence

    def forget_layering(self) -> None:
        """Have the layering tried again at its next use."""
        self._layering = None

    def forget_failed_layering(self) -> None:
        """Have the layering tried again if overlays could not be mounted: that may have been fixed."""
        if self._layering is not None and not self._layering.is_overlay:
            self._layering = None
