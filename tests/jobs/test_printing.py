"""Who reads what a command prints may leave; the command goes on."""

import io
import os
from pathlib import Path
from types import ModuleType

import pytest
from django.core.management.base import OutputWrapper
from django.test import override_settings

from jobs.management.commands import runjobs
from jobs.printing import print_line
from l4d2site.management.commands import serve


def test_a_reader_that_is_gone_ends_nothing() -> None:
    reader, writer = os.pipe()
    with open(writer, "w") as file:  # noqa: PTH123
        os.close(reader)
        for number in range(3):
            print_line(OutputWrapper(file), f"line {number}")
    # Nor does the end of the file, where Python writes what is left.


def test_what_is_read_comes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "output"
    with path.open("w") as file:
        print_line(OutputWrapper(file), "ready")
        assert path.read_text() == "ready\n"


class Broken(io.StringIO):
    """A stream without a descriptor whose reader is gone."""

    def write(self, _text: str) -> int:
        """Fail."""
        raise BrokenPipeError


@pytest.mark.parametrize("module", [serve, runjobs])
def test_the_commands_that_run_for_long_need_no_reader(module: ModuleType) -> None:
    command = module.Command(stdout=Broken(), stderr=Broken())
    command.say("Saferoom is ready")
    with override_settings(SECRETS_KEYS=()):  # There is a remark on that.
        command.check()
