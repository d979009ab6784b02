"""MetaMod and SourceMod as in their archives, with stand-ins for their libraries and plugins."""

from collections.abc import Mapping
from pathlib import Path

from tests.elf_files import make_library
from tests.smx_files import make_plugin

LIBRARY = make_library("GLIBC_2.4")
FILES: Mapping[str, bytes] = {
    "metamod.vdf": b'"Plugin"\n{\n\t"file"\t"addons/metamod/bin/server"\n}\n',
    "metamod/bin/server.so": LIBRARY,
    "metamod/bin/metamod.2.l4d2.so": LIBRARY,
    "metamod/sourcemod.vdf": (
        b'"Metamod Plugin"\n{\n\t"alias"\t"sourcemod"\n\t"file"\t"addons/sourcemod/bin/sourcemod_mm"\n}\n'
    ),
    "sourcemod/bin/sourcemod_mm_i486.so": LIBRARY,
    "sourcemod/bin/sourcemod.2.l4d2.so": LIBRARY,
}
"""Below `addons`: what SourceMod needs to be loaded."""


def own_plugin(title: str) -> bytes:
    """Return one of the plugins that SourceMod comes with."""
    return make_plugin((title, "", "AlliedModders LLC", "1.12.0.7210", ""))


def lay_out_sourcemod(addons: Path, plugins: Mapping[str, bytes]) -> None:
    """Put SourceMod into an addons folder, with these plugins by their paths below its plugins folder."""
    files = {**FILES, **{f"sourcemod/plugins/{path}": data for path, data in plugins.items()}}
    for path, content in files.items():
        file = addons / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
