"""What the panel itself keeps of overlays: their files, and the versions that are made of these."""

from servers.store.panel_store import get_store
from servers.store.upload_files import (
    NO_SPACE,
    free_bytes,
    open_file,
    path_of,
    read_offset,
    remove_files,
    sync_file,
)
from servers.store.uploads import (
    MOST_OPEN,
    UploadRefusedError,
    add_part,
    begin_upload,
    discard,
    find_gap,
    note_received,
    remove_abandoned,
    remove_part,
)
from servers.store.versions import (
    FileChange,
    LatestChangedError,
    VersionRefusedError,
    compare,
    find_native,
    make_version,
    read_files,
)

__all__ = [
    "MOST_OPEN",
    "NO_SPACE",
    "FileChange",
    "LatestChangedError",
    "UploadRefusedError",
    "VersionRefusedError",
    "add_part",
    "begin_upload",
    "compare",
    "discard",
    "find_gap",
    "find_native",
    "free_bytes",
    "get_store",
    "make_version",
    "note_received",
    "open_file",
    "path_of",
    "read_files",
    "read_offset",
    "remove_abandoned",
    "remove_files",
    "remove_part",
    "sync_file",
]
