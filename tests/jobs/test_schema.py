"""The tables that the migrations make, new and from the first schema: they have what the models declare.

New ones are made in one step (`0001_squashed_*`), older ones were made migration by migration.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError, SystemCheckError
from django.db import IntegrityError, connection, models, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import StateApps

from jobs.models import Job
from servers.models import Host, Server
from servers.permissions import PEOPLE_VERBS, Verb, may

OUR_APPS = ("servers", "jobs", "accounts")
FIRST_SCHEMA = [("jobs", "0001_initial"), ("servers", "0001_initial")]

pytestmark = pytest.mark.django_db


def list_tables() -> list[type[models.Model]]:
    return [model for app in OUR_APPS for model in apps.get_app_config(app).get_models()]


def find_missing() -> list[str]:
    """Name each constraint and index of the models that the database lacks."""
    missing = []
    with connection.cursor() as cursor:
        for model in list_tables():
            there = connection.introspection.get_constraints(cursor, model._meta.db_table)
            declared = [*model._meta.constraints, *model._meta.indexes]
            missing += [one.name for one in declared if one.name not in there]
    return missing


def describe_tables() -> dict[str, Any]:
    """Return the columns of each table, and its constraints and indexes: by name, if they have one."""
    described = {}
    with connection.cursor() as cursor:
        for model in list_tables():
            table = model._meta.db_table
            columns = connection.introspection.get_table_description(cursor, table)
            constraints = connection.introspection.get_constraints(cursor, table)
            described[table] = (
                {column.name: column for column in columns},
                sorted((name.rstrip("0123456789_"), str(it)) for name, it in constraints.items()),
            )
    return described


def remove_tables() -> None:
    with connection.schema_editor() as editor:
        for table in list_tables():
            editor.delete_model(table)
    MigrationRecorder(connection).migration_qs.filter(app__in=OUR_APPS).delete()


@pytest.fixture
def first_schema(transactional_db: None) -> Iterator[StateApps]:
    """Give the database the first schema, and afterwards today's."""
    remove_tables()
    executor = MigrationExecutor(connection)
    # Migration by migration, not in one step.
    executor.loader = MigrationLoader(connection, replace_migrations=False)
    executor.migrate(FIRST_SCHEMA)
    try:
        yield executor.loader.project_state(FIRST_SCHEMA).apps
    finally:
        call_command("migrate", verbosity=0)


def test_it_holds_every_constraint_and_index_of_the_models() -> None:
    assert list_tables()
    assert find_missing() == []


def test_what_was_stored_in_the_first_schema_is_there_after_an_upgrade(
    first_schema: StateApps,
) -> None:
    old = first_schema.get_model
    user = old("auth", "User").objects.create(username="kim")
    old("auth", "User").objects.create(username="sam", is_staff=True)
    old("auth", "User").objects.create(username="root", is_staff=True, is_superuser=True)
    host = old("servers", "Host").objects.create(name="attic")
    blueprint = old("servers", "Blueprint").objects.create(name="coop", owner=user)
    server = old("servers", "Server").objects.create(
        name="alpha", owner=user, host=host, port=27015, blueprint=blueprint
    )
    job = old("jobs", "Job").objects.create(operation="start", server=server, state="running")
    old("jobs", "Job").objects.create(operation="stop", server=server, state="failed")
    old("jobs", "JobLog").objects.create(job=job, seq=1, stream="stdout", line="Starting.")

    call_command("migrate", verbosity=0)

    assert find_missing() == []
    assert Server.objects.get().host.name == "attic"
    assert [log.line for log in Job.objects.running().get().logs.all()] == ["Starting."]
    # `finished_at` tells finished jobs from the others.
    over = Job.objects.finished().get()
    assert over.finished_at == over.updated_at
    kim, sam, root = (User.objects.get(username=name) for name in ("kim", "sam", "root"))
    # Staff could do everything in the panel, and still can.
    could = set(Verb) - {Verb.VIEW_ANY_JOB} - PEOPLE_VERBS
    assert {verb for verb in Verb if may(sam, verb)} == could
    assert set(Job.objects.visible_to(sam)) == set(Job.objects.all())
    assert [group.name for group in sam.groups.all()] == ["Host admins"]
    assert not kim.groups.exists()
    assert not root.groups.exists()
    with pytest.raises(IntegrityError), transaction.atomic():
        Job.objects.create(operation="stop", server=Server.objects.get(), state="running")

    # A new database, which is made in one step, has the same tables.
    upgraded = describe_tables()
    remove_tables()
    assert upgraded.keys().isdisjoint(connection.introspection.table_names())
    call_command("migrate", verbosity=0)
    assert describe_tables() == upgraded


