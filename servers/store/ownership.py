"""Which database a store belongs to. To another one, none of its files would seem to be needed."""

import contextlib
import secrets
from collections.abc import Collection
from typing import Any

from django.db import connection, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from servers.models import OverlayVersion
from servers.store.panel_store import BlobError, get_store

SWEPT = "swept"
"""The file in the store whose time is that of the last sweep."""

_OWNER = "database"
"""The file in the store that names its database."""
_CURE = gettext_lazy(
    "If it belongs to this one all the same, run `manage.py prunecontent --claim`."
)


class ForeignStoreError(BlobError):
    """The store belongs to another database than the one that DATABASE_URL names, or may do so."""


def identify_database() -> str:
    """Return what a database has in common only with its copies: when the first of its tables was made.

    Empty if it has none yet.
    """
    applied = MigrationRecorder(connection).applied_migrations().values()
    return min((one.applied.isoformat() for one in applied), default="")


def claim_store(*, instead_of: str = "") -> bool:
    """Make the store, if it is here, this database's: if it names none, or the one `instead_of`.

    Returns whether it is this database's now.
    """
    owner = _read_owner()
    if owner and owner != instead_of:
        return owner == identify_database()
    take_store()
    return True


def claim_old_store() -> None:
    """Claim a store that names no database, as earlier versions left it, if this one has an overlay."""
    if not _read_owner() and OverlayVersion.objects.exists():
        take_store()


def take_store() -> None:
    """Make the store, if it is here, this database's, whichever it names."""
    root = get_store().root
    if not root.exists():
        return
    # Readers see all of it or nothing. Emptied by a power cut, it names none, and is written again.
    draft = root / f".{_OWNER}-{secrets.token_hex(8)}"
    draft.write_text(f"{identify_database()}\n", "utf-8")
    draft.chmod(0o660)  # For the account of the web process and that of the worker.
    draft.replace(root / _OWNER)


def require_own_store(needed: Collection[str]) -> None:
    """Raise `ForeignStoreError` if the store, which has files, may belong to another database.

    `needed` are the files of this database's versions. A store of an earlier version names no database: it is
    taken to be this one's if that needs any file.
    """
    owner = _read_owner()
    if owner == identify_database():
        return
    store = get_store().root
    if owner:
        text = _("The store %(store)s belongs to another database than that of DATABASE_URL.")
        raise ForeignStoreError(f"{text % {'store': store}} {_CURE}")
    if not needed:
        text = _(
            "The store %(store)s has files, and the database of DATABASE_URL needs none of them: it may be "
            "another panel’s."
        )
        raise ForeignStoreError(f"{text % {'store': store}} {_CURE}")
    take_store()


def _read_owner() -> str:
    with contextlib.suppress(FileNotFoundError):
        return (get_store().root / _OWNER).read_text("utf-8").strip()
    return ""


def _claim_new_store() -> None:
    """Claim a store that was never swept: an older one may be another database's, and name none."""
    if not (get_store().root / SWEPT).exists():
        claim_store()


@receiver(post_save, sender=OverlayVersion)
def note_owner(**_kwargs: Any) -> None:
    """Have a new store's first version name its database."""
    transaction.on_commit(_claim_new_store, robust=True)
