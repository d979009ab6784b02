"""The host layer's exceptions. Every message says what was attempted, what came back, and what to do."""

from collections.abc import Sequence
from subprocess import CalledProcessError


class HostError(Exception):
    """A host operation failed; the text is for people."""


class CommandError(HostError, CalledProcessError):
    """A command ended with a non-zero exit code.

    Attributes are as in `subprocess.CalledProcessError`: `cmd`, `returncode`, and in `stderr` the error output
    that no `on_line` callback has received yet.
    """

    def __init__(
        self, message: str, argv: Sequence[str], exit_code: int, *, stderr: str = ""
    ) -> None:
        CalledProcessError.__init__(self, exit_code, list(argv), None, stderr)
        self.message = message

    def __str__(self) -> str:
        return self.message


class AnswerLostError(HostError):
    """A command was sent to a game server and may have been executed, but the answer was lost.

    So it must not be sent again.
    """


class RconUnusableError(HostError):
    """A running server accepts no commands by RCON; nothing was sent.

    `refusing_run` is the number of its run if that run has refused the password, otherwise 0.
    """

    def __init__(self, message: str, refusing_run: int) -> None:
        super().__init__(message)
        self.refusing_run = refusing_run


class BlobSourceError(HostError):
    """A blob could not be fetched from its source; `is_passing` if another try may succeed."""

    def __init__(self, message: str, *, is_passing: bool = False) -> None:
        super().__init__(message)
        self.is_passing = is_passing


class OperationCancelled(HostError):  # noqa: N818 - the outcome that was asked for, not an error
    """The cancel token ended the operation. Its partial work is cleaned up or can be resumed."""
