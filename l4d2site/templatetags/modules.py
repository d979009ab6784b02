"""Template tags that name all of a page's JavaScript modules, and its style sheets, at once.

A browser discovers an import only when it has the importing module: without this, modules load one after
another, and each costs a round trip to the panel. Finding the addresses of so many files takes 3 ms of CPU, so
the result is cached.
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
    """Return the links in `_styles.html`."""
    return link_style_sheets(settings.STATIC_URL)


# Cached by the path of static files, which depends on the path that the panel is served below.


@lru_cache
def link_modules(entry: str, _static_url: str) -> SafeString:
    """Return the result of `module_preloads`."""
    links = [(static(name),) for name in list_modules(entry)]
    return format_html_join(
        "\n  ", '<link rel="modulepreload" href="{}" fetchpriority="low">', links
    )


@lru_cache
def link_style_sheets(_static_url: str) -> SafeString:
    """Return the result of `style_sheets`."""
    return render_to_string("_styles.html")


@lru_cache
def list_modules(entry: str) -> tuple[str, ...]:
    """Return the modules that `entry` imports, directly or not, each once; cached for the whole process."""
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
