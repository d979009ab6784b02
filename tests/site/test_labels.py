"""What a keyboard or a screen reader comes to has a name, and only elements that can have one are given one."""

import re
from pathlib import Path

import pytest
from django.conf import settings

TEMPLATES = sorted((settings.BASE_DIR / "templates").rglob("*.html"))
MARKUP = re.compile(r"\{#.*?#\}|\{% comment %\}.*?\{% endcomment %\}|\{%.*?%\}", re.DOTALL)
ELEMENT = re.compile(r"<(\w+)\b([^>]*)>")
LABEL = re.compile(r"\baria-label(?:ledby)?=")
NAMELESS = frozenset(
    {
        *(
            "b",
            "bdi",
            "caption",
            "code",
            "dd",
            "del",
            "div",
            "dt",
            "em",
            "i",
            "ins",
            "label",
            "legend",
        ),
        *("li", "mark", "p", "pre", "small", "span", "strong", "sub", "sup", "time"),
    }
)
"""Elements whose own role allows no name: https://www.w3.org/TR/html-aria/#docconformance-naming."""
MOST_LINE_CHARS = 160


def find_nameless(source: str) -> list[str]:
    """Return the elements of a template that take the focus without a name, or have one that is not heard."""
    found = []
    for element, attributes in ELEMENT.findall(MARKUP.sub(" ", source)):
        has_role, has_label = "role=" in attributes, LABEL.search(attributes) is not None
        takes_focus = 'tabindex="0"' in attributes
        if (takes_focus and not (has_role and has_label)) or (
            has_label and element in NAMELESS and not has_role
        ):
            found.append(f"<{element}{attributes}>")
    return found


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_what_takes_the_focus_has_a_name(path: Path) -> None:
    assert find_nameless(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        '<pre class="code" tabindex="0">{{ text }}</pre>',
        '<pre class="answer" tabindex="0" aria-label="{% translate "Answer" %}">{{ text }}</pre>',
        '<span aria-label="{{ label }}">–</span>',
    ],
)
def test_an_element_without_a_name_is_found(source: str) -> None:
    assert find_nameless(source)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_the_lines_of_a_template_can_be_read(path: Path) -> None:
    assert [line for line in path.read_text().splitlines() if len(line) > MOST_LINE_CHARS] == []
