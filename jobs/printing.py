"""Commands that run for long go on, whether or not anybody still reads what they print."""

import os
from contextlib import suppress
from typing import Any

from django.core.management.base import BaseCommand, OutputWrapper


class LongCommand(BaseCommand):
    """A command that runs for long. Its output may be a pipe whose reader leaves, as after `| head`."""

    def say(self, text: str) -> None:
        """Print a line immediately, if anybody reads it."""
        print_line(self.stdout, text)

    def check(self, *args: Any, **options: Any) -> None:
        """Run Django's checks, as every command does before it begins; nobody has to read their remarks."""
        try:
            super().check(*args, **options)
        except BrokenPipeError:
            silence(self.stderr)


def print_line(stream: OutputWrapper, text: str) -> None:
    """Print a line immediately. That it cannot be written is no reason to end what runs."""
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        silence(stream)


def silence(stream: OutputWrapper) -> None:
    """Let a stream lead nowhere: Python would fail at its end, with what is left in the buffer."""
    with suppress(OSError), open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), stream.fileno())
