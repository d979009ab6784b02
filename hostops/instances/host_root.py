"""The folder of a host: makes it, and finds out whether it can be read."""

import os

from hostops.errors import HostError
from hostops.layout import HostLayout
from hostops.linux.files import make_dir


def make_root(layout: HostLayout) -> None:
    """Make the root and the folders right below it, if they are not there; HostError if that is impossible."""
    try:
        for folder in (layout.root, layout.overlays_dir, layout.instances_dir, layout.home_dir):
            make_dir(folder)
    except OSError as error:
        raise HostError(
            f"The folder {layout.root} cannot be used: {error.strerror}. "
            "Make it, and give it to the user that runs this, or set HOST_ROOT to another."
        ) from error


def require_readable_root(layout: HostLayout) -> None:
    """Raise HostError if the root exists but cannot be read. A missing root only means an empty host.

    Without this check, each reader would report each unreadable file, and some would take it for missing.
    Costs a few microseconds.
    """
    root = layout.root
    try:
        os.stat(f"{root}/.")  # noqa: PTH116 - a Path drops the dot, which tests the right to enter
        with os.scandir(root):
            pass
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostError(
            f"The folder {root} cannot be read: {error.strerror}. Nothing is known of its servers until "
            "it is given to the account that runs this, or HOST_ROOT is set to another."
        ) from error
