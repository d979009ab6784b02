"""Which database a store belongs to. To another one, none of its files would seem to be needed."""

import contextlib
import secrets
from collections.abc import Collection
from functools import partial
from typing import Any

from django.db import connection, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.utils.translation import gettext as _

from servers.models import OverlayVersion
from servers.store.panel_store import BlobError, get_store

_OWNER = "database"
"""The file in the store that names its database."""


class ForeignStoreError(BlobError):
    """The store belongs to another database than the one that DATABASE_URL names, or may do so."""


def claim_store(*, from_another: bool = True) -> None:
    """Record that the store, if it is here, belongs to this database.

    If not `from_another`, that is done only for a store that names none.
    """
    root = get_store().root
    if root.exists() and (from_another or not _read_owner()):
        # Whoever reads it sees all of it. Emptied by a power cut, it names none, and is written again.
        draft = root / f".{_OWNER}-{secrets.token_hex(8)}"
        draft.write_text(f"{_identify_database()}\n", "utf-8")
        draft.chmod(0o660)  # For the account of the web process and that of the worker.
        draft.replace(root / _OWNER)


def require_own_store(needed: Collection[str]) -> None:
    """Raise `ForeignStoreError` if the store, which has files, may belong to another database.

    `needed` are the files of this database's versions. A store of an earlier version names no database: it is
    taken to be this one's if that needs any file.
    """
    owner = _read_owner()
    if owner == _identify_database():
        return
    path = get_store().root / _OWNER
    if owner:
        raise ForeignStoreError(
            _(
                "The store %(store)s belongs to another database than that of DATABASE_URL. If the other one "
                "is gone for good, and this one takes its place, remove %(path)s."
            )
            % {"store": path.parent, "path": path}
        )
    if not needed:
        raise ForeignStoreError(
            _(
                "The store %(store)s has files, and the database of DATABASE_URL needs none of them: it may be "
                "another panel's."
            )
            % {"store": path.parent}
        )
    claim_store()


def _identify_database() -> str:
    """Return what no two databases have in common: when the first of their tables was made."""
    applied = MigrationRecorder(connection).applied_migrations().values()
    return min((one.applied.isoformat() for one in applied), default="")


def _read_owner() -> str:
    with contextlib.suppress(FileNotFoundError):
        return (get_store().root / _OWNER).read_text("utf-8").strip()
    return ""


@receiver(post_save, sender=OverlayVersion)
def note_owner(**_kwargs: Any) -> None:
    """Have a store's first version name its database."""
    transaction.on_commit(partial(claim_store, from_another=False), robust=True)
