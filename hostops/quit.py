"""The small program with which systemd asks a game server to end, before it sends signals.

    python -I -S quit.py ROOT NAME

Writes `quit` to the server's console and waits a few seconds at most until its main process (`$MAINPID`) is
gone. Uses only the standard library; runs inside the server's own box.
"""

import contextlib
import os
import select
import stat
import sys

WAIT_SECONDS = 10


def main(root: str, name: str) -> int:
    """Ask and wait; return 0 if the main process is gone."""
    pid = os.environ.get("MAINPID", "")
    if not pid.isdecimal():  # It has already ended.
        return 0
    try:
        process = os.pidfd_open(int(pid))
    except ProcessLookupError:
        return 0
    with contextlib.suppress(OSError):  # It hangs, or does not read yet: signals handle that.
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY
        console = os.open(f"{root}/instances/{name}/console.in", flags)
        # The game may have put a file there, if it can write to its own folder.
        if stat.S_ISFIFO(os.fstat(console).st_mode):
            os.write(console, b"quit\n")
    ended = select.poll()
    ended.register(process, select.POLLIN)
    return 0 if ended.poll(WAIT_SECONDS * 1000) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
