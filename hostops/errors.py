"""What the host layer raises. Every message says what was attempted, what came back, and what to do."""

from collections.abc import Sequence
from subprocess import CalledProcessError


class HostError(Exception):
    """A host operation failed; the text is for people."""


class CommandError(HostError, CalledProcessError):
    """A command ended with a non-zero exit code.

    Attributes as `subprocess.CalledProcessError` has them: `cmd`, `returncode` and, in `stderr`,
    what the command wrote there that no `on_line` callback has been given yet.
    """

    def __init__(
        self, message: str, argv: Sequence[str], exit_code: int, *, stderr: str = ""
    ) -> None:
        CalledProcessError.__init__(self, exit_code, list(argv), None, stderr)
        self.message = message

    def __str__(self) -> str:
        return self.message


class AnswerLostError(HostError):
    """A command was sent to a game server, which may have carried it out; its answer did not come.

    So it must not be sent again.
    """


class RconUnusableError(HostError):
    """A running server takes no commands by RCON; nothing was sent.

    `refusing_run` is the number of its run if that has refused the password, else 0.
    """

    def __init__(self, message: str, refusing_run: int) -> None:
        super().__init__(message)
        self.refusing_run = refusing_run


class BlobSourceError(HostError):
    """A blob could not be had from where blobs come from; `is_passing` if the next try may get it."""

    def __init__(self, message: str, *, is_passing: bool = False) -> None:
        super().__init__(message)
        self.is_passing = is_passing


class OperationCancelled(HostError):  # noqa: N818 - the outcome that was asked for, not an error
    """The cancel token ended the operation; what it had begun is cleaned up or can be taken up again."""
