"""Reads the control file that tells the simulator how to behave; the package's docstring has its format."""

import fcntl
import json
import os
from collections.abc import Collection
from pathlib import Path

ENVIRONMENT_VARIABLE = "SAFEROOM_SIMULATOR"


class ControlError(Exception):
    """The control file cannot be used; the text says which part of it, and what it should be."""


class Section:
    """One program's part of the control file. Values are checked as they are taken out."""

    def __init__(self, path: Path | None, program: str, values: dict[str, object]) -> None:
        self.path = path
        self.program = program
        self._values = values

    def text(self, name: str, default: str) -> str:
        """Take out a text."""
        value = self._values.pop(name, default)
        if not isinstance(value, str):
            raise self._error(name, value, "a text")
        return value

    def number(self, name: str, default: float) -> float:
        """Take out a number that is not negative."""
        value = self._values.pop(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise self._error(name, value, "a number, 0 or more")
        return float(value)

    def integer(self, name: str, default: int) -> int:
        """Take out a whole number that is not negative."""
        value = self._values.pop(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._error(name, value, "a whole number, 0 or more")
        return value

    def optional_integer(self, name: str) -> int | None:
        """Take out a whole number, or None where there is none."""
        return self.integer(name, 0) if name in self._values else None

    def boolean(self, name: str) -> bool:
        """Take out a yes or no; no where there is none."""
        value = self._values.pop(name, False)
        if not isinstance(value, bool):
            raise self._error(name, value, "true or false")
        return value

    def integers(self, name: str) -> tuple[int, ...]:
        """Take out a list of whole numbers."""
        value = self._values.pop(name, [])
        if not isinstance(value, list) or not all(type(number) is int for number in value):
            raise self._error(name, value, "a list of whole numbers")
        return tuple(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Take out a list of texts."""
        value = self._values.pop(name, [])
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise self._error(name, value, "a list of texts")
        return tuple(value)

    def failure_names(self, known: Collection[str]) -> str | tuple[str | None, ...]:
        """Take out `fail`: one name, or a list of names in which null means "this one works".

        A name may carry a number after a colon, where `known` has it with a colon at its end.
        """
        value = self._values.pop("fail", [])

        def checked(name: object) -> str:
            stem, colon, _ = name.partition(":") if isinstance(name, str) else ("", "", "")
            if not isinstance(name, str) or stem + colon not in known:
                raise self._error("fail", name, "one of " + ", ".join(sorted(known)))
            return name

        if isinstance(value, list):
            return tuple(None if name is None else checked(name) for name in value)
        return checked(value)

    def refuse_the_rest(self) -> None:
        """Raise if the section holds a name that nothing has taken out: it is a typing error."""
        if self._values:
            raise ControlError(
                f"{self.path}: {self.program} has no setting called {min(self._values)!r}."
            )

    def count_run(self, name: str) -> int:
        """Return how many runs called `name` this control file has seen before this one, and count it.

        The count is kept beside the control file, or, where that cannot be written to, in HOME: a server in
        its box has only that. Writing the control file again resets the count.
        """
        if self.path is None:
            return 0
        status = self.path.stat()
        version = f"{status.st_ino} {status.st_mtime_ns} {status.st_size}"
        folder = self.path.parent
        if not os.access(folder, os.W_OK):
            folder = Path(os.environ.get("HOME", folder))
        counter = folder / f"{self.path.name}.{name}-runs"
        try:
            with counter.open("a+", encoding="ascii") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                counted_version, _, count = file.read().rpartition(" ")
                runs = int(count) if counted_version == version else 0
                file.truncate(0)
                file.write(f"{version} {runs + 1}")
        except OSError as error:
            raise ControlError(
                f"The runs cannot be counted beside the control file: {error}."
            ) from None
        return runs

    def _error(self, name: str, value: object, wanted: str) -> ControlError:
        return ControlError(
            f"{self.path}: {self.program}.{name} is {value!r}, but must be {wanted}."
        )


def open_section(program: str) -> Section:
    """Read `program`'s part of the control file; no file, or no such part, is an empty part.

    Raises ControlError if the file is there but cannot be read as what it should be.
    """
    name = os.environ.get(ENVIRONMENT_VARIABLE)
    if not name:
        return Section(None, program, {})
    path = Path(name)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Section(None, program, {})
    except (OSError, ValueError) as error:
        raise ControlError(
            f"The simulator's control file {path} cannot be read: {error}."
        ) from None
    if not isinstance(document, dict) or not document.keys() <= {"steamcmd", "srcds"}:
        raise ControlError(
            f'{path} must hold an object with nothing but "steamcmd" and "srcds" in it.'
        )
    values = document.get(program, {})
    if not isinstance(values, dict):
        raise ControlError(f"{path}: {program} is {values!r}, but must be an object.")
    return Section(path, program, dict(values))
