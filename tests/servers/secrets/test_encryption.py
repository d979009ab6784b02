"""Passwords in the columns of servers: encrypted, decrypted, rotated, and what is said when that fails."""

from io import StringIO
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from servers.config.secret_moves import OtherKeysError, move_found_secrets
from servers.models import Blueprint, Host, Server
from servers.secrets.encryption import SecretError, ServerSecret, decrypt, encrypt, make_password

RCON, JOIN = ServerSecret.RCON_PASSWORD, ServerSecret.JOIN_PASSWORD
OLD_KEY, NEW_KEY = Fernet.generate_key().decode(), Fernet.generate_key().decode()

pytestmark = pytest.mark.django_db


def stored(server: Server) -> Server:
    """Return the server as it is stored."""
    return Server.objects.get(pk=server.pk)


def test_a_password_is_stored_as_a_token(server: Server) -> None:
    server.set_secret(JOIN, "sesame")
    server.save()
    row = Server.objects.filter(pk=server.pk).values().get()
    assert "sesame" not in str(row)
    assert stored(server).read_secret(JOIN) == "sesame"


def test_a_new_server_gets_a_random_rcon_password(
    server: Server, alice: User, host: Host, blueprint: Blueprint
) -> None:
    other = Server.objects.create(name="beta", owner=alice, host=host, blueprint=blueprint)
    first, second = server.read_secret(RCON), other.read_secret(RCON)
    assert first != second
    for password in (first, second, make_password()):
        assert len(password) == 24
        assert password.isascii()
        assert password.isalnum()


def test_without_keys_a_server_is_made_without_a_password(
    settings: Any, alice: User, host: Host, blueprint: Blueprint
) -> None:
    settings.SECRETS_KEYS = []
    server = Server.objects.create(
        name="beta", owner=alice, host=host, blueprint=blueprint, config="rcon_password hunter2"
    )
    assert server.stored_secrets == []
    assert server.config == "rcon_password hunter2"
    assert server.to_spec().rcon_password == ""
    with pytest.raises(SecretError, match="cannot be stored: SECRETS_KEYS is not set"):
        server.set_secret(RCON, "hunter2")


@pytest.mark.parametrize("bad", ["two words", 'quo"te', "semi;colon", "x" * 65, "Café"])
def test_what_a_config_cannot_carry_is_refused_without_showing_it(server: Server, bad: str) -> None:
    with pytest.raises(ValueError, match="The RCON password must have") as refusal:
        server.set_secret(RCON, bad)
    assert bad not in str(refusal.value)


