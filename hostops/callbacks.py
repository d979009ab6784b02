"""How an operation reports what it does, and how it is cancelled."""

from dataclasses import dataclass, field

from hostops.specs import CancelToken, OnLine, OnStage


def ignore_line(_stream: str, _line: str) -> None:
    """Ignore a line of output."""


def ignore_stage(_name: str, _progress: int | None) -> None:
    """Ignore a stage."""


def do_nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Callbacks:
    """The line callback, the stage callback and the cancel token that a verb works with."""

    on_line: OnLine = ignore_line
    on_stage: OnStage = ignore_stage
    cancel: CancelToken = field(default_factory=CancelToken)

    def say(self, text: str) -> None:
        """Report one line about what is being done."""
        self.on_line("stdout", text)

    def warn(self, text: str) -> None:
        """Report one line that people should know about, although the operation continues."""
        self.on_line("stderr", text)

    def stage(self, name: str, progress: int | None = None) -> None:
        """Report that a stage begins, or its progress. Raises instead if the operation was cancelled."""
        self.cancel.raise_if_cancelled()
        self.on_stage(name, progress)
