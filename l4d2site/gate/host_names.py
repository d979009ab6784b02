"""The entries of ALLOWED_HOSTS: which ones can be meant, and a name that satisfies one of them."""

import re
from collections.abc import Sequence

# The characters that Django accepts in a Host header. `*` stands for all names, a dot at the beginning for a
# domain with all names below it.
_ENTRY = re.compile(r"\*|\.?[a-z0-9-][a-z0-9.-]*|\[[0-9a-f:.]+\]", re.IGNORECASE)


def are_host_names(entries: Sequence[str]) -> bool:
    """Return whether there are entries, and each of them can match a name that a browser sends."""
    return bool(entries) and all(_ENTRY.fullmatch(entry) for entry in entries)


def find_allowed_name(entries: Sequence[str]) -> str:
    """Return a name that one of the entries allows, which need not lead to this machine."""
    name = next((entry for entry in entries if not entry.startswith("*")), "localhost")
    return name.removeprefix(".")  # A domain is allowed with what is below it.
