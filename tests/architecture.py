"""Holds docs/architecture.md and docs/glossary.md to the code: `script/lint` runs this.

Each path and each `path:name` on the pages must exist, each module of the rooms must be listed, and the
pictures must show the layers of the import contracts.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parents[1]
PAGE = PROJECT_DIR / "docs/architecture.md"
GLOSSARY = PROJECT_DIR / "docs/glossary.md"
PATH = re.compile(r"`([\w./]+(?:/|\.py|\.js))(?::(\w+))?`")
ROOM_ROW = re.compile(r"^\| `([\w/]+)/` \|[^|]*\| ([^|]*) \|$", re.MULTILINE)


def find_faults(page: str) -> Iterator[str]:
    """Yield what the page says and the code does not, or the other way round."""
    yield from find_missing_names(page)
    yield from find_missing_modules(page)
    settings = tomllib.loads((PROJECT_DIR / "pyproject.toml").read_text())
    for contract in settings["tool"]["importlinter"]["contracts"]:
        for package in contract.get("containers", []):
            if contract["layers"] != drawn_layers(page, package):
                yield f"the picture of {package} is not what its import contract says"


def find_missing_names(page: str) -> Iterator[str]:
    """Yield the paths and names on a page that the code does not have."""
    for path, name in sorted(set(PATH.findall(page))):
        if not (PROJECT_DIR / path).exists():
            yield f"{path} does not exist"
        elif name and name not in defined_names(PROJECT_DIR / path):
            yield f"{path} defines no {name}"


def find_missing_modules(page: str) -> Iterator[str]:
    """Yield the modules of `jobs`, `servers` and `hostops` that the page leaves out, and the rooms."""
    listed = dict(ROOM_ROW.findall(page))
    for package in ("jobs", "servers", "hostops"):
        for path in sorted((PROJECT_DIR / package).glob("*")):
            place = path.relative_to(PROJECT_DIR).as_posix()
            is_room = (path / "__init__.py").exists() and path.name not in (
                "migrations",
                "management",
            )
            if is_room and place not in listed:
                yield f"the room {place} is not listed"
            elif is_room and path.name != "simulator":
                there = {module.stem for module in path.glob("[!_]*.py")}
                if set(re.findall(r"`(\w+)`", listed[place])) != there:
                    yield f"{place} has the modules {', '.join(sorted(there))}"
            elif path.suffix == ".py" and path.stem != "__init__" and f"`{place}`" not in page:
                yield f"{place} is not mentioned"


def defined_names(module: Path) -> set[str]:
    """Return the names of the functions and classes at a module's top level."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.parse(module.read_text()).body if isinstance(node, kinds)}


def drawn_layers(page: str, package: str) -> list[str]:
    """Return the lines of the picture below a package's heading."""
    match = re.search(rf"^## Inside `{package}`\s+```\n(.*?)```", page, re.MULTILINE | re.DOTALL)
    return [line.strip() for line in match[1].splitlines()] if match else []


if __name__ == "__main__":
    found = {
        PAGE: list(find_faults(PAGE.read_text())),
        GLOSSARY: list(find_missing_names(GLOSSARY.read_text())),
    }
    for path, faults in found.items():
        for fault in faults:
            print(f"{path.relative_to(PROJECT_DIR)}: {fault}", file=sys.stderr)
    sys.exit(any(found.values()))
