"""The recorded starts of servers: how two of them differ, and what keeps one from being repeated."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _

from hostops.specs import OverlayReference
from servers.config.waiting_changes import (
    Change,
    ShownSetup,
    describe_shown,
    describe_step,
    name_parts,
    show_limits,
)
from servers.models import Overlay, OverlayVersion, Run, RunPart, Server
from servers.permissions import Person


@dataclass(frozen=True)
class Start:
    """A start of a server as its page lists it.

    `before` is the last known start before it, and `parts` is what has changed since that one; `gaps` are
    sentences saying why it cannot be repeated.
    """

    run: Run
    before: Run | None
    parts: tuple[RunPart, ...]
    gaps: Sequence[str]

    @property
    def labels(self) -> str:
        """The parts in words."""
        return name_parts(self.parts)


def list_starts(server: Server) -> list[Start]:
    """Return the recorded starts of a server, newest first. Four queries, however many there are."""
    runs = list(server.runs.all())
    gaps = find_gaps(server, runs)
    starts = []
    for place, run in enumerate(runs):
        before = next((one for one in runs[place + 1 :] if one.is_known), None)
        parts = find_differences(before, run) if before and run.is_known else ()
        starts.append(Start(run, before, parts, gaps[run.pk]))
    return starts


def find_differences(before: Run, after: Run) -> tuple[RunPart, ...]:
    """Return how two runs differ; nothing if it is unknown what one of them was started with.

    What their texts hide is compared by digests, if both were made with the same key. The passwords of two
    servers always differ, and so may the times of their hosts' files: these are only compared for runs of one
    server.
    """
    if not (before.is_known and after.is_known):
        return ()
    is_one_server = before.server_id == after.server_id
    has_one_key = before.digest_key == after.digest_key
    has_changed = {
        RunPart.ARGUMENTS: before.arguments_digest != after.arguments_digest
        if has_one_key
        else before.arguments != after.arguments,
        RunPart.CONFIG: before.config_digest != after.config_digest
        if has_one_key
        else before.config != after.config,
        RunPart.OVERLAYS: before.overlay_references != after.overlay_references,
        RunPart.FILES: is_one_server and bool(find_changed_files(before, after)),
        RunPart.LIMITS: show_limits(before) != show_limits(after),
        RunPart.PORT: before.port != after.port,
        RunPart.ADDRESS: before.bind_address != after.bind_address,
        RunPart.RCON_PASSWORD: is_one_server
        and has_one_key
        and before.rcon_password_digest != after.rcon_password_digest,
        RunPart.JOIN_PASSWORD: is_one_server
        and has_one_key
        and before.join_password_digest != after.join_password_digest,
        RunPart.BUILD: before.build_id != after.build_id,
    }
    return tuple(part for part, is_other in has_changed.items() if is_other)


def find_changed_files(before: Run, after: Run) -> list[str]:
    """Return the overlays kept by hand whose files had changed by the later start."""
    then = {name: fingerprint for name, fingerprint in before.overlays if fingerprint}
    return [name for name, now in after.overlays if now and name in then and then[name] != now]


def compare_runs(before: Run, after: Run, reader: Person | None = None) -> list[Change]:
    """Return how two runs differ, in words and as lines of diffs, without passwords.

    Includes changed lines in files of overlays that `reader` may use, if there are few.
    """
    parts = find_differences(before, after)
    return [describe_difference(part, before, after, reader) for part in parts]


def describe_difference(part: RunPart, before: Run, after: Run, reader: Person | None) -> Change:
    """Return the difference in one part of two runs."""
    setups = ShownSetup.of_run(before), ShownSetup.of_run(after)
    shown = describe_shown(part, *setups, reader)
    if shown is not None:
        return shown
    match part:
        case RunPart.FILES:
            names = ", ".join(find_changed_files(before, after))
            return Change(
                part, _("Changed on the host between the two: %(names)s.") % {"names": names}
            )
        case RunPart.BUILD:
            unknown = _("not known")
            builds = before.build_id or unknown, after.build_id or unknown
            return Change(part, describe_step(*builds))
        case _:
            return Change(part, _("It is another one."))


def find_gaps(server: Server, runs: Iterable[Run]) -> Mapping[int, list[str]]:
    """Return what keeps a server from being started as in each of these runs: sentences, by the runs' ids.

    A folder of a host counts only while an overlay of that name is marked as one, because the person who
    starts the server may not have the right to name folders. Three queries, however many runs there are.
    """
    runs = list(runs)
    references = {one for run in runs for one in run.overlay_references}
    known = {
        *Overlay.objects.filter(name__in=references, is_host_folder=True).values_list(
            "name", flat=True
        ),
        *OverlayVersion.objects.filter(reference__in=references).values_list(
            "reference", flat=True
        ),
    }
    others = Server.objects.filter(host=server.host_id, port__in={run.port for run in runs})
    ports = set(others.exclude(pk=server.pk).values_list("port", flat=True))
    return {run.pk: list(_find_gaps_of(run, server, known, ports)) for run in runs}


def _find_gaps_of(run: Run, server: Server, known: set[str], ports: set[int]) -> Iterable[str]:
    if not run.is_known or not run.sealed:
        yield _("What it was started with was not kept.")
    gone = [OverlayReference.parse(one) for one in run.overlay_references if one not in known]
    if folders := [one.name for one in gone if one.number is None]:
        # Whether the panel has an overlay of that name is not said: it may be somebody's private one.
        yield _(
            "%(server)s ran with folders of its host that no overlay is marked for now: %(folders)s. Start it "
            "as it is saved."
        ) % {"server": server.name, "folders": "; ".join(folders)}
    if versions := [one.label for one in gone if one.number is not None]:
        yield _(
            "%(server)s ran with overlays that are no longer in the panel: %(gone)s. Start it as it is saved."
        ) % {"server": server.name, "gone": "; ".join(versions)}
    if run.port in ports:
        # Not which one: people who may see this server may not be allowed to see that one.
        yield _(
            "%(server)s ran on port %(port)s, which another server has now. Start it as it is saved, or have "
            "that one moved to another port first."
        ) % {"server": server.name, "port": run.port}
