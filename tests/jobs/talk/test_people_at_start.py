"""A real worker and a simulated game: bans and admins apply from the first moment on."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from hostops.specs import ConsolePosition
from jobs import operations
from jobs.queue.requests import enqueue
from jobs.talk import AdminKeeper, BanKeeper
from jobs.worker.worker_process import worker_loop
from servers.content import find_loaded_notes
from servers.models import AdminsNote, AdminsState, Ban, Host, Overlay, Server
from servers.secrets.encryption import ServerSecret
from tests.hostops.hosts import end_everything, instance_of, write_control
from tests.ports import find_free_port
from tests.smx_files import make_plugin
from tests.sourcemod_files import lay_out_sourcemod, own_plugin
from tests.waiting import wait_until

ID = "STEAM_1:0:1"
ADMINS = "sourcemod/configs/admins_simple.ini"
PLUGINS = {
    "admin-flatfile.smx": own_plugin("Admin File Reader"),
    "basecommands.smx": own_plugin("Basic Commands"),
    "cut.smx": own_plugin("Cut")[:-9],
    "stats/skill.smx": make_plugin(("Skill Detect", "", "Tabun", "1.0", ""), natives=["L4D2_Get"]),
    "disabled/off.smx": b"",
}
"""Some of these do not load."""


@pytest.fixture
def root(settings: Any, tmp_path: Path, server: Server) -> Iterator[Path]:
    """Return the root of a real host, with the game and an overlay that has SourceMod."""
    root = tmp_path / "host"
    addons = root / "overlays/sm/left4dead2/addons"
    lay_out_sourcemod(addons, PLUGINS)
    (addons / ADMINS).parent.mkdir()
    (addons / ADMINS).write_text('// Of the pack.\n"STEAM_0:1:7" "b"\n')
    settings.HOST_ROOT = root
    write_control(root, srcds={"missing_natives": ["L4D2_Get"]})
    server.set_secret(ServerSecret.RCON_PASSWORD, "hunter2")
    server.port = find_free_port()
    server.save()
    server.blueprint.blueprint_overlays.create(
        overlay=Overlay.objects.create(name="sm", is_host_folder=True)
    )
    carry_out("install", None)
    yield root
    end_everything(root)


def carry_out(operation: str, server: Server | None) -> None:
    """Have the worker do it."""
    if server is not None:
        server = Server.objects.get(pk=server.pk)
    enqueue(operation, server=server, requested_by=None)
    worker_loop(until_empty=True)


@pytest.mark.django_db(transaction=True)
def test_bans_and_admins_hold_from_the_first_moment_and_what_is_not_loaded_is_told(
    root: Path, server: Server, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = BanKeeper.look
    monkeypatch.setattr(BanKeeper, "look", lambda _: None)
    layer = operations.get_host(host.name)

    def tell(command: str) -> str:
        return layer.tell("alpha", command).text

    def console() -> str:
        chunk = layer.read_console("alpha", ConsolePosition())
        return "\n".join(line for _, line in chunk.lines)

    one = server.bans.create(owner=server.owner, steam_id=ID)
    server.bans.create(
        owner=server.owner, steam_id="STEAM_1:1:5", ends_at=timezone.now() + timedelta(hours=1)
    )
    zoey = server.game_admins.create(steam_id="STEAM_1:1:2", name='Zoey" "z', preset="moderator")
    own_bans = instance_of(root).upper_dir / "left4dead2/cfg/banned_user.cfg"
    own_bans.parent.mkdir(parents=True)
    own_bans.write_bytes(b"banid 0 STEAM_1:1:9\r\nbanid 0 STEAM_1:1:99\r\n")
    server.bans.create(owner=server.owner, steam_id="STEAM_1:1:99", lifted_at=timezone.now())
    for operation in ("start", "restart", "reset"):
        carry_out(operation, server)
        if operation == "reset":
            carry_out("start", server)
        layer.send_command("alpha", f"sim_join Louis {ID}")
        layer.send_command("alpha", "sim_join Ellis STEAM_1:1:5")
        wait_until(lambda: "Ellis is banned" in console(), 10, "nobody was refused")
        assert "Louis is banned" in console()
        assert 'command "banid' not in console()  # The engine logs what arrives by RCON.
        if operation != "reset":
            assert own_bans.read_bytes() == b"banid 0 STEAM_1:1:9\r\n"
    tell("sim_join Zoey STEAM_1:1:2")
    tell("sim_join Rochelle STEAM_1:1:7")
    assert "kick, ban, unban, slay, chat" in tell("sm_who")

    # Installed does not mean loaded: each start has asked.
    start = server.jobs.filter(operation="restart").get()
    told = list(start.logs.filter(stream="stderr").values_list("line", flat=True))
    assert told == [
        "2 of 4 plugins of SourceMod are not loaded.",
        ("Not loaded: cut.smx: Unable to load plugin (illegal disk size)"),
        'Not loaded: stats/skill.smx (Skill Detect): Native "L4D2_Get" was not found',
    ]
    run = server.runs.first()
    assert run
    assert run.loaded
    assert [len(one["not_loaded"]) for one in run.loaded["checks"]] == [0, 0, 2]
    notes = find_loaded_notes(Server.objects.get(pk=server.pk))
    assert notes
    assert [one.sentence for one in notes.notes] == ["2 of 4 plugins are not loaded."]

    server = Server.objects.get(pk=server.pk)
    keeper, bans = AdminKeeper(host, {}), BanKeeper(host, {})
    zoey.preset = "full"
    zoey.save()
    keeper.look()
    assert "root" in tell("sm_who")
    assert AdminsNote.objects.get().state == AdminsState.IN_FORCE
    zoey.delete()
    keeper.look()
    rows = tell("sm_who").splitlines()
    assert [row.split()[-1] for row in rows if "Zoey" in row or "Rochelle" in row] == [
        *("none", "generic"),
    ]
    Ban.objects.filter(pk=one.pk).update(lifted_at=timezone.now())
    look(bans)
    assert "cannot join" not in tell(f"sim_join Louis {ID}")
