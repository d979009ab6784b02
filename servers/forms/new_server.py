"""The form for a new server, which offers ready blueprints beside the existing ones."""

from dataclasses import dataclass
from typing import Any, cast

from django import forms
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils.functional import cached_property
from django.utils.translation import gettext as _

from servers.config import READY_BLUEPRINTS, find_rows, suggest_server_name
from servers.forms.model_forms import CODE, ServerForm
from servers.models import Blueprint, Host, Server
from servers.quotas import take_blueprint_place

NAME_TRIES = 5
"""How often to look for another name if other people take it at the same moment."""

READY_PREFIX = "ready:"
"""The prefix of a ready blueprint's value, so that it is never a number like those of stored ones."""


@dataclass(frozen=True)
class BlueprintChoice:
    """A blueprint as the form offers it."""

    value: str
    label: str
    text: str
    is_chosen: bool
    remark: str = ""


class BlueprintChoiceField(forms.ModelChoiceField):  # type: ignore[type-arg]
    """Chooses an existing blueprint, or a ready one, which becomes a row when the form is saved."""

    def __init__(self, owner: User) -> None:
        super().__init__(
            Blueprint.objects.usable_by(owner).without_texts(),
            label=_("Blueprint"),
            error_messages={
                "required": _("Choose how the server is played."),
                "invalid_choice": _(
                    "That blueprint is gone, or you may not use it. Choose another one."
                ),
            },
        )
        self._owner = owner

    def to_python(self, value: Any) -> Blueprint | None:
        """Return the blueprint; a ready one that is used for the first time is not stored yet."""
        key = str(value).removeprefix(READY_PREFIX)
        if value == READY_PREFIX + key and key in (rows := find_rows(self._owner)):
            return rows[key]
        return cast("Blueprint | None", super().to_python(value))


class NewServerForm(ServerForm):
    """A new server of `user`, with settings that suit most people."""

    def __init__(self, *args: Any, user: User, hosts: list[Host], **kwargs: Any) -> None:
        super().__init__(*args, user=user, hosts=hosts, **kwargs)
        wanted: Blueprint | None = self.initial.get("blueprint")
        self.fields["blueprint"] = BlueprintChoiceField(user)
        self.initial["blueprint"] = str(wanted.pk) if wanted else f"{READY_PREFIX}campaign"
        self.initial["name"] = suggest_server_name(user)
        self.fields["name"].widget.attrs = {**CODE, "autofocus": True}

    def ready_choices(self) -> list[BlueprintChoice]:
        """Return the ready blueprints, and which rows they are or will become. Two queries."""
        chosen = str(self["blueprint"].value())
        return [
            BlueprintChoice(
                value := f"{READY_PREFIX}{ready.key}",
                str(ready.label),
                str(ready.explanation),
                is_chosen=chosen in (value, str(row.pk or value)),
                remark=describe_row(ready.key, row),
            )
            for ready, row in zip(READY_BLUEPRINTS, self._ready_rows.values(), strict=True)
        ]

    def stored_choices(self) -> list[BlueprintChoice]:
        """Return the other existing blueprints, and whose they are if not the user's own. One query."""
        chosen = str(self["blueprint"].value())
        ready = [row.pk for row in self._ready_rows.values() if row.pk]
        rows = Blueprint.objects.usable_by(self.user).without_texts().exclude(pk__in=ready)
        rows = rows.select_related("owner")
        return [
            BlueprintChoice(
                str(row.pk),
                row.name,
                "" if row.owner_id == self.user.pk else _("of %(owner)s") % {"owner": row.owner},
                is_chosen=str(row.pk) == chosen,
            )
            for row in rows
        ]

    @cached_property
    def _ready_rows(self) -> dict[str, Blueprint]:
        """The rows that the ready blueprints are or will become, in order."""
        return find_rows(self.user)

    def first_fields(self) -> list[forms.BoundField]:
        """Return the fields that concern everybody: the name, and the host where there is a choice."""
        return [self[name] for name in ("name", "host") if name in self.fields]

    def more_fields(self) -> list[forms.BoundField]:
        """Return the fields that most people leave as they are."""
        return [self[name] for name in self.fields if name not in ("name", "host", "blueprint")]

    def more_matters(self) -> bool:
        """Whether any of `more_fields` is filled in, or has a fault."""
        return any(field.errors or field.value() for field in self.more_fields())

    def clean_blueprint(self) -> Blueprint:
        """Note whether the blueprint is one that is stored with the server: it has no id to check yet."""
        blueprint: Blueprint = self.cleaned_data["blueprint"]
        if blueprint._state.adding:  # noqa: SLF001 - documented
            self.unstored.add("blueprint")
        return blueprint

    def _get_validation_exclusions(self) -> set[str]:
        excluded: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]
        return excluded | self.unstored

    def save(self, commit: bool = True) -> Server:
        """Store the server, after its blueprint if that is a ready one; otherwise as `ServerForm` does."""
        blueprint: Blueprint = self.cleaned_data["blueprint"]
        if blueprint._state.adding:  # noqa: SLF001 - documented
            self.instance.blueprint = self.store_ready(blueprint)
        return super().save(commit)

    def store_ready(self, blueprint: Blueprint) -> Blueprint:
        """Return the row of a ready blueprint, stored unless another request has stored it meanwhile.

        Call it in a transaction in which the owner is locked. Raises IntegrityError if others keep taking its
        name.
        """
        content = (blueprint.arguments, blueprint.config)
        key = next(one.key for one in READY_BLUEPRINTS if (one.arguments, one.config) == content)
        for tries_left in reversed(range(NAME_TRIES)):
            row = find_rows(self.user)[key]
            if not row._state.adding:  # noqa: SLF001 - documented
                return row
            try:
                take_blueprint_place(self.user)
                with transaction.atomic():
                    row.save()
            except IntegrityError:  # Somebody else has just taken the name.
                if not tries_left:
                    raise
                continue
            text = _(
                "The server uses the new blueprint %(name)s. To change how it plays, edit that blueprint."
            )
            self.notes.append(text % {"name": row.name})
            return row
        raise AssertionError("unreachable")


def describe_row(key: str, row: Blueprint) -> str:
    """Return a sentence saying which blueprint a ready one is or becomes; empty if its name is as expected."""
    if not row._state.adding:  # noqa: SLF001 - documented
        return _("Uses your blueprint %(name)s.") % {"name": row.name}
    if row.name == key:
        return ""
    return _("Makes the blueprint %(name)s: there is another one called %(taken)s.") % {
        "name": row.name,
        "taken": key,
    }
