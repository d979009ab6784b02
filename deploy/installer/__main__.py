"""`deploy/install`: reads the flags and carries out the steps."""

import os
import shlex
import sys
from pathlib import Path

from deploy.installer import answers, releases, steps
from deploy.installer.errors import InstallError
from deploy.installer.installation import Installation, require_root
from deploy.installer.machine import Machine
from hostops.command_ends import run_command
from hostops.command_ends import tell as say

_HERE = Path(__file__).resolve().parents[2]


def main(arguments: list[str]) -> int:
    """Install; return 0, or 1 if a step failed."""
    options = answers.parse_arguments(arguments)
    os.umask(0o022)
    command = shlex.join(["deploy/install", *arguments])
    machine = Machine(is_dry_run=options.dry_run, say=lambda text: say(f"   {text}"))
    try:
        require_root(is_dry_run=options.dry_run)
        last = answers.read_last()
        wanted = answers.collect(options, _HERE)
        with releases.opened(machine, wanted.source) as source:
            installation = Installation(
                machine,
                wanted,
                last,
                source,
                say,
                archive=options.restore and options.restore.absolute(),
                passphrase_file=options.passphrase_file,
            )
            if options.upgrade:
                what = installation.upgrade_steps()
            elif options.back:
                what = installation.back_steps()
            else:
                what = installation.install_steps()
            if not steps.carry_out(what, say, command):
                return 1
    except InstallError as error:
        say(f"{error}" + (f"\n→ {error.cure}" if error.cure else ""))
        return 1
    if not options.dry_run:
        say(installation.summary())
    return 0


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
