"""Moving passwords from stored configs into fields, whatever happens to the process that does it."""

import threading
from io import StringIO
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection, connections

from servers.config.secret_moves import find_unmoved, move_found_secrets
from servers.models import Blueprint, Host, Server
from servers.secrets.encryption import ServerSecret

RCON, JOIN = ServerSecret.RCON_PASSWORD, ServerSecret.JOIN_PASSWORD


def make_old_server(name: str, blueprint: Blueprint, **texts: str) -> Server:
    """Return a server as it was stored before there were keys."""
    server = Server(
        name=name, owner=blueprint.owner, host=Host.local(), blueprint=blueprint, **texts
    )
    with patch("servers.models.servers.has_keys", return_value=False):
        server.save()
    return server


def passwords(server: Server) -> tuple[str, str]:
    """Return the RCON and the join password that are stored for a server."""
    server.refresh_from_db()
    return server.read_secret(RCON), server.read_secret(JOIN)


@pytest.mark.django_db
class TestMoves:
    def test_a_servers_own_go_into_its_fields(self, blueprint: Blueprint) -> None:
        server = make_old_server(
            "old",
            blueprint,
            config="rcon_password hunter2\nsv_lan 0\n",
            arguments="+sv_password sesame",
        )
        assert move_found_secrets()
        assert passwords(server) == ("hunter2", "sesame")
        assert (server.config, server.arguments) == ("sv_lan 0\n", "")

    def test_a_blueprints_go_to_each_of_its_servers_that_has_none(
        self, blueprint: Blueprint
    ) -> None:
        Blueprint.objects.update(config="rcon_password shared\nsv_password open\nsv_lan 0\n")
        plain = make_old_server("plain", blueprint)
        own = make_old_server("own", blueprint, config="rcon_password hunter2")
        without = make_old_server("without", blueprint, config='sv_password ""')
        clever = make_old_server("clever", blueprint, config="sv_lan 0; rcon_password hunter3")
        move_found_secrets()
        blueprint.refresh_from_db()
        assert blueprint.config == "sv_lan 0\n"
        assert passwords(plain) == ("shared", "open")
        assert passwords(own) == ("hunter2", "open")
        assert passwords(without) == ("shared", "")
        assert passwords(clever) == ("", "open"), "what it sets itself must go on to count"

    def test_a_server_that_sets_none_gets_a_random_one(self, blueprint: Blueprint) -> None:
        server = make_old_server("old", blueprint)
        assert move_found_secrets() == 1
        assert len(passwords(server)[0]) == 24

    def test_a_second_time_there_is_nothing_to_do(self, blueprint: Blueprint) -> None:
        Blueprint.objects.update(config="sv_password open")
        server = make_old_server("old", blueprint, config="rcon_password hunter2")
        assert move_found_secrets() == 2
        before = passwords(server)
        assert move_found_secrets() == 0
        assert passwords(server) == before

    def test_without_keys_everything_stays(self, blueprint: Blueprint, settings: Any) -> None:
        server = make_old_server("old", blueprint, config="rcon_password hunter2")
        settings.SECRETS_KEYS = []
        assert move_found_secrets() == 0
        server.refresh_from_db()
        assert server.config == "rcon_password hunter2"
        assert server.stored_secrets == []
        assert find_unmoved(server) == []

    def test_a_server_made_meanwhile_has_what_its_blueprint_sets(
        self, blueprint: Blueprint, alice: User
    ) -> None:
        blueprint.config = "rcon_password shared\nsv_password open"
        blueprint.save()
        server = Server.objects.create(
            name="new", owner=alice, host=Host.local(), blueprint=blueprint
        )
        assert passwords(server) == ("shared", "open")

    def test_a_worker_begins_with_it(self, blueprint: Blueprint) -> None:
        server = make_old_server("old", blueprint, config="rcon_password hunter2")
        with patch("jobs.management.commands.runjobs.worker_loop") as loop:
            loop.side_effect = lambda **_: passwords(server)
            call_command("runjobs", stdout=StringIO())
        assert loop.called
        assert passwords(server) == ("hunter2", "")

    def test_the_panel_begins_with_it_once_its_tables_are_there(self, blueprint: Blueprint) -> None:
        server = make_old_server("old", blueprint, config="rcon_password hunter2")
        seen: list[tuple[str, bool]] = []

        def note(step: str, *_: Any, **__: Any) -> None:
            server.refresh_from_db()
            seen.append((step, bool(server.stored_secrets)))

        serve = "l4d2site.management.commands.serve"
        with patch(f"{serve}.call_command", note), patch(f"{serve}.supervise") as supervise:
            supervise.side_effect = lambda **_: note("supervise")
            call_command("serve", stdout=StringIO())
        assert seen == [("migrate", False), ("collectstatic", True), ("supervise", True)]

    def test_a_worker_with_other_keys_says_so_and_works(
        self, server: Server, settings: Any
    ) -> None:
        settings.SECRETS_KEYS = ["b3RoZXIta2V5LW90aGVyLWtleS1vdGhlci1rZXktb3Q="]
        errors = StringIO()
        with patch("jobs.management.commands.runjobs.worker_loop") as loop:
            call_command("runjobs", stdout=StringIO(), stderr=errors)
        assert loop.called
        assert "cannot be decrypted" in errors.getvalue()


