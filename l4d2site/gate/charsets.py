"""Keeps strangers from filling Python's memory with names of charsets that do not exist.

A Content-Type may name any charset, and each header in a form several. For a name that it does not know, Python
looks for a module, and remembers for good that there is none.
"""

import codecs
import encodings
import encodings.aliases
import pkgutil

_NAMES = {
    *encodings.aliases.aliases,
    *(one.name for one in pkgutil.iter_modules(encodings.__path__)),
}


def find_codec(name: str) -> codecs.CodecInfo | None:
    """Return what Python's own search returns for a normalized name, but do not search for an unknown one."""
    is_known = name in _NAMES or name.replace(".", "_") in _NAMES
    return encodings.search_function(name) if is_known else None


def forget_unknown_charsets() -> None:
    """Let this process look for charsets with `find_codec`. Codecs that libraries add are found as before."""
    codecs.register(find_codec)
    codecs.unregister(encodings.search_function)