def test_the_host_is_told_the_passwords_and_nobody_remembers_them(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.set_secret(RCON, "hunter2-of-rcon")
    server.set_secret(JOIN, "sesame-to-join")
    spec = server.to_spec()
    assert (spec.rcon_password, spec.join_password) == ("hunter2-of-rcon", "sesame-to-join")
    assert "hunter2" not in repr(spec)
    monkeypatch.setattr("servers.models.launches.find_spec_faults", pytest.fail)
    server.set_secret(RCON, "another-one")
    assert server.to_spec().rcon_password == "another-one"


def test_a_server_binds_to_its_own_address_else_to_its_hosts(server: Server) -> None:
    assert server.to_spec().bind_address == ""
    server.host.bind_address = "10.0.0.1"
    assert server.to_spec().bind_address == "10.0.0.1"
    server.bind_address = "10.0.0.2"
    assert server.to_spec().bind_address == "10.0.0.2"


class TestAPasswordAmongLaunchArguments:
    """From before there were fields; without a key, it stays there."""

    @pytest.fixture(autouse=True)
    def _no_keys(self, settings: Any, server: Server) -> None:
        settings.SECRETS_KEYS = []
        server.rcon_password_token = ""

    def test_it_is_told_to_the_host_and_is_not_on_the_command_line(self, server: Server) -> None:
        server.arguments = "+rcon_password hunter2 -maxplayers 8"
        spec = server.to_spec()
        assert spec.rcon_password == "hunter2"
        assert spec.arguments == ("+map", "c1m1_hotel", "-maxplayers", "8")

    def test_that_of_a_config_wins_as_in_the_game(self, server: Server) -> None:
        server.arguments = "+rcon_password hunter2"
        server.config = "rcon_password another1"
        assert server.to_spec().rcon_password == ""
        assert "another1" in server.to_spec().config


class TestKeysThatDoNotFit:
    def test_a_wrong_key_is_a_sentence_and_no_start(self, server: Server, settings: Any) -> None:
        settings.SECRETS_KEYS = [OLD_KEY]
        with pytest.raises(
            ValueError, match="The RCON password of server alpha cannot be decrypted"
        ):
            server.to_spec()
        (fault,) = server.secret_faults
        assert "SECRETS_KEYS" in fault
        assert server.launch_texts.readable_passwords() == []

    def test_a_key_that_is_gone_is_a_sentence(self, server: Server, settings: Any) -> None:
        settings.SECRETS_KEYS = []
        with pytest.raises(SecretError, match="cannot be read: SECRETS_KEYS is not set"):
            server.to_spec()

    def test_a_token_that_was_tampered_with_is_one_too(self, server: Server) -> None:
        server.rcon_password_token = "gAAAAAB-not-a-token-é"
        with pytest.raises(SecretError, match="cannot be decrypted"):
            server.read_secret(RCON)

    def test_a_process_with_other_keys_makes_no_passwords(
        self, server: Server, settings: Any
    ) -> None:
        """For instance a worker on a second machine whose settings were not copied."""
        settings.SECRETS_KEYS = [OLD_KEY]
        Server.objects.update(config="sv_password sesame")
        with pytest.raises(OtherKeysError, match="does not have"):
            move_found_secrets()
        assert stored(server).config == "sv_password sesame"


class TestRotation:
    @pytest.fixture(autouse=True)
    def _old_key(self, settings: Any, server: Server) -> None:
        settings.SECRETS_KEYS = [OLD_KEY]
        server.set_secret(RCON, "hunter2")
        server.set_secret(JOIN, "sesame")
        server.save()

    def test_the_first_key_encrypts_and_all_decrypt(self, settings: Any) -> None:
        of_old = encrypt("old")
        settings.SECRETS_KEYS = [NEW_KEY, OLD_KEY]
        of_new = encrypt("new")
        assert (decrypt(of_old), decrypt(of_new)) == ("old", "new")
        settings.SECRETS_KEYS = [NEW_KEY]
        assert decrypt(of_new) == "new"
        with pytest.raises(SecretError):
            decrypt(of_old)

    def test_afterwards_the_old_key_can_go(self, server: Server, settings: Any) -> None:
        settings.SECRETS_KEYS = [NEW_KEY, OLD_KEY]
        output = StringIO()
        call_command("rotatesecrets", stdout=output)
        assert output.getvalue() == "Encrypted 2 passwords with the first key.\n"
        settings.SECRETS_KEYS = [NEW_KEY]
        assert stored(server).launch_texts.readable_passwords() == ["hunter2", "sesame"]

    def test_it_says_what_it_could_not_read_and_does_the_rest(
        self, server: Server, settings: Any, alice: User, host: Host, blueprint: Blueprint
    ) -> None:
        settings.SECRETS_KEYS = [Fernet.generate_key().decode()]
        lost = Server.objects.create(name="lost", owner=alice, host=host, blueprint=blueprint)
        settings.SECRETS_KEYS = [NEW_KEY, OLD_KEY]
        output, errors = StringIO(), StringIO()
        with pytest.raises(CommandError, match="1 could not be decrypted"):
            call_command("rotatesecrets", stdout=output, stderr=errors)
        assert output.getvalue() == "Encrypted 2 passwords with the first key.\n"
        assert errors.getvalue().startswith("The RCON password of server lost cannot be decrypted")
        assert stored(lost).rcon_password_token == lost.rcon_password_token

    def test_one_that_is_killed_can_be_run_again(
        self, server: Server, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = Server.objects.create(
            name="beta", owner=server.owner, host=server.host, blueprint=server.blueprint
        )
        plain = other.read_secret(RCON)
        settings.SECRETS_KEYS = [NEW_KEY, OLD_KEY]
        really_save = Server.save

        def die_at_beta(row: Server, *args: Any, **kwargs: Any) -> None:
            really_save(row, *args, **kwargs)
            if row.name == "beta":
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Server, "save", die_at_beta)
            with pytest.raises(KeyboardInterrupt):
                call_command("rotatesecrets", stdout=StringIO())
        assert stored(other).rcon_password_token == other.rcon_password_token
        call_command("rotatesecrets", stdout=StringIO())
        settings.SECRETS_KEYS = [NEW_KEY]
        assert stored(other).read_secret(RCON) == plain
        assert stored(server).read_secret(RCON) == "hunter2"

    def test_without_keys_it_refuses(self, settings: Any) -> None:
        settings.SECRETS_KEYS = []
        with pytest.raises(CommandError, match=r"manage\.py makesecretskey"):
            call_command("rotatesecrets")


def test_a_new_key_is_printed_as_a_line_for_the_settings() -> None:
    output = StringIO()
    call_command("makesecretskey", stdout=output)
    name, _, key = output.getvalue().strip().partition("=")
    assert name == "SECRETS_KEYS"
    assert Fernet(key).decrypt(Fernet(key).encrypt(b"x")) == b"x"
