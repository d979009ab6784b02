"""What an instance is started with: its record, its plan, and those that earlier versions wrote."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hostops.callbacks import Callbacks
from hostops.host import Host
from hostops.instances import instance_files, layers
from hostops.launch_arguments import OWN_COMMAND_BYTES
from hostops.layout import HostLayout
from hostops.specs import InstanceSpec
from tests.hostops.hosts import BUILD_ID, Output, instance_of


def prepare(root: Path, output: Output | None = None) -> dict[str, object]:
    """Write the plan of alpha's next launch, and return it."""
    callbacks = Callbacks(output.on_line) if output else Callbacks()
    instance = instance_of(root)
    layering = layers.Layering("overlay")
    instance_files.write_launch_plan(
        HostLayout(root), instance, layering, {"HOME": "/home"}, callbacks, is_boxed=True
    )
    plan: dict[str, object] = json.loads(instance.launch_path.read_text())
    return plan


def test_the_plan_starts_the_engine_itself(host: Host, root: Path, spec: InstanceSpec) -> None:
    host.initialize(replace(spec, arguments=("+hostname", "Two words", "-tickrate", "60")))
    plan = prepare(root)
    assert plan["argv"] == [
        *("./srcds_linux", "-game", "left4dead2", "-console", "-strictportbind"),
        *("-port", str(spec.port), "+map", "c1m1_hotel"),
        *("+hostname", "Two words", "-tickrate", "60"),
    ]
    assert (plan["version"], plan["address"], plan["release"]) == (2, "", BUILD_ID)


@pytest.mark.parametrize(
    ("bind_address", "address"),
    [("192.0.2.7", "192.0.2.7"), ("0.0.0.0", "")],  # noqa: S104
)
def test_the_plan_binds_to_the_address_and_names_it_if_it_is_the_only_one(
    host: Host, root: Path, spec: InstanceSpec, bind_address: str, address: str
) -> None:
    host.initialize(replace(spec, bind_address=bind_address))
    plan = prepare(root)
    argv = plan["argv"]
    assert isinstance(argv, list)
    assert argv[argv.index("-port") + 2 :][:2] == ["-ip", bind_address]
    assert plan["address"] == address


@pytest.mark.parametrize(
    "arguments",
    [("+map", "c5m2_park"), ("+MAP", "c5m2_park"), ("+map c5m2_park versus",)],
)
def test_a_map_of_the_owners_takes_the_place_of_the_default(
    host: Host, root: Path, spec: InstanceSpec, arguments: tuple[str, ...]
) -> None:
    host.initialize(replace(spec, arguments=arguments))
    assert "c1m1_hotel" not in str(prepare(root)["argv"])


def test_what_saferoom_sets_itself_fits_into_its_share_of_the_line(
    host: Host, root: Path, spec: InstanceSpec
) -> None:
    host.initialize(replace(spec, port=65535, bind_address="255.255.255.255"))
    argv = prepare(root)["argv"]
    assert isinstance(argv, list)
    assert len(" ".join(argv)) < OWN_COMMAND_BYTES


def test_the_record_of_an_earlier_version_is_read_and_its_arguments_are_judged(
    host: Host, root: Path, alpha: Path
) -> None:
    record = {
        "name": "alpha",
        "port": 27015,
        "overlays": [],
        "arguments": ["-binary", "/bin/echo", "+hostname", "Night -port 27097", "-insecure"],
        "layer": json.loads((alpha / "instance.json").read_text())["layer"],
    }
    (alpha / "instance.json").write_text(json.dumps(record))
    assert instance_files.read_record(instance_of(root)).bind_address == ""
    output = Output()
    argv = prepare(root, output)["argv"]
    assert isinstance(argv, list)
    assert argv[-5:] == ["-port", "27015", "+map", "c1m1_hotel", "-insecure"]
    said = output.errors().splitlines()
    assert [line.partition(" is left out. ")[0] for line in said] == [
        "A launch argument from before the upgrade"
    ] * 2
    assert "“-binary” cannot be used" in said[0]
    assert "The value of “+hostname” contains “-port”" in said[1]
