"""The passwords in a server's fields do not show in logs, states and errors, wherever they occur there."""

from collections.abc import Callable
from itertools import permutations
from typing import Any
from unittest.mock import Mock

import pytest

from hostops.errors import CommandError, HostError
from hostops.launch_arguments import ArgumentsError, parse_arguments
from hostops.specs import CancelToken, InstanceState, InstanceStatus
from jobs.claimed_jobs import ClaimedJob
from jobs.logs import append_job_log_line
from jobs.logs.finishing import Ending
from jobs.logs.safe_lines import MASK, make_line_safe, mask_known, secrets_of_server
from jobs.models import JobState
from jobs.operations import describe_state
from jobs.queue.liveness import register_worker
from jobs.queue.requests import enqueue
from jobs.queue.transitions import claim_next_job
from jobs.worker.execution import execute, plan
from servers.models import Server
from servers.secrets.encryption import ServerSecret
from tests.fakes import FakeHost

pytestmark = pytest.mark.django_db


@pytest.fixture
def server(server: Server) -> Server:
    """Return Alice's server with both passwords."""
    server.set_secret(ServerSecret.RCON_PASSWORD, "hunter2-of-rcon")
    server.set_secret(ServerSecret.JOIN_PASSWORD, "sesame-to-join")
    server.save()
    return server


def carry_out_start(server: Server) -> tuple[list[str], Ending]:
    """Carry out a start of the server; return the lines of its log, and how it ended."""
    enqueue("start", server=server, requested_by=None)
    job = claim_next_job(register_worker(server.host, concurrency=1, is_claiming=True))
    assert job
    lines: list[str] = []
    endings: list[Ending] = []
    sink = Mock(
        line=lambda _job, _stream, text: lines.append(text),
        finish=lambda _job, ending: endings.append(ending),
    )
    execute(plan(ClaimedJob.of(job)), sink, CancelToken())
    return lines, endings[0]


def test_a_jobs_lines_and_error_have_none(server: Server, fake_host: FakeHost) -> None:
    fake_host.settings["alpha"] = ('rcon_password "running-with-this"',)

    def fail(*arguments: Any) -> None:
        arguments[2]("stdout", "told: hunter2-of-rcon, sesame-to-join, running-with-this")
        raise HostError("It printed hunter2-of-rcon, and then running-with-this.")

    fake_host.act = fail
    lines, ending = carry_out_start(server)
    assert lines[0] == f"told: {MASK}, {MASK}, {MASK}"
    assert ending.error == f"It printed {MASK}, and then {MASK}."
    assert fake_host.specs[0].rcon_password == "hunter2-of-rcon"


@pytest.mark.parametrize("form", [str, str.encode])
def test_a_line_from_elsewhere_has_none(
    server: Server, settings: Any, form: Callable[[str], str | bytes]
) -> None:
    settings.STEAM_PASSWORD = "password-at-steam"
    Server.objects.update(config="tv_relaypassword relay-it")
    job = enqueue("start", server=server, requested_by=None)
    line = form("told: hunter2-of-rcon, sesame-to-join, relay-it, password-at-steam")
    append_job_log_line(job.pk, "stdout", line)
    assert job.logs.get().line == f"told: {MASK}, {MASK}, {MASK}, {MASK}"


def test_a_jobs_stage_has_none(server: Server, fake_host: FakeHost) -> None:
    fake_host.act = lambda *arguments: arguments[3]("Waiting for hunter2-of-rcon", None)
    enqueue("start", server=server, requested_by=None)
    job = claim_next_job(register_worker(server.host, concurrency=1, is_claiming=True))
    assert job
    sink = Mock()
    execute(plan(ClaimedJob.of(job)), sink, CancelToken())
    assert {call.args[1] for call in sink.stage.call_args_list} == {f"Waiting for {MASK}"}


