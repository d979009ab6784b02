"""docs/deploy.md: every command on the page can be given, and every flag is on the page."""

import re
import shlex

import pytest
from django.core.management import get_commands, load_command_class

from deploy.installer import answers
from tests.systemd.sandbox import REPOSITORY

PAGE = (REPOSITORY / "docs/deploy.md").read_text()
COMMANDS = re.findall(
    r"^(.+)$", "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)), re.MULTILINE
)
"""The lines of all blocks that are meant to be typed."""

UNITS = {path.name for path in (REPOSITORY / "deploy/systemd").rglob("saferoom-*")}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_page_can_be_given(line: str) -> None:
    for command in line.split(" && "):
        require_command(shlex.split(command.replace("<this repository>", "URL")))


def require_command(words: list[str]) -> None:
    """Fail unless a command exists and has these options."""
    program, *rest = words
    if program == "deploy/install":
        answers.parse_arguments(rest)  # Ends the test for an unknown flag.
    elif program == "saferoom":
        name, *options = rest
        command = load_command_class(get_commands()[name], name)
        command.create_parser("manage.py", name).parse_args(options)
    elif program == "systemctl":
        unit = words[-1]
        assert {f"{unit}.service", unit} & UNITS
    elif program == "l4d2ctl":
        assert rest == ["doctor"]
    else:
        assert program in ("git", "cd")


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 8


@pytest.mark.parametrize("flag", re.findall(r"--[a-z][a-z-]+", answers.make_parser().format_help()))
def test_a_flag_of_the_installer_is_on_the_page(flag: str) -> None:
    assert flag in PAGE or flag == "--help"
