"""The forms with which people ban others: who, why, for how long, and where."""

import re
from datetime import timedelta
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from servers.models import Ban, Server
from servers.models.bans import REASON_CHARS
from servers.people.steam_id_field import SteamIdField
from servers.people.steam_ids import BanLine, read_ban_list

HOUR, DAY, EVER, OWN = "hour", "day", "ever", "own"
LONGEST_MINUTES = 10 * 365 * 24 * 60
MAX_LIST_CHARS = 256 * 1024
FAULTS_SHOWN = 10
FAULT_CHARS = 80
"""For a list that cannot be read: how many lines are named, and how much of each is shown."""

MOST_BANS = 5_000
"""One owner's bans in force, or made within a day: their servers are told of each, and of its end."""


class MinutesField(forms.IntegerField):
    """A number of minutes. Python would read digits of any script, and a `1_0` as 10."""

    # An empty placeholder: CSS can tell by it whether the field is empty.
    widget = forms.NumberInput(attrs={"data-own-length": "", "placeholder": " "})

    def to_python(self, value: Any) -> int | None:
        """Refuse what is not written in the digits 0 to 9."""
        if value not in self.empty_values and not re.fullmatch("[0-9]+", str(value).strip(" ")):
            raise forms.ValidationError(_("Enter a number of minutes, in the digits 0 to 9."))
        return super().to_python(value)


class BanForm(forms.Form):
    """Bans a person on one server or, if the user may do that, on all servers of its owner."""

    steam_id = SteamIdField()
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        required=False,
        max_length=REASON_CHARS,
        help_text=gettext_lazy("Only for those who manage the server."),
    )
    length = forms.ChoiceField(
        label=gettext_lazy("For how long"),
        choices=[
            (HOUR, gettext_lazy("1 hour")),
            (DAY, gettext_lazy("1 day")),
            (EVER, gettext_lazy("permanently")),
            (OWN, gettext_lazy("another time, in minutes:")),
        ],
        initial=DAY,
    )
    minutes = MinutesField(
        label=gettext_lazy("Minutes"), required=False, min_value=1, max_value=LONGEST_MINUTES
    )
    where = forms.ChoiceField(label=gettext_lazy("Where"))

    def __init__(self, *args: object, server: Server, may_ban_everywhere: bool) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._server = server
        everywhere = [("all", _("on all servers of %(owner)s") % {"owner": server.owner})]
        where: forms.ChoiceField = self.fields["where"]  # type: ignore[assignment]
        where.choices = [
            ("server", _("on %(server)s") % {"server": server.name}),
            *(everywhere if may_ban_everywhere else []),
        ]

    def clean(self) -> None:
        """Refuse an own length without minutes, and a ban beyond the limit."""
        has_minutes = self.cleaned_data.get("minutes") or self.has_error("minutes")
        if self.cleaned_data.get("length") == OWN and not has_minutes:
            self.add_error("minutes", _("Enter a number of minutes."))
        if find_room(self._server) < 1:
            raise forms.ValidationError(full_text(self._server))

    def make_ban(self, made_by_name: str) -> Ban:
        """Return the ban that the valid form describes, not saved."""
        said = self.cleaned_data
        minutes = {HOUR: 60, DAY: 24 * 60, EVER: 0, OWN: said["minutes"]}[said["length"]]
        known = self._server.player_sessions.filter(steam_id=said["steam_id"]).first()
        return make_ban(
            self._server,
            said["steam_id"],
            minutes,
            is_everywhere=said["where"] == "all",
            reason=said["reason"],
            name=known.name if known else "",
            made_by_name=made_by_name,
        )


class BanListForm(forms.Form):
    """Imports a `banned_user.cfg`, for one server."""

    text = forms.CharField(
        label=gettext_lazy("Lines of banned_user.cfg"),
        max_length=MAX_LIST_CHARS,
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false"}),
    )

    def __init__(self, *args: object, server: Server) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._server = server

    def clean_text(self) -> list[BanLine]:
        """Return the lines. If one is not a ban, none is imported, and the first such lines are named."""
        lines = list(read_ban_list(self.cleaned_data["text"]))
        faults = [fault for line in lines if (fault := find_line_fault(line))]
        if faults:
            more = len(faults) - FAULTS_SHOWN
            rest = (
                [_("%(count)s more lines are not bans either.") % {"count": more}]
                if more > 0
                else []
            )
            raise forms.ValidationError(
                [*faults[:FAULTS_SHOWN], *rest, _("Nothing was taken over.")]
            )
        if not lines:
            raise forms.ValidationError(_("There is no ban in it."))
        return lines

    def make_bans(self, made_by_name: str) -> tuple[list[Ban], int]:
        """Return the new bans, not saved, and how many there were already."""
        lines: list[BanLine] = self.cleaned_data["text"]
        of_server = Ban.objects.of_servers([self._server]).in_force()
        known = set(of_server.values_list("steam_id", flat=True))
        bans: list[Ban] = []
        for line in lines:
            if line.steam_id not in known:
                known.add(line.steam_id)
                ban = make_ban(self._server, line.steam_id, line.minutes, reason=_("From a list."))
                ban.made_by_name = made_by_name
                bans.append(ban)
        return bans, len(lines) - len(bans)


def find_line_fault(line: BanLine) -> str:
    """Return what is wrong with a line of a list, in a sentence; empty if it is a ban."""
    if not line.steam_id:
        shown = line.text.strip()
        shown = shown if len(shown) <= FAULT_CHARS else f"{shown[:FAULT_CHARS]}…"
        return _("Line %(number)s is not a ban: %(text)s") % {"number": line.number, "text": shown}
    if line.minutes > LONGEST_MINUTES:
        return _("Line %(number)s bans for more than ten years. Write 0 for a permanent ban.") % {
            "number": line.number
        }
    return ""


def make_ban(
    server: Server,
    steam_id: str,
    minutes: int,
    *,
    is_everywhere: bool = False,
    **fields: str,
) -> Ban:
    """Return a ban, not saved; 0 minutes means permanently."""
    now = timezone.now()
    return Ban(
        owner_id=server.owner_id,
        server=None if is_everywhere else server,
        steam_id=steam_id,
        created_at=now,
        ends_at=now + timedelta(minutes=minutes) if minutes else None,
        **fields,
    )


def find_room(server: Server) -> int:
    """Return how many more bans a server's owner may have.

    A ban for a minute counts for a day: otherwise somebody could import a list every minute without end.
    """
    of_owner = Ban.objects.filter(owner_id=server.owner_id)
    lately = of_owner.filter(created_at__gt=timezone.now() - timedelta(days=1))
    return MOST_BANS - max(of_owner.in_force().count(), lately.count())


def full_text(server: Server) -> str:
    """Return what to do if the limit of bans is reached."""
    text = _(
        "%(owner)s has %(most)s bans in force, or has made that many since yesterday, which is "
        "the limit. Lift some, or wait a day."
    )
    return text % {"owner": server.owner, "most": f"{MOST_BANS:,}"}
