"""Names that are offered to people before they have chosen one."""

import re
from itertools import count
from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet

from servers.models import Server

BASE_CHARS = 24
"""Leaves room for a number: a name has 32 characters."""


def first_free_name(rows: QuerySet[Any], base: str) -> str:
    """Return `base`, or `base-2`, `base-3`, …: the first that none of `rows` has."""
    taken = set(rows.filter(name__startswith=base).values_list("name", flat=True))
    if base not in taken:
        return base
    return next(name for number in count(2) if (name := f"{base}-{number}") not in taken)


def suggest_server_name(user: User) -> str:
    """Return a name for the next server of `user` that none has yet: their own, with a number."""
    letters = re.sub(r"[^a-z0-9]+", "-", user.get_username().lower()).strip("-")
    base = f"{letters[:BASE_CHARS].strip('-') or 'server'}-"
    taken = set(Server.objects.filter(name__startswith=base).values_list("name", flat=True))
    return next(name for number in count(1) if (name := f"{base}{number}") not in taken)