def test_the_error_of_a_command_has_none_and_what_it_wrote_neither(
    server: Server, fake_host: FakeHost
) -> None:
    def fail(*_: Any) -> None:
        raise CommandError(
            "mount sesame-to-join failed", ["mount"], 32, stderr="mount: hunter2-of-rcon: no"
        )

    fake_host.act = fail
    lines, ending = carry_out_start(server)
    assert lines == [f"mount: {MASK}: no", f"mount {MASK} failed"]
    assert ending == Ending(JobState.FAILED, 32, f"mount {MASK} failed", ending.server_changes)
    assert ending.server_changes["last_error"] == f"Start: mount {MASK} failed"


@pytest.mark.parametrize("secrets", list(permutations(["hunter2", "hunter2-of-rcon", "of-rcon"])))
def test_of_a_password_within_another_nothing_is_left(secrets: tuple[str, ...]) -> None:
    assert mask_known("hunter2-of-rcon hunter2", secrets) == f"{MASK} {MASK}"


def test_a_job_whose_server_has_unreadable_settings_says_so_and_goes_on(
    server: Server, fake_host: FakeHost, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    monkeypatch.setattr(FakeHost, "instance_settings", Mock(side_effect=PermissionError("no")))
    assert carry_out_start(server)[1].state == JobState.SUCCEEDED
    assert "server alpha: the settings that it runs with cannot be read" in caplog.text


def test_a_start_with_a_password_that_cannot_be_decrypted_fails_with_the_sentence(
    server: Server, fake_host: FakeHost, settings: Any
) -> None:
    settings.SECRETS_KEYS = []
    _, ending = carry_out_start(server)
    assert ending.state == JobState.FAILED
    assert ending.error.startswith("The RCON password of server alpha cannot be read")
    assert fake_host.specs == []


def test_it_can_be_stopped_all_the_same(server: Server, fake_host: FakeHost, settings: Any) -> None:
    settings.SECRETS_KEYS = []
    enqueue("stop", server=server, requested_by=None)
    job = claim_next_job(register_worker(server.host, concurrency=1, is_claiming=True))
    assert job
    execute(plan(ClaimedJob.of(job)), Mock(), CancelToken())
    assert fake_host.verbs == ["stop"]


def test_a_states_detail_has_none_also_those_that_it_runs_with(
    server: Server, fake_host: FakeHost
) -> None:
    fake_host.settings["alpha"] = ('sv_password "running-with-this"',)
    detail = "Its last lines: hunter2-of-rcon sesame-to-join running-with-this"
    status = InstanceStatus("alpha", InstanceState.RUNNING, detail=detail)
    described = describe_state("local", server, status)
    assert described["state_detail"] == f"Its last lines: {MASK} {MASK} {MASK}"


def test_a_very_short_one_does_not_mask_half_of_every_line(server: Server) -> None:
    server.set_secret(ServerSecret.JOIN_PASSWORD, "abc")
    assert secrets_of_server(server) == {"hunter2-of-rcon"}


def test_no_module_remembers_them(server: Server) -> None:
    import gc

    secrets_of_server(server)
    server.to_spec()
    gc.collect()
    kept = [one for one in gc.get_objects() if isinstance(one, (dict, list, tuple, set))]
    # Only strings: comparing some of the other objects raises.
    holders = [
        one
        for one in kept
        if isinstance(one, (list, set))
        and any(isinstance(item, str) and item == "hunter2-of-rcon" for item in tuple(one))
    ]
    assert holders == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('+tv_password "x y"', "cannot be a launch argument"),
        ("+exec x +sv_password y", "cannot be a launch argument"),
        ("-netconpassword x", "cannot be used"),
        ('+tv_password "x -y"', "contains “-y”, which the game would take"),
        ('+hostname "x -netconpassword"', "contains “-netconpassword”, and"),
        ("+tv_password x//y", "into the config, its value"),
    ],
)
def test_what_is_said_of_a_password_argument_is_readable(text: str, said: str) -> None:
    with pytest.raises(ArgumentsError) as refused:
        parse_arguments(text)
    lines = [make_line_safe(fault.text) for fault in refused.value.faults]
    assert any(said in line for line in lines), lines
    assert MASK not in "".join(lines)
