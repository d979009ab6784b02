"""Which process runs which test file, if there are more processes than cores (`--dist loadfile`)."""

import os

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController


class TwoEnds(LoadFileScheduling):  # type: ignore[misc]
    """Hands out files from the front, where the tests with real parts are, to one process per core.

    More browsers and workers at a time would starve each other and run into their time limits. But they wait
    for a third of their time; additional processes use it for pure computation, from the other end.
    """

    def _assign_work_unit(self, node: WorkerController) -> None:
        if is_one_more(node.gateway.id) and self.workqueue:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)


def is_one_more(process: str) -> bool:
    """Whether a process of pytest-xdist, named gw0, gw1 and so on, is one beyond the cores."""
    return int(process.removeprefix("gw")) >= len(os.sched_getaffinity(0))


class SharesPlugin:
    """Replaces pytest-xdist's scheduler by this one."""

    @pytest.hookimpl
    def pytest_xdist_make_scheduler(
        self, config: pytest.Config, log: Producer
    ) -> LoadFileScheduling | None:
        """Return the scheduler, if whole files are handed out."""
        return TwoEnds(config, log) if config.getoption("dist") == "loadfile" else None
