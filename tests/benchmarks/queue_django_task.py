"""The no-op job of django-tasks-db, which finds it by its module."""

from django_tasks import task

from tests.benchmarks.queue_marks import mark


@task()
def no_op(key: int) -> None:
    """Mark that the job runs."""
    mark(str(key))
