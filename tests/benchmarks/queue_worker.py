"""A worker process of the queue benchmark: `python -m tests.benchmarks.queue_worker PACKAGE THREADS`."""

import os
import sys

import django


def main() -> None:
    """Run the worker of one contender."""
    package, threads = sys.argv[1:]
    os.environ["BENCH_THREADS"] = threads
    django.setup()
    from tests.benchmarks.queue_contenders import CONTENDERS

    CONTENDERS[package].work(int(threads))


if __name__ == "__main__":
    main()
