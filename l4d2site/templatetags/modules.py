"""The tags by which a page names all of its JavaScript modules, and its style sheets, at once.

A browser finds an import only in the module that has it: without this, modules come one behind the other, and
each costs the time to the panel and back. Finding the addresses of so many files costs 3 ms of CPU, so
what was found is kept.
"""

import posixpath
import re
from functools import lru_cache
from pathlib import Path

from django import template
from django.conf import settings
from django.contrib.staticfiles import finders
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

register = template.Library()

_IMPORT = re.compile(r"""^import\b[^"';]*["'](\.[^"']+)["'];""", re.MULTILINE)


@register.simple_tag
def module_preloads(entry: str) -> SafeString:
    """Return a link for each module that the module `entry` needs."""
    return link_modules(entry, settings.STATIC_URL)


@register.simple_tag
def style_sheets() -> SafeString:
    """Return the links of `_styles.html`."""
    return link_style_sheets(settings.STATIC_URL)


# With the path of all static files: it depends on the one that the panel is served below.


@lru_cache
def link_modules(entry: str, _static_url: str) -> SafeString:
    """Return what `module_preloads` does."""
    links = [(static(name),) for name in list_modules(entry)]
    return format_html_join(
        "\n  ", '<link rel="modulepreload" href="{}" fetchpriority="low">', links
    )


@lru_cache
def link_style_sheets(_static_url: str) -> SafeString:
    """Return what `style_sheets` does."""
    return render_to_string("_styles.html")


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
