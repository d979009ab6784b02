"""What a worker keeps of a job from its claim to its end."""

from dataclasses import dataclass, fields
from typing import Self

from jobs.models import Job, label_as_stored, name_subject
from servers.models import Host, Server


@dataclass(slots=True)
class ClaimedJob:
    """The columns of a claimed job's row that carrying it out needs, with its host and server.

    It is not a `Job`, because making one takes Django forty times as long, 5.0 µs: see docs/adr/0023.
    """

    id: int
    operation: str
    build_id: str
    server_id: int | None
    host_id: int | None
    upload_id: int | None
    server_name: str
    overlay_name: str
    host_name: str
    requested_by_name: str
    run_id: int | None
    worker_id: int | None
    host: Host | None = None
    server: Server | None = None

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return what a worker keeps of a job. Reads its host and server unless they were read with it."""
        return cls(**{column.name: getattr(job, column.name) for column in fields(cls)})

    @property
    def pk(self) -> int:
        """The id, as of a row."""
        return self.id

    @property
    def operation_label(self) -> str:
        """The operation in words."""
        return label_as_stored(self.operation, self.run_id, self.build_id)

    @property
    def subject(self) -> str:
        """What the job is about, by name."""
        return name_subject(self.server_name, self.overlay_name, self.host_name)
