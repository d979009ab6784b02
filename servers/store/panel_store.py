"""The panel's own store of overlays' files: one folder for the web process and the worker beside it."""

from django.conf import settings

from hostops.blobs import BlobError, BlobFolder

__all__ = ["BlobError", "get_store"]


def get_store() -> BlobFolder:
    """Return the store that the settings name. It may not exist yet."""
    return BlobFolder(settings.CONTENT_ROOT)
