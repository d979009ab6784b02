"""Suggested names, before people have chosen one."""

import re
from collections.abc import Collection
from itertools import count

from django.contrib.auth.models import User

from servers.models import Server

BASE_CHARS = 24
"""Leaves space for a number: a name may have 32 characters."""


def first_free_name(taken: Collection[str], base: str) -> str:
    """Return the first of `base`, `base-2`, `base-3`, … that is not among `taken`."""
    if base not in taken:
        return base
    return next(name for number in count(2) if (name := f"{base}-{number}") not in taken)


def suggest_server_name(user: User) -> str:
    """Return an unused name for the next server of `user`: their own, with a number."""
    letters = re.sub(r"[^a-z0-9]+", "-", user.get_username().lower()).strip("-")
    base = f"{letters[:BASE_CHARS].strip('-') or 'server'}-"
    taken = set(Server.objects.filter(name__startswith=base).values_list("name", flat=True))
    return next(name for number in count(1) if (name := f"{base}{number}") not in taken)
