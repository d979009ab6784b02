"""The errors of an installation, in words for the person who runs it."""

import shlex
from collections.abc import Sequence


class InstallError(Exception):
    """Something is not as required; `cure` says what to do."""

    def __init__(self, text: str, cure: str = "") -> None:
        super().__init__(text)
        self.cure = cure


class CommandError(InstallError):
    """A command failed: which one, its exit code, and its last lines."""

    def __init__(self, argv: Sequence[str], code: int, output: str) -> None:
        said = "\n".join(f"    {line}" for line in output.rstrip().splitlines())
        super().__init__(
            f"This command ended with code {code}:\n    {shlex.join(argv)}\n{said}".rstrip()
        )
        self.code = code
        self.output = output
