"""What comments and docstrings name is there."""

import re
from pathlib import Path

import pytest
from django.conf import settings

ROOMS = ("servers", "jobs", "hostops", "l4d2site", "deploy")
NAME = re.compile(rf"`((?:{'|'.join(ROOMS)})(?:\.\w+)+)`")
MODULES = sorted(
    path
    for room in ROOMS
    for path in (settings.BASE_DIR / room).rglob("*.py")
    if "migrations" not in path.parts
)


def is_there(name: str) -> bool:
    """Return whether a module of this name exists, with what the rest of the name is in it."""
    module, rest = settings.BASE_DIR, name.split(".")
    while rest and ((module / rest[0]).is_dir() or (module / f"{rest[0]}.py").is_file()):
        module /= rest.pop(0)
    source = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
    text = source.read_text()
    return all(re.search(rf"\b{word}\b", text) for word in rest)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_what_a_remark_names_exists(path: Path) -> None:
    assert [name for name in NAME.findall(path.read_text()) if not is_there(name)] == []
