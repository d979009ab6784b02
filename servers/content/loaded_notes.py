"""What a running server has not loaded of what its overlays bring, as it reported after its start."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from hostops.specs import LoadedKind
from servers.models import Run, Server


@dataclass(frozen=True)
class Lack:
    """Something that is not loaded; `title` is what it calls itself, `reason` is in the server's words."""

    file: str
    title: str
    reason: str


@dataclass(frozen=True)
class LoadedNote:
    """What there is to say about one kind: a sentence, and the first of those that are not loaded."""

    kind: str
    sentence: str
    lacks: Sequence[Lack] = ()
    more_count: int = 0


@dataclass(frozen=True)
class LoadedNotes:
    """What is not loaded, or may not be, and when the server was asked."""

    notes: Sequence[LoadedNote]
    asked_at: datetime

    @property
    def is_warning(self) -> bool:
        """Whether anything is known not to have loaded."""
        return any(note.kind for note in self.notes)


def find_loaded_notes(server: Server) -> LoadedNotes | None:
    """Return what there is to say about what a running server has loaded; None if nothing. One query."""
    if not server.is_up:
        return None
    runs = Run.objects.filter(server=server).order_by("-id")
    loaded, asked_at = runs.values_list("loaded", "loaded_at").first() or (None, None)
    if not loaded or asked_at is None:
        return None
    notes = [note for check in loaded["checks"] for note in _describe_check(check)]
    if loaded["unasked"]:
        sentence = _("What it has loaded is not fully known. %(why)s")
        notes.append(LoadedNote("", sentence % {"why": loaded["unasked"]}))
    return LoadedNotes(notes, asked_at) if notes else None


def _describe_check(check: Mapping[str, Any]) -> Iterator[LoadedNote]:
    """Yield what a check stored with a run (`hostops.specs.LoadedCheck`) says about what is not loaded."""
    kind, count = check["kind"], check["expected"]
    lacks = [Lack(one["file"], one["title"], one["reason"]) for one in check["not_loaded"]]
    missing = len(lacks) + check["more_count"]
    if check["none_because"]:
        yield LoadedNote(kind, _join(_say_none(kind, count), check["none_because"]))
    elif missing:
        yield LoadedNote(kind, _say_missing(kind, missing, count), lacks, check["more_count"])
    if check["unknown"]:
        sentence = _("What it has loaded is not fully known. %(why)s")
        yield LoadedNote("", sentence % {"why": check["unknown"]})


def _join(*sentences: str) -> str:
    return " ".join(one for one in sentences if one)


def _say_none(kind: str, count: int) -> str:
    if not count:
        return ""
    if kind == LoadedKind.METAMOD:
        return ngettext(
            "Its plugin of MetaMod is not loaded.",
            "None of its %(count)d plugins of MetaMod is loaded.",
            count,
        ) % {"count": count}
    return ngettext(
        "Its plugin of SourceMod is not loaded.",
        "None of its %(count)d plugins of SourceMod is loaded.",
        count,
    ) % {"count": count}


def _say_missing(kind: str, missing: int, count: int) -> str:
    numbers = {"missing": missing, "count": count}
    if kind == LoadedKind.METAMOD:
        return (
            ngettext(
                "%(missing)d of %(count)d plugins of MetaMod is not loaded.",
                "%(missing)d of %(count)d plugins of MetaMod are not loaded.",
                missing,
            )
            % numbers
        )
    if kind == LoadedKind.EXTENSION:
        return (
            ngettext(
                "%(missing)d of %(count)d extensions of SourceMod is not loaded.",
                "%(missing)d of %(count)d extensions of SourceMod are not loaded.",
                missing,
            )
            % numbers
        )
    return (
        ngettext(
            "%(missing)d of %(count)d plugins is not loaded.",
            "%(missing)d of %(count)d plugins are not loaded.",
            missing,
        )
        % numbers
    )
