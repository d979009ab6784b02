"""The kernel's facts about the machine's memory."""

import pytest

from hostops.linux.memory import Memory, parse_meminfo, read_memory

MEMINFO = """\
MemTotal:       16318496 kB
MemFree:          412300 kB
MemAvailable:    9120040 kB
HugePages_Total:       0
"""


def test_it_is_read_in_bytes() -> None:
    assert parse_meminfo(MEMINFO) == Memory(16_318_496 * 1024, 9_120_040 * 1024)


@pytest.mark.parametrize("text", ["", "MemTotal: 1 kB\n", "MemTotal: x kB\nMemAvailable: 1 kB\n"])
def test_what_does_not_say_both_says_nothing(text: str) -> None:
    assert parse_meminfo(text) is None


def test_this_machine_has_more_than_is_available() -> None:
    memory = read_memory()
    assert memory is not None
    assert 0 < memory.available <= memory.total
