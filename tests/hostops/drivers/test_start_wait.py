"""A start that waits: what ends the wait, and what happens to a server that does not answer."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from hostops.drivers.port_holders import PortLook
from hostops.drivers.start_wait import UnansweredError
from hostops.drivers.unanswered import explain_silence, find_settings
from hostops.errors import HostError
from hostops.host import Host
from hostops.instances import runs
from hostops.instances.config_chain import ExecutedFiles, store_parts
from hostops.layout import HostLayout
from hostops.linux.sockets import BoundSocket, Protocol
from hostops.specs import SILENT_NOTE, ConfigPart, InstanceSpec, InstanceState
from tests.hostops.hosts import (
    DRIVER,
    Output,
    game_pid,
    game_processes,
    instance_of,
    latest_run,
    write_control,
)
from tests.waiting import wait_until

RUNNING, STOPPED = InstanceState.RUNNING, InstanceState.STOPPED


def test_a_map_that_is_not_there_ends_the_wait_and_the_nearest_is_named(
    host: Host, root: Path, spec: InstanceSpec
) -> None:
    host.initialize(replace(spec, arguments=("+map", "c5m1_waterfont")))
    # Nobody knows what is in a pack that cannot be read, so the start is tried.
    pack = root / "instances" / "alpha" / "upper" / "left4dead2" / "addons" / "broken.vpk"
    pack.parent.mkdir(parents=True)
    pack.write_bytes(b"broken")
    with pytest.raises(HostError) as caught:
        host.start("alpha")
    assert not isinstance(caught.value, UnansweredError)
    text = str(caught.value)
    assert "alpha cannot load the map c5m1_waterfont, and is ended." in text
    assert "map load failed: c5m1_waterfont not found or invalid" in text
    assert "The nearest map that there is: c5m1_waterfront." in text
    assert not game_processes(root)
    assert host.status("alpha").state is STOPPED


def test_a_missing_library_is_told_with_the_loaders_words_and_the_cure(
    host: Host, root: Path, alpha: Path
) -> None:
    write_control(root, srcds={"fail": "missing-library"})
    with pytest.raises(
        HostError,
        match=r"alpha ended while it was starting\. It printed: .*error while loading shared libraries: "
        r"libstdc\+\+\.so\.6: .* install its libraries on the host",
    ):
        host.start("alpha")
    # Nor can a 32-bit program be loaded where none of its libraries is installed.
    (root / "current" / "srcds_linux").write_text("#!/no/such/loader\n")
    with pytest.raises(HostError, match=r"not the loader that it names: .* lib32stdc\+\+6"):
        host.start("alpha")


def test_a_server_that_does_not_answer_is_left_running_until_it_does(
    host: Host, root: Path, spec: InstanceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hostops.drivers.status_reader._ASK_EVERY_SECONDS", 0.0)
    host.initialize(replace(spec, config="sv_lan 1\n"))
    host.start("alpha")
    pid = game_pid(root)
    impatient = Host(
        root,
        driver=DRIVER,
        game_source="simulator",
        start_timeout_seconds=0.3,
        stop_timeout_seconds=2,
    )
    # It is up, and too busy to answer; nobody has had an answer.
    os.kill(pid, signal.SIGSTOP)
    instance_of(root).ready_path.unlink()
    output = Output()
    for attempt in range(2):
        with pytest.raises(UnansweredError) as caught:
            impatient.start("alpha", on_line=output.on_line, on_stage=output.on_stage)
        text = str(caught.value)
        assert text.startswith(
            f"alpha runs, but does not answer queries: it was asked on 127.0.0.1:{spec.port} for 0.3 s. "
            f"It has bound port {spec.port} (UDP) on 0.0.0.0. sv_lan 1 is set in"
        )
        said = "alpha is starting already." if attempt == 0 else "alpha runs already."
        assert ("stdout", said) in output.lines
        status = host.status("alpha")
        assert (status.state, status.note) == (RUNNING, SILENT_NOTE)
        assert "sv_lan 1 is set in" in status.detail
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not host.statuses()["alpha"].note, 20, "the note stays")
    assert host.status("alpha").state is RUNNING
    assert game_pid(root) == pid, "it was ended"
    host.start("alpha")
    host.restart("alpha")
    assert latest_run(root).run == 2
    assert host.status("alpha").note == ""


def test_one_that_nobody_waits_for_is_given_up_on_as_well(
    host: Host, root: Path, alpha: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart by systemd, or if the process that started it was killed."""
    host.start("alpha")
    run = latest_run(root)
    instance_of(root).ready_path.unlink()
    monkeypatch.setattr("hostops.drivers.status_reader._UNATTENDED_SECONDS", 0.0)
    monkeypatch.setattr("hostops.drivers.status_reader.find_answering", lambda *_: set())
    impatient = Host(root, driver=DRIVER, game_source="simulator", start_timeout_seconds=0.0)
    status = impatient.status("alpha")
    assert (status.state, status.note) == (RUNNING, SILENT_NOTE)
    runs.mark_ready(instance_of(root), run)
    assert host.status("alpha").note == ""


# What is looked at