@pytest.mark.django_db(transaction=True)
class TestMovesThatAreDisturbed:
    @pytest.mark.parametrize("writes_before_death", [1, 2, 3, 4])
    def test_one_that_is_killed_loses_nothing(
        self, blueprint: Blueprint, monkeypatch: pytest.MonkeyPatch, writes_before_death: int
    ) -> None:
        Blueprint.objects.update(config="sv_password open\n")
        servers = [
            make_old_server(name, blueprint, config=f"rcon_password {name}-pass\n")
            for name in ("one", "two")
        ]
        left = writes_before_death
        really_save = Server.save

        def die(row: Server, *args: Any, **kwargs: Any) -> None:
            nonlocal left
            really_save(row, *args, **kwargs)
            left -= 1
            if not left:
                raise KeyboardInterrupt

        with monkeypatch.context() as context:
            context.setattr(Server, "save", die)
            with pytest.raises(KeyboardInterrupt):
                move_found_secrets()
        blueprint.refresh_from_db()
        for server in servers:
            server.refresh_from_db()
            is_moved = server.read_secret(RCON) == f"{server.name}-pass"
            assert is_moved is (server.config == "")
            assert (server.read_secret(JOIN) == "open") is (blueprint.config == "")
        move_found_secrets()
        assert [passwords(server) for server in servers] == [
            ("one-pass", "open"),
            ("two-pass", "open"),
        ]
        blueprint.refresh_from_db()
        assert blueprint.config == ""

    def test_two_at_a_time_move_each_once(self, blueprint: Blueprint) -> None:
        Blueprint.objects.update(config="sv_password open\n")
        servers = [
            make_old_server(f"s{number}", blueprint, config=f"rcon_password pass-{number}\n")
            for number in range(6)
        ]
        failures: list[BaseException] = []
        counts: list[int] = []
        barrier = threading.Barrier(2)

        def move() -> None:
            try:
                barrier.wait(timeout=30)
                counts.append(move_found_secrets())
            except BaseException as error:  # noqa: BLE001 - told below
                failures.append(error)
            finally:
                connections.close_all()

        threads = [threading.Thread(target=move) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert failures == []
        assert sum(counts) == 7
        assert [passwords(server) for server in servers] == [
            (f"pass-{number}", "open") for number in range(6)
        ]
        assert connection.is_usable()


@pytest.mark.django_db
class TestWhatCouldNotBeMoved:
    def test_it_names_the_place_and_not_the_value(self, blueprint: Blueprint) -> None:
        server = make_old_server("old", blueprint, config="sv_lan 0\nx; rcon_password hunter2")
        move_found_secrets()
        server.refresh_from_db()
        (sentence,) = find_unmoved(server)
        assert sentence.startswith("Line 2 of the own config sets rcon_password")
        assert "hunter2" not in sentence
        assert "the field “RCON password” of the server" in sentence
        assert server.stored_secrets == []

    def test_a_blueprint_that_no_server_uses_keeps_its_lines(self, blueprint: Blueprint) -> None:
        blueprint.config = "sv_password sesame"
        blueprint.save()
        assert move_found_secrets() == 0
        (sentence,) = find_unmoved(blueprint)
        assert "no server uses this blueprint" in sentence
        assert "sesame" not in sentence

    def test_what_waits_for_the_worker_says_so(self, server: Server) -> None:
        Blueprint.objects.update(arguments="+sv_password sesame")
        server.blueprint.refresh_from_db()
        (sentence,) = find_unmoved(server.blueprint)
        assert "when the worker starts the next time" in sentence
        move_found_secrets()
        server.blueprint.refresh_from_db()
        assert find_unmoved(server.blueprint) == []

    def test_most_have_nothing_to_say(self, server: Server) -> None:
        assert find_unmoved(server) == find_unmoved(server.blueprint) == []
