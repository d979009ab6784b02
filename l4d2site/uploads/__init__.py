"""The door by which files come in: tus 1.0, beside Django, and written to the disk as the bytes come."""

from l4d2site.uploads.door import UploadDoor

__all__ = ["UploadDoor"]