def say(tmp_path: Path, text: bytes, *, after: int = 0) -> None:
    """Have the run print this, behind this many bytes that were released on disk."""
    path = HostLayout(tmp_path).instance("alpha").console_log_path(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.seek(after)
        file.write(text)


def explain(tmp_path: Path, address: str, *own: str, is_simulated: bool = False) -> str:
    """Return the explanation for a run that has bound its port on these addresses, queried at that one."""
    layout = HostLayout(tmp_path)
    bound = [BoundSocket(Protocol.UDP, one, 27015, 0, 1) for one in own]
    return explain_silence(
        layout,
        layout.instance("alpha"),
        runs.Run(1, 1, 1, "boot", 1.0, "100", 27015),
        PortLook(27015, bound, []),
        address,
        argv=["./srcds_linux", "+sv_max_queries_sec", "1"],
        is_simulated=is_simulated,
    )


def test_each_cause_that_was_found_is_named(tmp_path: Path) -> None:
    assert "Its console was not looked at" in explain(tmp_path, "127.0.0.1")
    say(tmp_path, b"Console initialized.\n")
    text = explain(tmp_path, "127.0.0.1", "0.0.0.0")  # noqa: S104
    assert "A real game does not answer on loopback (127.0.0.1): set HOST_ADDRESS" in text
    assert "sv_max_queries_sec 1 is set in its arguments" in text
    assert "Neither its configs nor its arguments set sv_lan 1." in text
    assert "It has not printed that its map is loaded" in text
    assert "on loopback" not in explain(tmp_path, "127.0.0.1", "0.0.0.0", is_simulated=True)  # noqa: S104
    assert "192.0.2.99 is no address of this machine" in explain(tmp_path, "192.0.2.99")
    elsewhere = explain(tmp_path, "127.0.0.1", "127.0.0.2")
    assert "on 127.0.0.2. So it cannot answer on 127.0.0.1" in elsewhere


def test_what_a_flood_has_printed_is_looked_through_or_said_not_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flood = b"Unknown command\n" * 500_000
    say(tmp_path, flood + b'Started map "c1m1_hotel" (CRC "1")\n')
    assert "map is loaded" not in explain(tmp_path, "127.0.0.1")
    say(tmp_path, flood)
    assert "It has not printed that its map is loaded" in explain(tmp_path, "127.0.0.1")
    monkeypatch.setattr("hostops.drivers.unanswered._CONSOLE_SECONDS", -1.0)
    assert "only the first 4 MiB of its console were looked at" in explain(tmp_path, "127.0.0.1")
    say(tmp_path, b"Unknown command\n", after=2**22)
    assert "some of it was left out" in explain(tmp_path, "127.0.0.1")


def test_what_configs_execute_is_looked_into_as_the_game_finds_it(tmp_path: Path) -> None:
    layout = HostLayout(tmp_path)
    instance = layout.instance("alpha")
    top, bottom = (layout.overlays_dir / name / "left4dead2" / "cfg" for name in ("top", "bottom"))
    for folder in (top, bottom, instance.dir):
        folder.mkdir(parents=True)
    (bottom / "Lan.cfg").write_text("sv_lan 0\n")
    (top / "lan.cfg").write_text('sm_cvar sv_lan "1"\nexec more\n')
    (top / "more.cfg").write_text("exec lan\nsv_max_queries_window 60\n")
    plan = {"lower": ["overlays/top", "overlays/bottom", "/etc", "overlays/../secret"]}
    instance.launch_path.write_text(json.dumps(plan))
    store_parts(
        instance, [ConfigPart("cfg/server.cfg", "Saferoom", "exec LAN.cfg; exec gone\n", ())]
    )
    text = explain(tmp_path, "127.0.0.1")
    assert "sv_lan 1 is set in cfg/lan.cfg:" in text
    assert "sv_max_queries_window 60 is set in cfg/more.cfg: it limits" in text
    assert "answered, if the game takes it from there." in text
    (top / "lan.cfg").unlink()
    assert "Neither its configs nor its arguments set sv_lan 1." in explain(tmp_path, "127.0.0.1")
    # What its game has put there comes first; if that cannot be read, the answer is open.
    own = instance.upper_dir / "left4dead2" / "cfg"
    own.mkdir(parents=True)
    (own / "lan.cfg").symlink_to("/etc/hostname")
    text = explain(tmp_path, "127.0.0.1")
    assert "As far as its configs could be read: neither its configs nor" in text


def test_a_config_that_the_arguments_execute_counts_too(tmp_path: Path) -> None:
    cfg = tmp_path / "left4dead2" / "cfg"
    cfg.mkdir(parents=True)
    (cfg / "lan.cfg").write_text("sv_lan 1\n")
    found = find_settings([], ["+exec", "lan"], ("sv_lan",), ExecutedFiles([tmp_path]))
    assert found == {"sv_lan": ("1", "cfg/lan.cfg")}


def test_the_last_config_that_sets_a_cvar_is_the_one_that_is_named() -> None:
    parts = [
        ConfigPart("cfg/saferoom/00-release.cfg", "the release", "sv_lan 0 // sv_lan 2\n", ()),
        ConfigPart(
            "cfg/saferoom/10-lan.cfg", "overlay lan", 'hostname "x; sv_lan 3"; SV_LAN "1"\n', ()
        ),
    ]
    found = find_settings(parts, ["./srcds_linux", "+sv_lan", "0"], ("sv_lan",))
    assert found == {"sv_lan": ("1", "cfg/saferoom/10-lan.cfg (overlay lan)")}
    assert find_settings([], ["+sv_lan", "1"], ("sv_lan",)) == {"sv_lan": ("1", "its arguments")}
