"""The tag by which a page names all of its JavaScript modules at once.

A browser finds an import only in the module that has it: without this, modules come one behind the other, and
each costs the time to the panel and back.
"""

import posixpath
import re
from functools import lru_cache
from pathlib import Path

from django import template
from django.contrib.staticfiles import finders
from django.templatetags.static import static
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

register = template.Library()

_IMPORT = re.compile(r"""^import\b[^"';]*["'](\.[^"']+)["'];""", re.MULTILINE)


@register.simple_tag
def module_preloads(entry: str) -> SafeString:
    """Return a link for each module that the module `entry` needs."""
    links = [(static(name),) for name in list_modules(entry)]
    return format_html_join(
        "\n  ", '<link rel="modulepreload" href="{}" fetchpriority="low">', links
    )


@lru_cache
def list_modules(entry: str) -> tuple[str, ...]:
    """Return the modules that `entry` imports, and those that they import, each once; as a process began."""
    found: dict[str, None] = {}
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        for imported in _IMPORT.findall(read_source(name)):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), imported))
            if path not in found:
                found[path] = None
                waiting.append(path)
    return tuple(sorted(found))


def read_source(name: str) -> str:
    """Return the text of a static file."""
    path = finders.find(name)
    if path is None:
        raise ValueError(f"The module {name} is imported and not there.")
    return Path(path).read_text()
