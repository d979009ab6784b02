"""What waits for the restart of running servers: how a start now would differ from how they run.

If a server was started before runs were recorded, or by hand, all that is known is whether it runs another
build.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from django.db.models import OuterRef, QuerySet, Subquery
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from hostops.specs import LIMIT_NAMES, InstanceSpec, OverlayReference
from servers.models import Blueprint, OverlayVersion, Run, RunPart, Server
from servers.models.blueprints import MIB
from servers.models.runs import (
    RESTORED_PARTS,
    SeenFiles,
    digest_server,
    read_seen_files,
    show_arguments,
    show_config,
    with_readable_passwords,
)
from servers.permissions import Person, Verb, may
from servers.secrets import HIDDEN
from servers.store import (
    BlobError,
    FileChange,
    ShownChange,
    compare,
    diff_lines,
    label_lines,
    read_files,
    show_changes,
)

PATHS_SHOWN = 10
LINES_SHOWN = 500
MAX_FILES_COMPARED = 50_000
"""The most files compared for one page: about a quarter of a second."""

TEXTS = ("arguments", "config", "sealed", "loaded")
"""The columns of a run that only pages about a single server read."""


@dataclass(frozen=True)
class Change:
    """A part that differs: lines of a diff, each marked with `+`, `-` or a blank, or a sentence."""

    part: RunPart
    sentence: str = ""
    lines: tuple[tuple[str, str], ...] = ()
    overlays: tuple["OverlayChange", ...] = ()


@dataclass(frozen=True)
class ChangedFile:
    """A file of an overlay that differs, marked `+`, `-` or `~`; `url` compares both contents.

    `url` is empty for people who may not read them; `shown` has the lines if they are shown right here.
    """

    mark: str
    path: str
    url: str
    shown: ShownChange


@dataclass(frozen=True)
class OverlayChange:
    """The files of an overlay that differ between the version that runs and the one that comes next."""

    label: str
    sentence: str
    files: tuple[ChangedFile, ...] = ()
    """The first of them."""
    more_count: int = 0
    lines_url: str = ""
    lines_label: str = ""
    """The link to the lines of all its files, if they are not shown."""


@dataclass(frozen=True)
class WaitingChanges:
    """How a start would differ from what is running; `changes` gives the details."""

    parts: tuple[RunPart, ...]
    changes: tuple[Change, ...]
    run: Run | None

    @property
    def labels(self) -> str:
        """The parts in words."""
        return name_parts(self.parts)


def name_parts(parts: Iterable[RunPart]) -> str:
    """Return parts in words, such as `config, port`."""
    return ", ".join(str(part.label) for part in parts)


def find_waiting(servers: Sequence[Server]) -> dict[int, tuple[RunPart, ...]]:
    """Return what waits for a restart, by id, for those of `servers` where anything does.

    At most four queries, however many servers there are; their hosts and blueprints must have been fetched.
    """
    up = {server.pk: server for server in servers if server.is_up}
    if not up:
        return {}
    Blueprint.fetch_overlay_references([server.blueprint for server in up.values()])
    seen_files = read_seen_files({server.host_id for server in up.values()})
    # Whole rows take several times as long as this, and usually nothing has changed.
    digests = newest_runs(up).values_list(
        "server_id", "pk", "digest_key", "whole_digest", "started_at"
    )
    suspects: dict[int, int] = {}
    for server_id, run_id, key_id, digest, started_at in digests:
        server = up[server_id]
        of_host = seen_files[server.host_id]
        seen = [of_host.get(name) for name in server.blueprint.overlay_references]
        is_new = any(one and one.looked_at > started_at for one in seen)
        if is_new or has_other_digest(server, key_id, digest):
            suspects[server_id] = run_id
    runs = Run.objects.defer(*TEXTS).in_bulk(suspects.values()) if suspects else {}
    found = {
        server_id: find_parts(
            server, runs.get(suspects.get(server_id, 0)), seen_files[server.host_id]
        )
        for server_id, server in up.items()
        if server_id in suspects or server.runs_other_build
    }
    return {server_id: parts for server_id, parts in found.items() if parts}


def has_other_digest(server: Server, key_id: str, digest: str) -> bool:
    """Return whether it is uncertain that a server would start with exactly what the digest stands for."""
    try:
        return bool(key_id) and digest_server(key_id, server) != digest
    except ValueError:
        return True


def newest_runs(server_ids: Iterable[int]) -> QuerySet[Run]:
    """Return the last run of each of these servers."""
    # One lookup in the index of runs for each server, however many runs are kept.
    newest = Run.objects.filter(server=OuterRef("pk")).order_by("-id").values("pk")
    of_servers = Server.objects.order_by().filter(pk__in=list(server_ids))
    return Run.objects.filter(pk__in=of_servers.values(newest_id=Subquery(newest[:1])))


def find_parts(
    server: Server, run: Run | None, seen_files: Mapping[str, SeenFiles]
) -> tuple[RunPart, ...]:
    """Return the parts in which a start would differ from what runs; only the build if none is possible."""
    build = (RunPart.BUILD,) if server.runs_other_build else ()
    if run is None:
        return build
    try:
        spec = server.to_bare_spec()
    except ValueError:  # Its page says that it cannot be started like this.
        return build
    return (*run.find_changes(server, spec, seen_files), *build)


def describe_waiting(server: Server, reader: Person | None = None) -> WaitingChanges | None:
    """Return what waits for the restart of one server, in detail; None if nothing does. Two queries.

    Includes changed lines in files of overlays that `reader` may use, if there are few.
    """
    if not server.is_up:
        return None
    run = newest_runs([server.pk]).first()
    seen_files = read_seen_files([server.host_id])[server.host_id]
    parts = find_parts(server, run, seen_files)
    if not parts:
        return None
    changes = []
    for part in parts:
        if part is RunPart.BUILD:
            builds = server.running_build_id, server.host.build_id
            changes.append(Change(part, describe_step(*builds)))
        elif run:
            spec = with_readable_passwords(server, server.to_bare_spec())
            changes.append(describe_change(part, run, spec, seen_files, reader))
    return WaitingChanges(parts, tuple(changes), run)


@dataclass(frozen=True)
class ShownSetup:
    """What a server starts with, as pages show it: without passwords."""

    arguments: str
    config: str
    overlays: Sequence[str]
    limits: str
    port: int | None
    address: str

    @classmethod
    def of_run(cls, run: Run) -> "ShownSetup":
        """Return what a run was started with."""
        return cls(
            run.arguments,
            run.config,
            run.overlay_references,
            show_limits(run),
            run.port,
            run.bind_address or "any",
        )

    @classmethod
    def of_spec(cls, spec: InstanceSpec) -> "ShownSetup":
        """Return what a server would be started with."""
        return cls(
            show_arguments(spec),
            show_config(spec),
            spec.overlays,
            show_limits(spec),
            spec.port,
            spec.bind_address or "any",
        )


def describe_change(
    part: RunPart,
    run: Run,
    spec: InstanceSpec,
    seen_files: Mapping[str, SeenFiles],
    reader: Person | None,
) -> Change:
    """Return how a part of a run differs from `spec`, in words or as lines of a diff."""
    shown = describe_shown(part, ShownSetup.of_run(run), ShownSetup.of_spec(spec), reader)
    if shown is not None:
        return shown
    if part is RunPart.FILES:
        names = ", ".join(run.changed_overlays(seen_files))
        return Change(
            part, _("Changed on the host since it was started: %(names)s.") % {"names": names}
        )
    return Change(part, _("It has been changed since the server was started."))


def describe_shown(
    part: RunPart, before: ShownSetup, after: ShownSetup, reader: Person | None = None
) -> Change | None:
    """Return how a part differs between two setups; None for a part that neither of them shows.

    For overlays that `reader` may use, it also has the lines of files, if there are few.
    """
    match part:
        case RunPart.ARGUMENTS:
            return describe_texts(part, before.arguments, after.arguments)
        case RunPart.CONFIG:
            return describe_texts(part, before.config, after.config)
        case RunPart.OVERLAYS:
            lines = compare_lines(show_overlays(before.overlays), show_overlays(after.overlays))
            overlays = tuple(compare_overlays(before.overlays, after.overlays, reader))
            return Change(part, lines=lines, overlays=overlays)
        case RunPart.LIMITS:
            return describe_texts(part, before.limits, after.limits)
        case RunPart.PORT:
            return Change(part, describe_step(before.port, after.port))
        case RunPart.ADDRESS:
            return Change(part, describe_step(before.address, after.address))
        case _:
            return None


def describe_step(before: object, after: object) -> str:
    """Return, in words, that one value has become another."""
    return _("from %(before)s to %(after)s") % {"before": before, "after": after}


def describe_texts(part: RunPart, before: str, after: str) -> Change:
    """Return the difference between two texts without passwords.

    If no line differs, the difference is in a password that is not shown, or in the line endings.
    """
    lines = compare_lines(before, after)
    if lines:
        return Change(part, lines=lines)
    if HIDDEN in after and before == after:
        text = _(
            "Only a password, shown as %(hidden)s, or what follows it on its line has changed."
        )
    elif HIDDEN in after:
        text = _("Only line ends, or a password shown as %(hidden)s, have changed.")
    else:
        text = _("Only the ends of lines have changed, which are not shown.")
    return Change(part, text % {"hidden": HIDDEN})


def compare_lines(before: str, after: str) -> tuple[tuple[str, str], ...]:
    """Return the lines that differ, and one before and after them, each with its mark. Bounded in time."""
    lines = before.splitlines(), after.splitlines()
    return tuple(diff_lines(*lines, context=1, most=LINES_SHOWN))


def show_overlays(references: Iterable[str]) -> str:
    """Return overlays in words, one per line."""
    return "\n".join(OverlayReference.parse(one).label for one in references)


def compare_overlays(
    before: Sequence[str], after: Sequence[str], reader: Person | None = None
) -> Iterator[OverlayChange]:
    """Yield the differences in files of overlays that are used in another version. One query, and manifests."""
    parsed = [OverlayReference.parse(one) for one in before]
    old = {one.name: one for one in parsed if one.digest}
    new = [OverlayReference.parse(one) for one in after]
    pairs = [(old[one.name], one) for one in new if one.digest and one.name in old]
    changed = [(one, other) for one, other in pairs if one != other]
    wanted = [str(reference) for pair in changed for reference in pair]
    known = OverlayVersion.objects.select_related("overlay").defer("overlay__description")
    versions = known.in_bulk(wanted, field_name="reference") if wanted else {}
    files_left = MAX_FILES_COMPARED
    for one, other in changed:
        label = _("%(name)s, from version %(older)d to version %(newer)d") % {
            "name": one.name,
            "older": one.number,
            "newer": other.number,
        }
        theirs, ours = versions.get(str(one)), versions.get(str(other))
        if theirs is None or ours is None:
            yield OverlayChange(label, _("One of the two is no longer in the panel."))
            continue
        files_left -= theirs.files + ours.files
        if files_left < 0:
            yield OverlayChange(label, _("There are too many files to compare here."))
            continue
        try:
            url = reverse("servers:overlay_changes", args=[other.name, other.number])
            url = f"{url}?from={one.number}"
            changes = compare(read_files(theirs), read_files(ours))
            is_readable = reader is None or may(reader, Verb.USE_OVERLAY, ours.overlay)
            has_lines = reader is not None and is_readable
            yield describe_files(label, url if is_readable else "", changes, has_lines=has_lines)
        except BlobError as error:
            yield OverlayChange(label, str(error))


def describe_files(
    label: str, url: str, changes: Sequence[FileChange], *, has_lines: bool = False
) -> OverlayChange:
    """Return which files of an overlay differ: how many, and the first of them, each compared at `url`.

    Without a `url`, nothing links to their contents. With `has_lines`, the lines are shown if there are few.
    """
    shown = show_changes(changes) if has_lines else [ShownChange(change) for change in changes]
    added = sum(change.before is None for change in changes)
    removed = sum(change.after is None for change in changes)
    sentence = _("Files changed: %(changed)d. Added: %(added)d. Removed: %(removed)d.") % {
        "changed": len(changes) - added - removed,
        "added": added,
        "removed": removed,
    }
    files = (
        ChangedFile(
            "+" if change.before is None else "-" if change.after is None else "~",
            change.path,
            url and f"{url}&{urlencode({'path': change.path})}",
            one,
        )
        for one in shown[:PATHS_SHOWN]
        for change in [one.change]
    )
    more_count = max(len(changes) - PATHS_SHOWN, 0)
    if not url or all(one.is_read for one in shown):
        return OverlayChange(label, sentence, tuple(files), more_count)
    return OverlayChange(
        label, sentence, tuple(files), more_count, f"{url}&lines=1", label_lines(len(changes))
    )


def show_limits(limits: Run | InstanceSpec) -> str:
    """Return limits in words, one per line."""
    memory = limits.memory_limit_bytes
    values = (
        None if memory is None else f"{memory // MIB} MiB",
        limits.tasks_limit,
        limits.cpu_weight,
    )
    return "\n".join(
        f"{name}: {'no limit' if value is None else value}"
        for name, value in zip(LIMIT_NAMES, values, strict=True)
    )


def find_way_back(server: Server) -> Run | None:
    """Return the last run of a server that answered, if its next start would differ from it; otherwise None.

    This is the run that “start as it was” repeats.
    """
    answered = Run.objects.filter(server=server, has_answered=True).exclude(sealed="")
    run = answered.order_by("-id").first()
    if run is None:
        return None
    try:
        parts = run.find_changes(server, server.to_bare_spec(), {})
    except ValueError:  # Now it cannot be started at all: all the more reason.
        return run
    return run if RESTORED_PARTS.intersection(parts) else None
