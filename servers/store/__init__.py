"""What the panel itself keeps of overlays: their files, and the versions that are made of these."""

from servers.store.addresses import is_signed, sign_blob_path
from servers.store.panel_store import get_store
from servers.store.versions import (
    FileChange,
    VersionRefusedError,
    compare,
    find_native,
    make_version,
    read_files,
)

__all__ = [
    "FileChange",
    "VersionRefusedError",
    "compare",
    "find_native",
    "get_store",
    "is_signed",
    "make_version",
    "read_files",
    "sign_blob_path",
]
