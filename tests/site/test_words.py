"""Every text that people read goes through gettext: what does not is found here."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.conf import settings

TEMPLATES = sorted((settings.BASE_DIR / "templates").rglob("*.html"))
TRANSLATED = re.compile(
    r"\{%\s*blocktrans(?:late)?\b.*?\{%\s*endblocktrans(?:late)?\s*%\}", re.DOTALL
)
REMARKS = re.compile(r"\{%\s*comment\b.*?\{%\s*endcomment\s*%\}|\{#.*?#\}", re.DOTALL)
ATTRIBUTE_BLOCKS = re.compile(r"\{% block body_class %\}.*?\{% endblock %\}")
TAGS = re.compile(r"\{%.*?%\}|\{\{.*?\}\}", re.DOTALL)
SPEAKING = (
    *("servers", "jobs/pages", "jobs/queue", "jobs/talk"),
    *("l4d2site/accounts", "l4d2site/gate", "l4d2site/health", "l4d2site/uploads"),
)
SPEAKING_MODULES = (
    *("jobs/admin.py", "jobs/context_processors.py", "jobs/models.py", "jobs/titles.py"),
    *("l4d2site/admin_requests.py", "l4d2site/admin_site.py", "l4d2site/context_processors.py"),
    *("l4d2site/errors.py", "l4d2site/form_fields.py", "l4d2site/outages.py"),
)
"""Where what modules say ends on pages. What commands print, and what a worker logs, is for whoever runs it."""
MODULES = sorted(
    path
    for place in (*SPEAKING, *SPEAKING_MODULES)
    for path in [
        settings.BASE_DIR / place,
        *(settings.BASE_DIR / place).rglob("*.py"),
    ]
    if path.suffix == ".py" and not {"migrations", "management"} & set(path.parts)
)
SCRIPTS = sorted((settings.BASE_DIR / "l4d2site/static/js").rglob("*.js"))
GETTEXT_CALL = re.compile(r"""\bn?gettext\((?:[^()"]|"[^"]*")*\)""")
GETTEXT = {"gettext", "gettext_lazy", "gettext_noop", "ngettext", "_"}
SENTENCE = re.compile(r"\s*[A-Z“{].*\s.*[.?!]\s*", re.DOTALL)
BRAND = "Saferoom"
SPOKEN_ATTRIBUTES = {"alt", "aria-label", "aria-description", "data-label", "placeholder", "title"}
MACHINE_ELEMENTS = {"code", "pre", "kbd", "svg", "script", "style"}
"""What is in these is for machines, whatever language people read."""


def find_in(paths: list[Path], find: Callable[[str], Iterable[object]]) -> dict[str, list[object]]:
    """Return what is found in the texts of the files, by their names."""
    assert paths
    found = {str(path): list(find(path.read_text())) for path in paths}
    return {path: faults for path, faults in found.items() if faults}


@cache
def parse(source: str) -> ast.Module:
    """Parse a module once for all tests."""
    return ast.parse(source)


class Words(HTMLParser):
    """Collects the words of a page that are neither markup nor for machines."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._machine = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at what the attributes of an element say to people."""
        if tag in MACHINE_ELEMENTS:
            self._machine += 1
        self.found += [value for name, value in attrs if value and name in SPOKEN_ATTRIBUTES]

    def handle_endtag(self, tag: str) -> None:
        """Come out of an element that is for machines."""
        if tag in MACHINE_ELEMENTS and self._machine:
            self._machine -= 1

    def handle_data(self, data: str) -> None:
        """Look at a text."""
        if not self._machine:
            self.found.append(data)


def untranslated(source: str) -> list[str]:
    """Return the texts of a template that gettext never sees."""
    # In tags, quotes of either kind may stand within an attribute's: they go before the markup is read.
    for pattern in (REMARKS, TRANSLATED, ATTRIBUTE_BLOCKS, TAGS):
        source = pattern.sub(" ", source)
    words = Words()
    words.feed(source)
    words.close()
    texts = (" ".join(text.replace(BRAND, "").split()) for text in words.found)
    return [text for text in texts if re.search(r"[^\W\d_]{2,}", text)]


def test_a_template_says_nothing_past_gettext() -> None:
    assert find_in(TEMPLATES, untranslated) == {}


DEFAULT = re.compile(r"""\|default(?:_if_none)?:(?:"([^"]*)"|'([^']*)')""")
NO_WORDS = {BRAND, "code", "none"}
"""Defaults of an attribute, or that are the same in every language."""


def untranslated_defaults(source: str) -> list[str]:
    """Return what a template shows in the place of nothing, and gettext never sees."""
    defaults = {"".join(groups) for groups in DEFAULT.findall(source)}
    return [one for one in defaults - NO_WORDS if re.search(r"[^\W\d_]{2,}", one)]


def test_a_template_translates_what_stands_for_nothing() -> None:
    assert find_in(TEMPLATES, untranslated_defaults) == {}


LABEL = re.compile(r'aria-label="(?:[^"{]|\{[^"]*?\})*"|visually-hidden">[^<]*<')


def labels_in_two_parts(source: str) -> list[str]:
    """Return the labels of a template that nobody would say, such as “Cancel: Delete files”."""
    labels = LABEL.findall(REMARKS.sub("", source))
    return [one for one in labels if re.search(r": ?\{\{|\}: |>\s*:", one)]


def test_a_label_is_not_two_parts_with_a_colon() -> None:
    assert find_in(TEMPLATES, labels_in_two_parts) == {}


MESSAGE = re.compile(
    r"""\{%\s*translate\s+(?:"([^"]*)"|'([^']*)')|"""
    r"""\{%\s*blocktranslate\b[^%]*?%\}(.*?)\{%\s*endblocktranslate""",
    re.DOTALL,
)
LINKS = frozenset({"and", "at", "by", "for", "from", "in", "of", "on", "or", "to", "until", "with"})
"""Words that say nothing by themselves."""


def torn(source: str) -> list[str]:
    """Return the texts of a template that are the rest of a sentence which another one has begun.

    Other languages have another order of words, so a sentence is translated as a whole.
    """
    texts = ("".join(groups).strip() for groups in MESSAGE.findall(REMARKS.sub("", source)))
    return [text for text in texts if text in LINKS or text.startswith((":", ";", "."))]


def test_a_template_tears_no_sentence() -> None:
    assert find_in(TEMPLATES, torn) == {}


@pytest.mark.parametrize(
    "source",
    [
        '{% translate "Log" %} {% translate "of" %} {{ name }}',
        "{% translate 'by' %} {{ name }}",
        "{% blocktranslate with line=line %}\n : back to {{ line }}.\n{% endblocktranslate %}",
    ],
)
def test_a_torn_sentence_is_found(source: str) -> None:
    assert torn(source)


def spoken(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the whole sentences of a module with their lines, but for docstrings, logs and translated ones."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Call) and is_translated_or_logged(node.func):
            continue
        text = read_text(node)
        if text is None:
            yield from spoken(node)
        elif SENTENCE.fullmatch(text) and isinstance(node, ast.expr):
            yield node.lineno, text


def is_translated_or_logged(called: ast.expr) -> bool:
    """Return whether what is called takes texts that are translated, or that no page shows."""
    if isinstance(called, ast.Attribute):
        return isinstance(called.value, ast.Name) and called.value.id == "logger"
    return isinstance(called, ast.Name) and called.id in GETTEXT


def read_text(node: ast.AST) -> str | None:
    """Return the text that a literal is, with `{}` for what is put in; None if it is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
        )
    return None


def spoken_by_script(source: str) -> list[str]:
    """Return the texts of a script that people would read, and gettext never sees."""
    rest = GETTEXT_CALL.sub(" ", re.sub(r"^\s*//.*$", "", source, flags=re.MULTILINE))
    sentences = re.findall(r"""["`]([A-Z][a-z]+(?: [^"`]*)? [^"`]*)["`]""", rest)
    return [*sentences, *re.findall(r"(?:textContent|ariaLabel|title) = (?:`|\"[A-Za-z]).*", rest)]


def test_a_script_says_nothing_past_gettext() -> None:
    assert find_in(SCRIPTS, spoken_by_script) == {}


@pytest.mark.parametrize(
    "line",
    [
        'const LOST = "The panel is away. Try again.";',
        "button.textContent = `Copy line ${first}`;",
        'box.ariaLabel = "Text";',
        'window.prompt("Copy it from here:", text);',
    ],
)
def test_a_text_of_a_script_is_found(line: str) -> None:
    assert spoken_by_script(line)


def test_a_module_says_no_sentence_past_gettext() -> None:
    assert find_in(MODULES, lambda source: spoken(parse(source))) == {}


SETTINGS = {"index_title", "search_help_text", "verbose_name", "verbose_name_plural"}
LABELLING = {"description", "empty_label", "help_text", "label", "short_description"} | SETTINGS
"""Arguments and attributes whose value Django shows beside something; `SETTINGS` are set in a class."""
FOR_MACHINES = re.compile(r"[\w.-]*/|stdout|stderr")
"""Folders, and the names of streams."""


def labels_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the labels of a module that gettext never sees: of choices, columns, fields and the admin site."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef() if any("Choices" in ast.unparse(base) for base in node.bases):
                choices = (one.value for one in node.body if isinstance(one, ast.Assign))
                shown = [one.elts[-1] for one in choices if isinstance(one, ast.Tuple)]
            case ast.keyword() if node.arg in LABELLING:
                shown = [node.value]
            case ast.Assign() if any(is_label(target) for target in node.targets):
                shown = [node.value]
            case ast.Call() if is_column(node.func):
                shown = node.args[:1]
            case _:
                continue
        for value in shown:
            yield from words_of(value)


def is_label(target: ast.expr) -> bool:
    """Return whether what is set is shown beside something."""
    return name_of(target) in (LABELLING if isinstance(target, ast.Attribute) else SETTINGS)


def is_column(called: ast.expr) -> bool:
    """Return whether a call makes a column of a table whose first argument is its name for people."""
    name = name_of(called)
    is_of_models = isinstance(called, ast.Attribute) and name_of(called.value) == "models"
    return is_of_models and name.endswith("Field")


def fragments_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield what is put into a translated sentence, and is itself translated by nobody."""
    for scope in ast.walk(tree):
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
            values = [
                value
                for node in ast.walk(scope)
                if isinstance(node, ast.BinOp) and isinstance(node.right, ast.Dict)
                for value in node.right.values
            ]
            given = {name_of(value) for value in values if isinstance(value, ast.Name)}
            values += [
                node.value
                for node in ast.walk(scope)
                if isinstance(node, ast.Assign) and given.intersection(map(name_of, node.targets))
            ]
            for value in values:
                yield from words_of(value)


def name_of(node: ast.expr) -> str:
    """Return the name of a variable, or of an attribute; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def words_of(value: ast.expr) -> Iterator[tuple[int, str]]:
    """Yield the texts with words that an expression may be, or be made of, but for translated ones."""
    text = read_text(value)
    if text is not None:
        if re.search(r"[^\W\d_]{2,}", text) and not FOR_MACHINES.fullmatch(text):
            yield value.lineno, text
    elif isinstance(value, ast.IfExp | ast.BoolOp | ast.BinOp | ast.List | ast.Tuple):
        parts = [one for one in ast.iter_child_nodes(value) if isinstance(one, ast.expr)]
        for part in parts[1:] if isinstance(value, ast.IfExp) else parts:
            yield from words_of(part)
    elif isinstance(value, ast.Call) and name_of(value.func) == "join":
        for part in value.args:
            yield from words_of(part)


def test_a_module_labels_nothing_past_gettext() -> None:
    assert find_in(MODULES, lambda source: labels_of(parse(source))) == {}


def test_a_module_puts_no_words_into_a_translated_sentence() -> None:
    assert find_in(MODULES, lambda source: fragments_of(parse(source))) == {}


@pytest.mark.parametrize(
    "source",
    [
        'class State(models.TextChoices):\n    QUEUED = "queued", "queued"',
        'port = models.IntegerField("port of it", null=True)',
        'port = models.IntegerField(help_text="Or none.")',
        'self.fields["name"].label = "Name"',
        '@admin.display(description="box")\ndef box(self): ...',
    ],
)
def test_a_label_past_gettext_is_found(source: str) -> None:
    assert list(labels_of(ast.parse(source)))


@pytest.mark.parametrize(
    "line",
    [
        'return _("It is %(state)s.") % {"state": "queued" if is_new else "running"}',
        'doing = "is queued" if is_new else "runs"\n    return _("It %(doing)s.") % {"doing": doing}',
        'return text % {"which": f"it is job {pk}"}',
        'return _("Build %(build)s.") % {"build": build or "none"}',
    ],
)
def test_words_put_into_a_sentence_are_found(line: str) -> None:
    assert list(fragments_of(ast.parse(f"def tell():\n    {line}")))


def test_no_text_for_people_names_a_page_of_the_repository() -> None:
    found = []
    for room in ("hostops", "jobs", "l4d2site", "servers", "templates"):
        for path in (settings.BASE_DIR / room).rglob("*"):
            if path.suffix == ".html":
                texts = [path.read_text()]
            elif path.suffix == ".py":
                nodes = list(ast.walk(parse(path.read_text())))
                remarks = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
                constants = [node for node in nodes if isinstance(node, ast.Constant)]
                texts = [str(node.value) for node in constants if id(node) not in remarks]
            else:
                continue
            found += [str(path) for text in texts if re.search(r"docs/\w+\.md", text)]
    assert not found
