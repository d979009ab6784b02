"""What the panel itself keeps of overlays: their files, and the versions that are made of these."""

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
from servers.store.versions import (
    FileChange,
    NewerVersionError,
    VersionRefusedError,
    compare,
    find_native,
    make_version,
    read_files,
)

__all__ = [
    "MAX_TEXT_BYTES",
    "NEW_TEXT",
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
    "VersionRefusedError",
    "compare",
    "diff_texts",
    "find_conflicts",
    "find_folder",
    "find_holders",
    "find_native",
    "find_overlay_holders",
    "get_store",
    "go_back",
    "make_version",
    "may_be_text",
    "parent_of",
    "read_files",
    "read_text",
    "remove_file",
    "remove_overlay",
    "remove_version",
    "rename_file",
    "save_file",
    "send_file",
    "sweep_store",
    "sweep_store_daily",
]
