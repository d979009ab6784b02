"""Console commands: what people had a server execute, and its answers."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F
from django.db.models.functions import Substr
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from servers.models.servers import Server

ANSWER_SECONDS = 5.0
"""How long a server may take to answer."""

TAKE_WITHIN = timedelta(seconds=30)
"""If no worker takes a command by then, it is not sent: nobody expects a kick from an hour ago."""

LOST_AFTER = timedelta(seconds=ANSWER_SECONDS + 10)
"""Long before this, a worker has stored an answer, or that there was none."""

COMMANDS_KEPT = 500
ANSWER_BYTES_KEPT = 32 * 1024**2
"""The limits per server: the newest commands, and their answers as text."""

MAX_COMMAND_BYTES = 510
"""The engine's limit for one command (Source SDK, `CCommandBuffer`)."""


ANSWER_CHARS_SHOWN = 16 * 1024
"""How much of an answer a page shows; the rest is a click away."""


class CommandState(models.TextChoices):
    """The state of a command.

    `queued` → `sent` → `answered`, `typed` (into the console: no answer is known), `unanswered` (in time) or
    `lost` (its worker died); `queued` → `failed`, or `sent` → `failed` if it turned out that nothing was sent.
    A command that is no longer `queued` is never sent again.
    """

    QUEUED = "queued", gettext_lazy("waits for the host’s worker")
    SENT = "sent", gettext_lazy("sent")
    ANSWERED = "answered", gettext_lazy("answered")
    TYPED = "typed", gettext_lazy("typed into the console")
    UNANSWERED = "unanswered", gettext_lazy("sent, no answer")
    LOST = "lost", gettext_lazy("sent, answer lost")
    FAILED = "failed", gettext_lazy("not sent")


KINDS_BY_WORD: dict[str, str | Promise] = {
    "changelevel": gettext_lazy("Map change"),
    "map": gettext_lazy("Map change"),
    "kick": gettext_lazy("Kick"),
    "kickid": gettext_lazy("Kick"),
    "sm_kick": gettext_lazy("Kick"),
    "say": gettext_lazy("Message to the players"),
    "sm_say": gettext_lazy("Message to the players"),
    "sm_psay": gettext_lazy("Message to one player"),
}
"""What the audit calls commands that begin with these words."""


UNFINISHED_STATES = (CommandState.QUEUED, CommandState.SENT)


class ConsoleCommandQuerySet(models.QuerySet["ConsoleCommand"]):
    """Commands, by their state."""

    def unfinished(self) -> "ConsoleCommandQuerySet":
        """Return the commands that are waiting, or whose answer is."""
        return self.filter(state__in=UNFINISHED_STATES)

    def shown(self) -> "ConsoleCommandQuerySet":
        """Fetch what pages show, newest first; of long answers only the beginning, as `answer_head`."""
        beginning = Substr("answer", 1, ANSWER_CHARS_SHOWN)
        return self.defer("answer", "typed").annotate(answer_head=beginning).order_by("-id")


class ConsoleCommand(models.Model):
    """One line for a server's console, who sent it, and the answer.

    `text` and `answer` contain no passwords. `typed` is the line itself, until it is sent.
    """

    server = models.ForeignKey(
        Server, models.CASCADE, related_name="console_commands", db_index=False
    )
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    requested_by_name = models.CharField(max_length=150, blank=True)
    typed = models.TextField(blank=True)
    text = models.TextField()
    state = models.CharField(max_length=16, choices=CommandState, default=CommandState.QUEUED)
    answer = models.TextField(blank=True)
    answer_bytes = models.PositiveIntegerField(default=0)
    remark = models.TextField(
        blank=True, help_text=gettext_lazy("What there is to say of its end, for people.")
    )
    created_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = ConsoleCommandQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["server", "-id"], name="commands_of_server"),
            models.Index(fields=["state", "server"], name="commands_by_state"),
            models.Index(fields=["-created_at", "-id"], name="commands_by_age"),
        ]
        constraints = [
            # srcds mixes up the answers of several connections, so only one command at a time is sent.
            models.UniqueConstraint(
                fields=["server"],
                condition=models.Q(state="sent"),
                name="one_command_at_a_time",
            ),
        ]

    def __str__(self) -> str:
        return f"command {self.pk} for {self.server}"

    def get_absolute_url(self) -> str:
        """Return the address of the page of its server's commands that begins with it and its answer."""
        page = reverse("jobs:commands", args=[self.server.name])
        return f"{page}?before={self.pk + 1}"

    @property
    def kind_label(self) -> str:
        """What it does, in words, judged by its first word."""
        word = self.text.split(maxsplit=1)[0].lower() if self.text.strip() else ""
        return str(KINDS_BY_WORD.get(word, _("Console command")))

    @property
    def is_finished(self) -> bool:
        """Whether it will never change again."""
        return self.state not in UNFINISHED_STATES

    @property
    def has_answer(self) -> bool:
        """Whether the server printed something."""
        return self.answer_bytes > 0

    @property
    def is_cut(self) -> bool:
        """Whether the answer is longer than its `answer_head`."""
        fetched: dict[str, Any] = vars(self)
        return len(fetched.get("answer_head", "")) >= ANSWER_CHARS_SHOWN

    @property
    def is_silent(self) -> bool:
        """Whether the server executed it and printed nothing."""
        return self.state == CommandState.ANSWERED and not self.has_answer

    def change(self, before: CommandState, after: CommandState, **changes: Any) -> bool:
        """Change its state with `changes`; return False, changing nothing, if it is not in state `before`.

        Call this in a transaction. It also announces the change to the server's watchers, except for `sent`,
        since the answer usually comes before they could read that.
        """
        rows = ConsoleCommand.objects.filter(pk=self.pk, state=before)
        if not rows.update(state=after, **changes):
            return False
        if after != CommandState.SENT:
            note_news(self.server_id)
        return True

    @classmethod
    def prune(cls, server_id: int) -> None:
        """Delete a server's oldest finished commands beyond the limits."""
        sizes = cls.objects.filter(server_id=server_id).order_by("-id")
        kept_bytes = 0
        for number, (pk, size) in enumerate(sizes.values_list("pk", "answer_bytes"), start=1):
            kept_bytes += size
            # The newest stays, whatever its size.
            if number > 1 and (number > COMMANDS_KEPT or kept_bytes > ANSWER_BYTES_KEPT):
                older = cls.objects.filter(server_id=server_id, pk__lte=pk)
                older.exclude(state__in=UNFINISHED_STATES).delete()
                return


def note_news(server_id: int) -> None:
    """Announce to a server's watchers that something about its commands is new."""
    Server.objects.filter(pk=server_id).update(commands_version=F("commands_version") + 1)
