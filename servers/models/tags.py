"""The short labels that people put on servers to find them."""

from django.db import models

TAG_CHARS = 30


class ServerTag(models.Model):
    """One label on one server. A tag is nothing but its name: it disappears with its last row."""

    server = models.ForeignKey(
        "servers.Server", models.CASCADE, related_name="tags", db_index=False
    )
    name = models.CharField(max_length=TAG_CHARS)

    class Meta:
        ordering = ["name"]
        constraints = [
            # Its index also finds the tags of a server.
            models.UniqueConstraint(fields=["server", "name"], name="one_tag_once_per_server"),
            models.CheckConstraint(condition=~models.Q(name=""), name="tag_has_a_name"),
        ]
        indexes = [models.Index(fields=["name", "server"], name="servers_of_tag")]

    def __str__(self) -> str:
        return self.name
