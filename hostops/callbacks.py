"""What an operation is given to report by, and to be ended by."""

from dataclasses import dataclass, field

from hostops.specs import CancelToken, OnLine, OnStage


def ignore_line(_stream: str, _line: str) -> None:
    """Take a line of output and do nothing with it."""


def ignore_stage(_name: str, _progress: int | None) -> None:
    """Take a stage and do nothing with it."""


def do_nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Callbacks:
    """The three, as one: what a verb works with."""

    on_line: OnLine = ignore_line
    on_stage: OnStage = ignore_stage
    cancel: CancelToken = field(default_factory=CancelToken)

    def say(self, text: str) -> None:
        """Report one line of what is being done."""
        self.on_line("stdout", text)

    def warn(self, text: str) -> None:
        """Report one line of what someone should know although the operation goes on."""
        self.on_line("stderr", text)

    def stage(self, name: str, progress: int | None = None) -> None:
        """Report the stage that begins, or how far it is; nothing begins once the end was asked for."""
        self.cancel.raise_if_cancelled()
        self.on_stage(name, progress)
