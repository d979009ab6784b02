"""What a worker keeps of a job from its claim to its end."""

from dataclasses import asdict, dataclass, fields
from typing import Self

from jobs.models import Job, label_as_stored, name_subject
from servers.models import Host, LaunchSettings, LaunchTexts, Server


@dataclass(slots=True)
class ClaimedServer(LaunchSettings):
    """What carrying out a job needs of its server, as it was before the claim: first what it is started with.

    `has_people` is whether it has bans or admins: only then they are read.
    """

    id: int
    desired_state: str
    has_people: bool

    @classmethod
    def of(cls, server: Server) -> Self:
        """Return what a worker keeps of a server. Reads its overlays, and whether it has people."""
        return cls(
            **asdict(server.launch_settings),
            id=server.pk,
            desired_state=server.desired_state,
            has_people=server.has_people,
        )

    @property
    def launch_texts(self) -> LaunchTexts:
        """What people wrote for its start, and its passwords."""
        return self

    def read_row(self) -> Server:
        """Read its row, with its host and blueprint, as they are now: for what few jobs need."""
        return Server.objects.select_related("host", "blueprint").get(pk=self.id)


@dataclass(slots=True)
class ClaimedJob:
    """The columns of a claimed job's row that carrying it out needs, with its host and server.

    Neither it nor its server is a row: making one takes Django forty times as long. See docs/adr/0023.
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
    server: ClaimedServer | None = None

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return what a worker keeps of a job. Reads its host and server unless they were read with it."""
        kept = {one.name: getattr(job, one.name) for one in fields(cls) if one.name != "server"}
        return cls(**kept, server=ClaimedServer.of(job.server) if job.server else None)

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
