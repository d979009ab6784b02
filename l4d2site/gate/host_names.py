"""The entries of ALLOWED_HOSTS: which ones can match, and a name that satisfies one of them."""

import re
from collections.abc import Sequence

# The characters that Django accepts in a Host header. `*` stands for all names, a dot at the beginning for a
# domain with all names below it. Django removes a dot at the end of the header, so no entry with one matches.
_ENTRY = re.compile(r"\*|\.?[a-z0-9-](?:[a-z0-9.-]*[a-z0-9-])?|\[[0-9a-f:.]+\]", re.IGNORECASE)


def is_host_name(entry: str) -> bool:
    """Return whether an entry can match a name that a browser sends. One with https:// or a port cannot."""
    return bool(_ENTRY.fullmatch(entry))


def find_allowed_name(entries: Sequence[str]) -> str:
    """Return a name that one of the entries allows, which need not lead to this machine."""
    names = (entry for entry in entries if is_host_name(entry) and not entry.startswith("*"))
    return next(names, "localhost").removeprefix(".")  # A domain is allowed with what is below it.
