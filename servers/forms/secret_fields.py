"""The form fields of a server's passwords, and what a form does with passwords in a config."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from hostops.specs import require_secret
from servers.config import give_rcon_password
from servers.models import Server
from servers.secrets import ServerSecret, has_keys, take_secrets

ATTRIBUTES = {"spellcheck": "false", "autocapitalize": "off", "autocomplete": "new-password"}


class SecretField(forms.CharField):
    """A password that can be set. The stored one is never sent with the form."""

    def __init__(self, secret: ServerSecret, help_text: str) -> None:
        self._secret = secret
        widget = forms.PasswordInput(attrs=ATTRIBUTES)
        super().__init__(
            label=secret.label, help_text=help_text, widget=widget, required=False, strip=False
        )

    def clean(self, value: Any) -> str:
        """Return the password if a config can contain it."""
        try:
            return require_secret(self._secret.what, super().clean(value))
        except ValueError as error:
            raise ValidationError(str(error)) from None


class SecretsForm(forms.ModelForm):  # type: ignore[type-arg]
    """A server's form that puts passwords, typed or found in the config, into their own columns.

    `notes` tells people what was moved. Without keys everything stays where it is.
    """

    instance: Server

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.notes: list[str] = []
        self.set_columns: list[str] = []

    def full_clean(self) -> None:
        """Check the form; if it is refused, ask once more for the passwords that were typed."""
        super().full_clean()
        if self.is_bound and self.errors:
            self.ask_for_passwords_again()

    def ask_for_passwords_again(self) -> None:
        """Say at each password that was typed that it has to be typed again: a page does not send it back."""
        for secret in ServerSecret:
            name = secret.value
            is_typed = name in self.fields and self.data.get(self.add_prefix(name))
            if is_typed and name not in self.errors:
                self.add_error(name, _("Enter it again: it is not saved yet."))

    def add_secret_fields(self) -> None:
        """Add a field for each password, and one that removes the join password."""
        if not has_keys():
            return
        hints = {
            ServerSecret.RCON_PASSWORD: _("Leave it empty to get a random one."),
            ServerSecret.JOIN_PASSWORD: _(
                "Players have to enter it. Leave it empty to let everybody in."
            ),
        }
        for secret in self.instance.stored_secrets:
            hints[secret] = _("One is set. Leave it empty to keep it.")
        for secret, hint in hints.items():
            self.fields[secret.value] = SecretField(secret, hint)
        if self.instance.has_secret(ServerSecret.JOIN_PASSWORD):
            self.fields["remove_join_password"] = forms.BooleanField(
                label=_("Remove the join password, so that everybody may join"), required=False
            )

    def clean(self) -> dict[str, Any]:
        """Set the passwords, and remove from the config those that it sets."""
        cleaned = super().clean() or self.cleaned_data
        if not has_keys():
            return cleaned
        taken = take_secrets("", cleaned.get("config", ""))
        for secret in ServerSecret:
            self._set_secret(
                secret,
                typed=cleaned.get(secret.value, ""),
                found=taken.values.get(secret, ""),
                is_removed=cleaned.get(f"remove_{secret.value}", False),
            )
        if not self.errors:
            cleaned["config"] = taken.config
        return cleaned

    def _set_secret(
        self, secret: ServerSecret, *, typed: str, found: str, is_removed: bool
    ) -> None:
        if typed and is_removed:
            self.add_error(secret.value, _("Either set a password or remove it, not both."))
        elif found and (is_removed or typed not in ("", found)):
            self.add_error(
                "config",
                _("%(cvar)s differs from the field “%(label)s”. Remove it here.")
                % {"cvar": secret.cvar, "label": secret.label},
            )
        elif typed or found or is_removed:
            self.instance.set_secret(secret, typed or found)
            self.set_columns.append(secret.column)
            if found:
                self.notes.append(
                    _("The %(what)s was moved from the config to the field “%(label)s”.")
                    % {"what": secret.words, "label": secret.label}
                )

    def save_changes(self) -> None:
        """Store what the form changes of an existing server: jobs know more about its other columns."""
        model_fields = {field.name for field in self.instance._meta.fields}
        written = [name for name in self.fields if name in model_fields]
        self.instance.save(update_fields=[*written, *self.set_columns, "updated_at"])
        if has_keys():
            give_rcon_password(self.instance.pk)
