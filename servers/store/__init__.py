"""What the panel itself keeps of overlays: their files, versions made of these, and what is being uploaded."""

from servers.store.addresses import is_signed, sign_blob_path
from servers.store.conflicts import Conflicts, find_conflicts
from servers.store.downloads import send_file
from servers.store.edits import FileChangedError, go_back, remove_file, rename_file, save_file
from servers.store.panel_store import BlobError, get_store
from servers.store.removals import (
    find_holders,
    find_overlay_holders,
    remove_overlay,
    remove_version,
)
from servers.store.sweeping import Swept, sweep_store, sweep_store_daily
from servers.store.texts import (
    MAX_TEXT_BYTES,
    NEW_TEXT,
    TEXT_SUFFIXES,
    NoTextError,
    Text,
    diff_texts,
    may_be_text,
    read_text,
)
from servers.store.trees import Folder, find_folder, parent_of
from servers.store.upload_files import (
    NO_SPACE,
    free_bytes,
    open_file,
    path_of,
    read_offset,
    remove_files,
    require_room,
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
    NewerVersionError,
    VersionRefusedError,
    compare,
    make_version,
    read_files,
)

__all__ = [
    "MAX_TEXT_BYTES",
    "MOST_OPEN",
    "NEW_TEXT",
    "NO_SPACE",
    "TEXT_SUFFIXES",
    "BlobError",
    "Conflicts",
    "FileChange",
    "FileChangedError",
    "Folder",
    "NewerVersionError",
    "NoTextError",
    "Swept",
    "Text",
    "UploadRefusedError",
    "VersionRefusedError",
    "add_part",
    "begin_upload",
    "compare",
    "diff_texts",
    "discard",
    "find_conflicts",
    "find_folder",
    "find_gap",
    "find_holders",
    "find_overlay_holders",
    "free_bytes",
    "get_store",
    "go_back",
    "is_signed",
    "make_version",
    "may_be_text",
    "note_received",
    "open_file",
    "parent_of",
    "path_of",
    "read_files",
    "read_offset",
    "read_text",
    "remove_abandoned",
    "remove_file",
    "remove_files",
    "remove_overlay",
    "remove_part",
    "remove_version",
    "rename_file",
    "require_room",
    "save_file",
    "send_file",
    "sign_blob_path",
    "sweep_store",
    "sweep_store_daily",
    "sync_file",
]
