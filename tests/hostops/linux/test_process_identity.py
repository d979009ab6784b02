"""Which processes belong together."""

import os
import signal
import subprocess
import sys

from hostops.linux.proc_stat import read_fields
from hostops.linux.process_identity import family_of, read_ancestry, read_stat
from tests.hostops.hosts import read_until
from tests.waiting import wait_until

# A child that begins its own session, and a grandchild in the first session whose parent is gone.
FAMILY = """
import os, signal
reader, writer = os.pipe()
if (child := os.fork()) == 0:
    os.setsid()
    os.write(writer, b"x")
    signal.pause()
os.read(reader, 1)
if (parent := os.fork()) == 0:
    if (orphan := os.fork()) == 0:
        signal.pause()
    os.write(writer, b"%d" % orphan)
    os._exit(0)
os.waitpid(parent, 0)
print("family", os.getpid(), child, os.read(reader, 16).decode(), flush=True)
signal.pause()
"""


def test_a_family_has_children_with_a_session_of_their_own_and_orphans_of_its_session() -> None:
    with subprocess.Popen(
        [sys.executable, "-S", "-c", FAMILY],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        family = {int(number) for number in read_until(process, "family").split()[1:]}
        try:
            assert family_of(process.pid) == family
            assert os.getpid() not in family
        finally:
            for pid in family:
                os.kill(pid, signal.SIGKILL)


# Its first thread ends; another one continues.
HEADLESS = """
import ctypes, signal, threading
def go_on():
    print("on", flush=True)
    signal.pause()
threading.Thread(target=go_on).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_has_ended_once_all_its_threads_have() -> None:
    with subprocess.Popen(
        [sys.executable, "-S", "-c", HEADLESS], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            read_until(process, "on")
            wait_until(lambda: read_fields(str(process.pid))[1] == "Z", 10, "the first one goes on")
            assert read_stat(process.pid)
        finally:
            process.kill()
        wait_until(lambda: not read_stat(process.pid), 10, "it does not end")


def test_an_ancestry_goes_up_to_the_first_process() -> None:
    with subprocess.Popen(
        [sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, text=True
    ) as process:
        assert read_ancestry(process.pid)[:3] == [process.pid, os.getpid(), os.getppid()]
        process.communicate("\n")
    assert read_ancestry(process.pid) == []
