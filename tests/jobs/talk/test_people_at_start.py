"""A real worker and a simulated game: who is banned and who is an admin, from the first moment on."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from hostops.specs import ConsolePosition
from jobs import operations
from jobs.queue.transitions import enqueue
from jobs.talk import AdminKeeper, BanKeeper
from jobs.worker.worker_process import worker_loop
from servers.models import AdminsNote, AdminsState, Ban, Host, Overlay, Server
from servers.secrets.encryption import ServerSecret
from tests.hostops.hosts import end_everything, instance_of, write_control
from tests.ports import find_free_port
from tests.waiting import wait_until

ID = "STEAM_1:0:1"
SOURCEMOD = {
    "metamod.vdf": "",
    "metamod/sourcemod.vdf": "",
    "sourcemod/bin/sourcemod_mm_i486.so": "",
    "sourcemod/plugins/admin-flatfile.smx": "",
    "sourcemod/plugins/basecommands.smx": "",
    "sourcemod/configs/admins_simple.ini": '// Of the pack.\n"STEAM_0:1:7" "b"\n',
}


@pytest.fixture
def root(settings: Any, tmp_path: Path, server: Server) -> Iterator[Path]:
    """Return the root of a real host, with the game and an overlay that has SourceMod."""
    root = tmp_path / "host"
    for path, text in SOURCEMOD.items():
        file = root / "overlays/sm/left4dead2/addons" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    settings.HOST_ROOT = root
    write_control(root)
    server.set_secret(ServerSecret.RCON_PASSWORD, "hunter2")
    server.port = find_free_port()
    server.save()
    server.blueprint.blueprint_overlays.create(overlay=Overlay.objects.create(name="sm"))
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
def test_bans_and_admins_hold_from_the_first_moment_and_follow_while_it_runs(
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
        assert 'command "banid' not in console()  # The engine logs what comes by RCON.
        if operation != "reset":
            assert own_bans.read_bytes() == b"banid 0 STEAM_1:1:9\r\n"
    tell("sim_join Zoey STEAM_1:1:2")
    tell("sim_join Rochelle STEAM_1:1:7")
    assert "kick, ban, unban, slay, chat" in tell("sm_who")

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
