"""The server's log: lines in the HL Log Standard, to the console and to a file for each map."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path


def write_line(descriptor: int, line: str) -> None:
    """Write a line at once. If it cannot be written it is lost, as with printf: a full disk ends no game."""
    with contextlib.suppress(OSError):
        os.write(descriptor, f"{line}\n".encode("utf-8", "surrogateescape"))


class GameLog:
    """Writes log lines. A file is kept only between `log on` and `log off`."""

    def __init__(self, game_dir: Path, print_line: Callable[[str], None]) -> None:
        self._game_dir = game_dir
        self._print_line = print_line
        self._descriptor: int | None = None
        self.is_on = False
        self.is_echoed = True

    def write(self, text: str) -> None:
        """Write one line with the time before it."""
        line = time.strftime("L %m/%d/%Y - %H:%M:%S: ") + text
        if self.is_echoed:
            self._print_line(line)
        if self._descriptor is not None:
            write_line(self._descriptor, line)

    def open_file(self, directory: str, version: str) -> None:
        """Begin a new file in `directory` below the game's, ending the one before."""
        self.close_file()
        log_dir = self._game_dir / directory
        if not log_dir.is_relative_to(self._game_dir) or ".." in log_dir.parts:
            self._print_line(f"ERROR: the log folder {directory} is not inside of the game's.")
            return
        day = time.strftime("%m%d")
        try:
            log_dir.mkdir(parents=True, exist_ok=True)
            for number in range(1000):
                name = f"L{day}{number:03}.log"
                try:
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
                    self._descriptor = os.open(log_dir / name, flags, 0o644)
                    break
                except FileExistsError:
                    continue
            else:
                self._print_line(f"ERROR: {log_dir} already has 1,000 logs of today.")
                return
        except OSError as error:
            self._print_line(f"ERROR: no log file can be written: {error}.")
            return
        self.write(
            f'Log file started (file "{directory}/{name}") (game "{self._game_dir}") (version "{version}")'
        )

    def close_file(self) -> None:
        """End the file, if there is one."""
        if self._descriptor is not None:
            self.write("Log file closed")
            os.close(self._descriptor)
            self._descriptor = None
