"""Which versions of overlays have files that the store lacks."""

from collections.abc import Iterator

from django.utils.translation import gettext as _

from hostops.specs import read_known_files
from servers.models import OverlayVersion
from servers.store.panel_store import BlobError, get_store
from servers.store.versions import read_lines


def find_incomplete_versions() -> Iterator[str]:
    """Yield the versions of which the store lacks a file or the list of files, in words."""
    by_name = OverlayVersion.objects.select_related("overlay").order_by("overlay__name", "number")
    versions = list(by_name)
    # After the rows were read: the files of a version are stored before its row.
    there = {digest for digest, _path in get_store().walk()}
    for version in versions:
        try:
            files = {file.sha256 for file in read_known_files(read_lines(version))}
        except BlobError:
            text = _(
                "Version %(number)s of overlay %(overlay)s: the store lacks its list of files."
            )
            missing = None
        else:
            missing = len(files - there)
            text = _(
                "Version %(number)s of overlay %(overlay)s: the store lacks %(missing)s of its files."
            )
        if missing != 0:
            yield text % {
                "number": version.number,
                "overlay": version.overlay.name,
                "missing": missing,
            }
