"""Uploads of files: tus 1.0, beside Django, written to disk as the bytes arrive."""

from l4d2site.uploads.door import UploadDoor

__all__ = ["UploadDoor"]
