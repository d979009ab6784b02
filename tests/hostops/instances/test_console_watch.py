"""A written console is noticed once, and one that cannot be watched always counts as written."""

import shutil
from pathlib import Path

import pytest

from hostops.instances import console_watch
from hostops.instances.console_watch import ConsoleWatch
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux import inotify

NAMES = ("alpha", "beta")


@pytest.fixture
def layout(tmp_path: Path) -> HostLayout:
    layout = HostLayout(tmp_path)
    for name in NAMES:
        layout.instance(name).console_dir.mkdir(parents=True)
    return layout


def print_to(instance: InstanceLayout, text: str = "x\n") -> None:
    """Print as the game does: append to the file of its run."""
    with instance.console_log_path(1).open("a") as file:
        file.write(text)


def test_it_names_the_console_that_was_written_and_no_other(layout: HostLayout) -> None:
    watch = ConsoleWatch(layout)
    assert watch.find_written(NAMES) == set(NAMES), "what was there before counts too"
    assert watch.find_written(NAMES) == set()
    for _ in range(2):
        print_to(layout.instance("beta"))
        print_to(layout.instance("beta"))
        assert watch.find_written(NAMES) == {"beta"}
        assert watch.find_written(NAMES) == set()


def test_a_console_made_later_counts_as_written_until_it_can_be_watched(layout: HostLayout) -> None:
    watch = ConsoleWatch(layout)
    names = (*NAMES, "gamma")
    watch.find_written(names)
    assert watch.find_written(names) == {"gamma"}
    layout.instance("gamma").console_dir.mkdir(parents=True)
    assert watch.find_written(names) == {"gamma"}
    assert watch.find_written(names) == set()
    print_to(layout.instance("gamma"))
    assert watch.find_written(names) == {"gamma"}


@pytest.mark.parametrize("way", ["removed", "renamed", "its parent renamed"])
def test_an_instance_made_again_is_watched_again(
    layout: HostLayout, tmp_path: Path, way: str
) -> None:
    watch = ConsoleWatch(layout)
    watch.find_written(NAMES)
    alpha = layout.instance("alpha")
    if way == "removed":
        shutil.rmtree(alpha.dir)
    elif way == "renamed":
        alpha.console_dir.rename(tmp_path / "away")
    else:
        alpha.dir.rename(tmp_path / "away")
        shutil.rmtree(tmp_path / "away")
    watch.find_written(NAMES)
    alpha.console_dir.mkdir(parents=True, exist_ok=True)
    watch.find_written(NAMES)
    assert watch.find_written(NAMES) == set()
    print_to(alpha)
    assert watch.find_written(NAMES) == {"alpha"}


def test_one_that_is_no_longer_asked_for_is_no_longer_watched(layout: HostLayout) -> None:
    watch = ConsoleWatch(layout)
    watch.find_written(NAMES)
    watch.find_written(["alpha"])
    print_to(layout.instance("beta"))
    assert watch.find_written(["alpha"]) == set()
    assert watch.find_written(NAMES) == {"beta"}


def test_after_too_many_events_every_console_counts_as_written(
    layout: HostLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inotify, "_READ_BYTES", 128)
    watch = ConsoleWatch(layout)
    watch.find_written(NAMES)
    for _ in range(20):  # in turns, because the kernel merges equal events that follow each other
        for name in NAMES:
            print_to(layout.instance(name))
    assert watch.find_written((*NAMES, "gamma")) == {*NAMES, "gamma"}
    assert watch.find_written(NAMES) == set()
    print_to(layout.instance("beta"))
    assert watch.find_written(NAMES) == {"beta"}


def test_events_that_the_kernel_has_dropped_are_not_missed(
    layout: HostLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_watch, "_MOST_READS", 1000)
    watch = ConsoleWatch(layout)
    watch.find_written(NAMES)
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    logs = [layout.instance("alpha").console_log_path(run).open("ab", 0) for run in (1, 2)]
    for _ in range(most // 2 + 1):
        for log in logs:
            log.write(b"x")
    print_to(layout.instance("beta"))
    assert watch.find_written(NAMES) == set(NAMES)
    for log in logs:
        log.close()


def test_where_the_kernel_has_no_more_queues_each_console_counts_as_written(
    layout: HostLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> inotify.Inotify:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(inotify, "Inotify", refuse)
    watch = ConsoleWatch(layout)
    for _ in range(2):
        assert watch.find_written(NAMES) == set(NAMES)
    watch.close()
