"""The rules for names of hosts, overlays, blueprints and servers."""

import re

NAME_PATTERN = r"[a-z0-9][a-z0-9-]{0,31}"


def require_name(name: str) -> str:
    """Return `name`, or raise ValueError stating the rules."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(
            f"{name!r} is not a name: use 1 to 32 lower-case letters, digits and dashes, "
            "starting with a letter or digit."
        )
    return name
