"""The page that a browser gets when the gate refuses: complete in itself, without template or static file."""

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from typing import Any

from django.utils.translation import gettext as _

_NO_WEIGHT = re.compile(rb"q=0(?:\.0*)?")

# The panel's colours and masthead, in the few lines that this page needs (static/css/tokens.css, masthead.css).
STYLE = """
:root { color-scheme: light dark; }
body { margin: 0; background: #f3f1ec; color: #1e1b17; font: 1rem/1.5 system-ui, sans-serif; }
header { padding: 0.5rem 1rem; border-block-end: 4px solid #b3261e; background: #211e19; }
header a { color: #efebe3; font-weight: 700; letter-spacing: 0.12em; line-height: 2.25; text-decoration: none;
  text-transform: uppercase; }
main { max-width: 34rem; margin: 3rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.375rem; line-height: 1.35; overflow-wrap: anywhere; }
main a { color: inherit; }
@media (prefers-color-scheme: dark) { body { background: #1a1814; color: #ece7dd; } }
"""

CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>{title} · Saferoom</title>
  <style>{style}</style>
</head>
<body>
  <header><a href="/">Saferoom</a></header>
  <main>
    <h1>{sentence}</h1>
    <p>{hint}</p>
    <p><a href="/">{panel}</a></p>
  </main>
</body>
</html>
"""


def wants_page(scope: Mapping[str, Any]) -> bool:
    """Return whether a browser asks for a page. Scripts, streams and other clients do not ask for HTML."""
    return any(
        is_html(kind)
        for name, value in scope["headers"]
        if name == b"accept"
        for kind in value.lower().split(b",")
    )


def is_html(kind: bytes) -> bool:
    """Return whether one of the types in an Accept header is HTML, and not with the weight 0."""
    name, *parameters = (part.strip() for part in kind.split(b";"))
    return name == b"text/html" and not any(map(_NO_WEIGHT.fullmatch, parameters))


def render_page(sentence: str, *, is_post: bool) -> bytes:
    """Return the page that says `sentence`, and how to go on."""
    hint = _("Reload this page to try again.")
    if is_post:
        hint = _("Your browser’s Back button leads to the form, usually with what you typed.")
    page = PAGE.format(
        title=escape(_("Not done")),
        style=STYLE,
        sentence=escape(sentence),
        hint=escape(hint),
        panel=escape(_("To the panel")),
    )
    return page.encode()