@pytest.mark.django_db(transaction=True)
def test_going_back_to_a_migration_that_was_replaced_loses_no_job() -> None:
    """Django plans to undo the one step of the other apps, and to fail only after that."""
    Job.objects.create(operation="install", host=Host.local())
    applied = MigrationRecorder(connection).applied_migrations().keys()
    try:
        with pytest.raises(CommandError, match=r"squashed.* cannot be undone, so nothing"):
            call_command("migrate", "servers", "0023", verbosity=0)
        assert MigrationRecorder(connection).applied_migrations().keys() == applied
    finally:
        call_command("migrate", verbosity=0)
    assert Job.objects.count() == 1


def test_a_new_database_can_be_made_again_after_a_kill_between_the_records_of_one_step(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    record: Any = MigrationRecorder.record_applied
    killed = set()

    def die_once(recorder: MigrationRecorder, app: str, name: str) -> None:
        if app in OUR_APPS and name.startswith("0002_") and app not in killed:
            killed.add(app)
            raise KeyboardInterrupt
        record(recorder, app, name)

    remove_tables()
    monkeypatch.setattr(MigrationRecorder, "record_applied", die_once)
    try:
        for _app in OUR_APPS:
            with pytest.raises(KeyboardInterrupt):
                call_command("migrate", verbosity=0)
    finally:
        call_command("migrate", verbosity=0)
    assert find_missing() == []


@pytest.mark.django_db(transaction=True)
def test_records_of_migrations_that_contradict_each_other_are_told() -> None:
    recorder = MigrationRecorder(connection)
    [name] = (
        name for app, name in recorder.applied_migrations() if (app, name[:4]) == ("auth", "0001")
    )
    recorder.record_unapplied("auth", name)
    try:
        with pytest.raises(CommandError, match=r"brought up to date: .*auth\.0001"):
            call_command("migrate", "--check", verbosity=0)
    finally:
        recorder.record_applied("auth", name)


CHECKS = [
    partial(call_command, "migrate", "--check", verbosity=0, skip_checks=False),
    partial(call_command, "check", "--database=default", stderr=StringIO()),
]


@pytest.mark.skipif(not settings.IS_SQLITE, reason="only SQLite has one lock for all who write")
@pytest.mark.parametrize("check", CHECKS)
def test_a_locked_database_is_not_taken_for_one_without_json(
    transactional_db: None, check: Callable[[], object]
) -> None:
    del transactional_db
    vars(connection.features).pop("supports_json_field", None)
    with closing(sqlite3.connect(connection.settings_dict["NAME"])) as other:
        other.execute("BEGIN IMMEDIATE")
        check()


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_still_finds_an_sqlite_without_json(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch, check: Callable[[], object]
) -> None:
    del transactional_db
    monkeypatch.setattr(connection.features, "supports_json_field", False)
    monkeypatch.setattr("l4d2site.management.commands.check.recognize_json", lambda _: None)
    with pytest.raises(SystemCheckError, match=r"fields\.E180"):
        check()


def test_an_upgrade_that_fails_says_why_and_not_that_it_is_to_be_run(
    transactional_db: None,
) -> None:
    remove_tables()
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE jobs_job (id integer)")
    try:
        with pytest.raises(
            CommandError, match=r"brought up to date: .*jobs_job.* already exists\. "
        ):
            call_command("migrate", verbosity=0)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE jobs_job")
        call_command("migrate", verbosity=0)
    assert find_missing() == []
