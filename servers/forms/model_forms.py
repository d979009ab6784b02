"""The forms that servers and blueprints are made and changed with."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.forms.utils import ErrorDict
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from hostops.specs import take_bind_address
from servers.fleet import TagsError, adopt_spelling, parse_tags, set_tags, tags_of
from servers.forms.outdated import OutdatedFormError, VersionedForm
from servers.forms.secret_fields import SecretsForm
from servers.forms.words import PlainForm
from servers.models import Blueprint, BlueprintOverlay, Host, Overlay, OverlayVersion, Server
from servers.models.blueprints import LOWEST_CPU_WEIGHT, LOWEST_MEMORY_LIMIT_MIB, LOWEST_TASKS_LIMIT
from servers.models.validation import shorten, to_plain_lines
from servers.permissions import Verb, may
from servers.quotas import (
    TooManyBlueprintsError,
    TooManyOverlaysError,
    TooManyServersError,
    lock_person,
    take_blueprint_place,
    take_server_place,
)
from servers.secrets import ServerSecret, Setting, find_settings, has_keys

BLUEPRINT_FIELDS = ["name", "is_shared", "arguments", "config"]
LOWEST_LIMITS = {
    "memory_limit_mib": LOWEST_MEMORY_LIMIT_MIB,
    "tasks_limit": LOWEST_TASKS_LIMIT,
    "cpu_weight": LOWEST_CPU_WEIGHT,
}
CHOICE_COLUMNS = ("number", "overlay_id", "reference")
CHOICES_PER_OVERLAY = 30
MOST_CHOICES = 2_000
"""The most versions to choose from, for one overlay and in all."""

NO_LIMIT = {"placeholder": _("no limit")}
CODE = {"spellcheck": "false", "autocapitalize": "off", "autocomplete": "off"}


class CodeArea(forms.Textarea):
    """A text area for something that a machine reads."""

    def __init__(self, rows: int) -> None:
        super().__init__(attrs={**CODE, "rows": rows})


class RowForm(PlainForm, VersionedForm):
    """A form whose row may collide with another person's at the moment it is stored.

    `unstored` names the fields whose rows are only stored along with its own.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.unstored: set[str] = set()

    def clean_config(self) -> str:
        """Return the config with the line endings of hosts; as it is stored, if nothing else would change.

        Browsers send CRLF, and Django strips blanks at the ends: neither is a reason to restart a server.
        """
        config = to_plain_lines(super().clean_config())
        stored: str = self.instance.config
        return stored if config == to_plain_lines(stored) else config

    def try_save(self) -> bool:
        """Store the row in one transaction; False, with the reason in `errors`, if it cannot be."""
        port_wanted = self.cleaned_data.get("port")
        try:
            with transaction.atomic():
                self.refuse_outdated()
                self.save()
        except OutdatedFormError as error:
            # The page itself shows conflicts, with both values.
            if not self.conflicts:
                self.add_error(None, error)
        except IntegrityError:
            # The form found the name and port free, and somebody took one of them before this was stored.
            self.explain_collision()
        except (TooManyServersError, TooManyOverlaysError, TooManyBlueprintsError) as error:
            self.add_error(None, error)
        except TagsError as error:
            self.add_error("tags", error)
        except ValidationError as error:  # NoFreePortError: the other error that a save raises
            self.add_error("port", error)
        else:
            return True
        if "port" in self.fields:
            self.instance.port = port_wanted
        return False

    def explain_collision(self) -> None:
        """Add to the form's errors what the row collides with by now."""
        try:
            self.instance.full_clean(exclude=self.unstored)
        except ValidationError as error:
            for name, faults in error.error_dict.items():
                self.add_faults(name, faults)
        else:
            self.add_error(None, _("Something was changed at the same moment. Please try again."))

    def add_faults(self, name: str, faults: Iterable[ValidationError]) -> None:
        """Report what is wrong with a column: at its field if the form has one, in that field's words."""
        field = self.fields.get(name)
        for fault in faults:
            words = field.error_messages.get(fault.code or "") if field else None
            self.add_error(name if field else None, words or fault)


