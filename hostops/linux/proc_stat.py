"""Reads /proc/PID/stat, and which boot this is. This imports next to nothing: the launcher uses it."""

# Without pathlib, whose import would take a sixth of the launcher's start-up time:
# ruff: noqa: PTH123

from __future__ import annotations


def read_boot_id() -> str:
    """Return the kernel's name for this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
        return file.read().strip()


def read_own_fields() -> list[str]:
    """Return /proc's facts about this process, including the process ID by which others find it there.

    In a PID namespace other than /proc's own, that ID differs from `os.getpid()`.
    """
    fields = read_fields("self")
    if not fields:
        raise OSError("/proc does not show this process: is it mounted, and of this namespace?")
    return fields


def read_fields(name: str) -> list[str]:
    """Return the fields of /proc/NAME/stat (proc_pid_stat(5)) without the name; none if it is gone."""
    try:
        with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The name is second, in parentheses, and may contain spaces and parentheses.
    return [text.partition(" ")[0], *text[text.rindex(")") + 2 :].split()]