class ServerForm(SecretsForm, RowForm):
    """A server as its owner makes or changes it. A server stays on its host and keeps its name."""

    tags = forms.CharField(
        label=_("Tags"),
        required=False,
        max_length=500,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text=_(
            "Short labels for finding it, separated by commas. Everybody who sees the server sees"
            " them."
        ),
    )

    class Meta:
        model = Server
        fields = ["name", "host", "port", "blueprint", "arguments", "config"]
        widgets = {
            "name": forms.TextInput(attrs=CODE),
            "port": forms.NumberInput(attrs={"placeholder": _("next free one")}),
            "arguments": CodeArea(rows=2),
            "config": CodeArea(rows=6),
        }
        help_texts = {
            "name": _("Lower-case letters, digits and dashes. It cannot be changed later."),
            "blueprint": _("What the game starts with: overlays, arguments, config."),
        }

    def __init__(self, *args: Any, user: User, hosts: list[Host], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reader = user
        self.user = user
        self.moved_address = ""
        """The address that was typed as -ip, and has become the server's bind address."""
        self.is_new = is_new = self.instance.pk is None
        usable = Blueprint.objects.usable_by(user)
        if self.instance.owner_id != user.pk and not may(user, Verb.VIEW_BLUEPRINT):
            # A blueprint that a member can change would still let them set this server's config after their
            # membership has ended.
            usable = usable.exclude(owner_id=user.pk)
        current = Q(pk=self.instance.blueprint_id)
        blueprint = cast("forms.ModelChoiceField[Blueprint]", self.fields["blueprint"])
        choices = Blueprint.objects.filter(Q(pk__in=usable.values("pk")) | current)
        blueprint.queryset = choices.without_texts()
        blueprint.empty_label = _("Choose one")
        if is_new and len(hosts) == 1:
            self.instance.host = hosts[0]
        if not is_new:
            del self.fields["name"]
        if not is_new or len(hosts) < 2:
            del self.fields["host"]
        else:
            host = cast("forms.ModelChoiceField[Host]", self.fields["host"])
            host.queryset = Host.objects.taking_servers()
            host.error_messages["invalid_choice"] = _(
                "This host is being drained or no longer exists. Choose another one."
            )
            host.help_text = _("The host with the fewest servers is preselected.")
            host.empty_label = _("Choose one")
            self.initial["host"] = Host.objects.least_loaded()
        # Any number is answered by what `clean` and the row say of ports, a negative one too.
        self.fields["port"].validators = []
        self.add_secret_fields()
        if not is_new:
            self.initial["tags"] = ", ".join(tags_of(self.instance))

    def clean_tags(self) -> list[str]:
        """Return the tags that were typed. Programs that know nothing of tags leave the existing ones alone."""
        if "tags" not in self.data:
            return tags_of(self.instance) if self.instance.pk else []
        return adopt_spelling(self.instance, parse_tags(self.cleaned_data["tags"]))

    def clean_arguments(self) -> str:
        """Take -ip, which has a field of its own, out of what an admin typed; the row checks the rest."""
        text: str = self.cleaned_data["arguments"]
        if may(self.user, Verb.SET_ANY_PORT):
            try:
                text, self.moved_address = take_bind_address(text)
            except ValueError as error:
                raise ValidationError(str(error)) from None
        return text

    def clean(self) -> dict[str, Any]:
        """Refuse a host that takes no servers, and a port that is not for this user or that a program holds."""
        cleaned = super().clean() or self.cleaned_data
        if self.is_new and (obstacle := Host.objects.placement_obstacle()):
            self.add_error(None, obstacle)
        host = cleaned.get("host") or get_host(self.instance) or Host(name=settings.HOST_NAME)
        is_any_allowed = may(self.user, Verb.SET_ANY_PORT)
        port = cleaned.get("port")
        if text := find_port_obstacle(self.instance, host, port, is_any_allowed=is_any_allowed):
            self.add_error("port", text)
        if self.moved_address:
            self.set_columns.append("bind_address")
            self.notes.append(
                _(
                    "-ip %(address)s is now the bind address of server %(server)s, and no launch "
                    "argument. It is changed in the admin pages."
                )
                % {"address": self.moved_address, "server": self.instance.name}
            )
        return cleaned

    def read_values(self, row: Any) -> dict[str, str]:
        """Return what is stored; for each password a token, which is a different one each time it is set."""
        tokens = {secret.column: getattr(row, secret.column) for secret in ServerSecret}
        return super().read_values(row) | tokens | {"tags": ", ".join(tags_of(row))}

    def read_own_values(self) -> dict[str, str]:
        """Return what was typed, with the tags as they would be stored."""
        tags = sorted(self.cleaned_data["tags"])
        return super().read_own_values() | {"tags": ", ".join(tags)}

    def label_of(self, name: str) -> str:
        """Return what a value is called on the page."""
        labels = {secret.column: secret.label for secret in ServerSecret}
        return str(labels.get(name) or super().label_of(name))

    def show(self, name: str, yours: str, theirs: str) -> tuple[str, str]:
        """Return both values; passwords are not shown."""
        if name in {secret.column for secret in ServerSecret}:
            mine = _("set") if yours else _("none")
            other = _("set to another one") if theirs else _("none")
            return str(mine), str(other)
        return super().show(name, yours, theirs)

    def refuse_outdated(self) -> None:
        """Lock the owner before the rows of the server and its host, because `set_tags` locks the owner."""
        lock_person(self.instance.owner)
        super().refuse_outdated()

    def try_save(self) -> bool:
        """Store the server as `RowForm` does; ask for typed passwords once more if it cannot be."""
        is_saved = super().try_save()
        if not is_saved:
            self.ask_for_passwords_again()
        return is_saved

    def save(self, commit: bool = True) -> Server:
        """Store the server; of an existing one, only what the form writes.

        Call it in a transaction. Raises `TooManyServersError`, and what `Server.save` raises.
        """
        if self.moved_address:
            self.instance.bind_address = self.moved_address
        if self.instance._state.adding:  # noqa: SLF001 - documented
            take_server_place(self.instance.owner)
            super().save(commit)
        else:
            self.save_changes()
        set_tags(self.instance, self.cleaned_data["tags"])
        return self.instance


def get_host(server: Server) -> Host | None:
    """Return the server's host; None if it has none yet."""
    return server.host if server.host_id else None


def find_port_obstacle(
    server: Server, host: Host, port: int | None, *, is_any_allowed: bool
) -> str:
    """Return why the server may not have this port there; empty if it may, or has it already."""
    is_kept = server.pk is not None and (server.host_id, server.port) == (host.pk, port)
    if port is None or is_kept:
        return ""
    return host.find_port_obstacle(port, is_any_allowed=is_any_allowed, server_pk=server.pk)


@dataclass(frozen=True)
class OverlayPlace:
    """The fields of one overlay in the form of a blueprint, and the directions in which it can be moved.

    `moved` is the direction of the last move.
    """

    overlay: Overlay
    place: forms.BoundField
    pin: forms.BoundField | None
    is_chosen: bool
    may_rise: bool
    may_fall: bool
    moved: str = ""

    @property
    def focus(self) -> str:
        """The button that gets the keyboard focus back after a move: `up`, `down`, `out`, `add`, or none."""
        if not self.moved:
            return ""
        if not self.is_chosen:
            return "add"
        wanted = "down" if self.moved == "down" else "up"
        ways = {"up": self.may_rise, "down": self.may_fall}
        return next((way for way in (wanted, *ways) if ways[way]), "out")


class BlueprintForm(RowForm):
    """A blueprint with the place of each overlay: 1 is on top, and an overlay without a place is left out.

    On pages they are a list, and the numbers are hidden; scripts may send any numbers that give the order.
    Beside an overlay with versions is the choice of its version: the latest, or a pinned one.
    """

    class Meta:
        model = Blueprint
        fields = [*BLUEPRINT_FIELDS, *LOWEST_LIMITS]
        widgets = {
            "name": forms.TextInput(attrs=CODE),
            "arguments": CodeArea(rows=3),
            "config": CodeArea(rows=10),
            **{name: forms.NumberInput(attrs=NO_LIMIT) for name in LOWEST_LIMITS},
        }
        help_texts = {
            "name": _("Lower-case letters, digits and dashes."),
            "is_shared": _(
                "Every owner may then read its launch arguments and config, and make servers from"
                " it. Only you and admins can change it. Do not put passwords here: each server "
                "has its own."
            ),
        }

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reader = user
        rows = (
            self.instance.blueprint_overlays.select_related("version") if self.instance.pk else ()
        )
        self.stored_places = {row.overlay_id: row for row in rows}
        for name, lowest in LOWEST_LIMITS.items():
            self.fields[name].widget.attrs["min"] = lowest
        if self.instance.pk is None:
            self.fields["name"].widget.attrs["autofocus"] = True
        # One in use that is no longer shared stays selectable: saving the form must not drop it.
        usable = Q(pk__in=Overlay.objects.usable_by(user).values("pk"))
        overlays = Overlay.objects.filter(usable | Q(pk__in=self.stored_places))
        self.overlays = list(overlays.with_summaries())
        self._versions = read_versions(self.overlays, self.stored_places.values())
        for overlay in self.overlays:
            stored = self.stored_places.get(overlay.pk)
            self.fields[place_name(overlay)] = forms.IntegerField(
                label=overlay.name,
                help_text=overlay.summary,
                required=False,
                min_value=1,
                max_value=999,
                initial=stored.position if stored else None,
                widget=forms.HiddenInput,
            )
            if versions := self._versions.get(overlay.pk):
                self.fields[pin_name(overlay)] = forms.TypedChoiceField(
                    label=_("Version of %(name)s") % {"name": overlay.name},
                    required=False,
                    coerce=int,
                    empty_value=None,
                    choices=[
                        ("", _("latest")),
                        *(
                            (number, _("version %(number)d") % {"number": number})
                            for number in versions
                        ),
                    ],
                    initial=stored.version.number if stored and stored.version else "",
                )

    def plain_fields(self) -> list[forms.BoundField]:
        """Return the fields that are neither limits nor places of overlays."""
        return [self[name] for name in BLUEPRINT_FIELDS]

    def limit_fields(self) -> list[forms.BoundField]:
        """Return the limits on what its servers may use of their hosts."""
        return [self[name] for name in LOWEST_LIMITS]

    def limits_matter(self) -> bool:
        """Whether one of the limits is set, or has a fault."""
        return any(field.errors or field.value() for field in self.limit_fields())

    def overlay_places(self) -> list[OverlayPlace]:
        """Return the fields of the overlays, those in use first, in order."""
        placed = self._read_order()
        way, _blank, moved = self.moved.partition(" ")
        rest = [overlay for overlay in self.overlays if overlay not in placed]
        return [
            OverlayPlace(
                overlay,
                self[place_name(overlay)],
                self[pin_name(overlay)] if overlay.pk in self._versions else None,
                is_chosen=overlay in placed,
                may_rise=overlay in placed[1:],
                may_fall=overlay in placed[:-1],
                moved=way if str(overlay.pk) == moved else "",
            )
            for overlay in (*placed, *rest)
        ]

    def rest_matters(self) -> bool:
        """Whether an overlay that is left out was just moved there, or has a fault."""
        rest = [one for one in self.overlay_places() if not one.is_chosen]
        return any(one.moved or one.place.errors for one in rest)

    def move(self, wish: str) -> None:
        """Move the overlay with id 7: `up 7`, `down 7`, below all others (`add 7`), or out (`out 7`).

        Nothing is saved, and the rest of the input is not validated: the form is only shown again.
        """
        way, _blank, pk = wish.partition(" ")
        order = self._read_order()
        mover = next((overlay for overlay in self.overlays if str(overlay.pk) == pk), None)
        self.moved = wish if mover and move_in(order, mover, way) else ""
        data = cast("QueryDict", self.data).copy()
        for overlay in self.overlays:
            place = order.index(overlay) + 1 if overlay in order else ""
            data[place_name(overlay)] = str(place)
        self.data = data
        self._errors = ErrorDict()
        self.fields["name"].widget.attrs.pop("autofocus", None)

    def offer(self, name: str) -> None:
        """Place the overlay called `name` below all others, unless it has a place or cannot be used."""
        offered = next((overlay for overlay in self.overlays if overlay.name == name), None)
        if offered is not None and offered.pk not in self.stored_places:
            lowest = max((row.position for row in self.stored_places.values()), default=0)
            self.initial[place_name(offered)] = lowest + 1
            self.offered = offered

    offered: Overlay | None = None
    """The overlay that `offer` placed, so that the page can say so."""

    moved = ""
    """The last move, so that its button can get the keyboard focus back."""

    def _read_order(self) -> list[Overlay]:
        """Return the overlays that have a number, as typed now or as stored."""
        numbers: dict[int, int] = {}
        for overlay in self.overlays:
            value = str(self[place_name(overlay)].value() or "").strip()
            if value.isascii() and value.isdigit() and len(value) < 4:
                numbers[overlay.pk] = int(value)
        placed = [overlay for overlay in self.overlays if overlay.pk in numbers]
        return sorted(placed, key=lambda overlay: numbers[overlay.pk])

    def clean(self) -> dict[str, Any]:
        """Refuse two overlays at the same place, and passwords: each server has fields for those."""
        cleaned = super().clean() or self.cleaned_data
        if has_keys() and (found := find_settings("", cleaned.get("config", ""))):
            self.add_error("config", cast("Any", shorten(found, refuse_setting)))
        taken: dict[int, Overlay] = {}
        for overlay in self.overlays:
            place = cleaned.get(place_name(overlay))
            if place is None:
                continue
            if place in taken:
                self.add_error(
                    place_name(overlay),
                    _("%(name)s also has place %(place)s. Give each its own.")
                    % {"name": taken[place].name, "place": place},
                )
            if obstacle := self._find_obstacle(overlay):
                self.add_error(place_name(overlay), obstacle)
            taken[place] = overlay
        self.chosen_overlays = [taken[place] for place in sorted(taken)]
        self.chosen_pins = {
            overlay.pk: self._versions[overlay.pk][number]
            for overlay in self.chosen_overlays
            if (number := cleaned.get(pin_name(overlay))) is not None
        }
        return cleaned

    def _find_obstacle(self, overlay: Overlay) -> str:
        """Return why an overlay cannot be used yet; empty if it can.

        One that already has a place may keep it: a start says what is missing.
        """
        if overlay.is_host_folder or overlay.latest_id is not None:
            return ""
        if overlay.pk in self.stored_places:
            return ""
        return str(_("It has no files yet. Upload some on its page first."))

    def read_values(self, row: Any) -> dict[str, str]:
        """Return what is stored, with the overlays, topmost first."""
        pins = row.read_pins()
        lines = [describe_place(one, pins.get(one.pk)) for one in row.ordered_overlays()]
        return super().read_values(row) | {"overlays": "\n".join(lines)}

    def read_own_values(self) -> dict[str, str]:
        """Return what was typed, with the overlays that were chosen."""
        pins = self.chosen_pins
        lines = [describe_place(one, pins.get(one.pk)) for one in self.chosen_overlays]
        return super().read_values(self.instance) | {"overlays": "\n".join(lines)}

    def save(self, commit: bool = True) -> Blueprint:
        """Store the blueprint and its overlays; a new one only if its owner may have another."""
        if self.instance.pk is None:
            take_blueprint_place(self.instance.owner)
        blueprint: Blueprint = super().save(commit)
        blueprint.set_overlays(self.chosen_overlays, self.chosen_pins)
        return blueprint


def refuse_setting(setting: Setting) -> str:
    """Return why a blueprint's config may not set a password, as a sentence for one place."""
    return _(
        "%(place)s sets %(cvar)s, a password that every server of this blueprint would share. Remove it "
        "here and set “%(label)s” on each server instead."
    ) % {
        "place": setting.place,
        "cvar": setting.secret.cvar,
        "label": setting.secret.label,
    }


def move_in(order: list[Overlay], mover: Overlay, way: str) -> bool:
    """Move an overlay within an order, into it or out of it; return whether that move was possible."""
    if mover not in order:
        if way == "add":
            order.append(mover)
        return way == "add"
    here = order.index(mover)
    if way == "out":
        order.remove(mover)
    elif way == "up" and here > 0:
        order.insert(here - 1, order.pop(here))
    elif way == "down" and here < len(order) - 1:
        order.insert(here + 1, order.pop(here))
    else:
        return False
    return True


def place_name(overlay: Overlay) -> str:
    """Return the name of the form field for the place of `overlay`."""
    return f"place_{overlay.pk}"


def pin_name(overlay: Overlay) -> str:
    """Return the name of the form field for the version of `overlay`."""
    return f"pin_{overlay.pk}"


def describe_place(overlay: Overlay, pin: OverlayVersion | None) -> str:
    """Return an overlay in a blueprint in words."""
    return str(pin) if pin else overlay.name


def read_versions(
    overlays: Iterable[Overlay], places: Iterable[BlueprintOverlay]
) -> dict[int, dict[int, OverlayVersion]]:
    """Return the versions to choose from, by overlay and number, newest first. One query.

    These are the newest ones of each overlay, and those that are pinned already.
    """
    found: dict[int, dict[int, OverlayVersion]] = {}
    ids = [overlay.pk for overlay in overlays if overlay.latest_id is not None]
    pinned = [place.version for place in places if place.version]
    newest = OverlayVersion.objects.filter(overlay__in=ids).order_by("-pk").only(*CHOICE_COLUMNS)
    for version in (*newest[:MOST_CHOICES], *pinned):
        of_overlay = found.setdefault(version.overlay_id, {})
        if len(of_overlay) < CHOICES_PER_OVERLAY or version in pinned:
            of_overlay[version.number] = version
    return {pk: dict(sorted(versions.items(), reverse=True)) for pk, versions in found.items()}
