"""Makes `cfg/server.cfg` of an instance, which executes copies of all its configs one after another.

Left 4 Dead 2 reads only this file by itself, and does not know `+servercfgfile`. The generated file executes
the release's own file, then each overlay's from the bottom up, then the spec's config: a later line wins. Then
come the bans: first those that the game has written itself, then those of the spec. The passwords are set first
and last. The engine's command buffer has 8,192 bytes, and may lose what comes last (sourcemod#817,
LinuxGSM#1914), while a file executed later can override what comes first.
"""

import json
import posixpath
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from hostops.config_text import find_map_changes
from hostops.errors import HostError
from hostops.instances.ban_files import MAX_BYTES as MAX_BANS_BYTES
from hostops.instances.ban_files import find_own_bans, make_bans
from hostops.instances.cfg_files import (
    CFG_DIR,
    MAX_BYTES,
    MAX_FILES,
    SERVER_CFG,
    Budget,
    CfgFiles,
    UnreadableFileError,
    read_cfg_files,
    read_regular,
    show_path,
)
from hostops.instances.config_copies import (
    ConfigCopy,
    copy_config,
    find_first_bad_line,
    list_executed,
    mask_secrets,
    shorten,
    to_text,
)
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux.files import write_atomically
from hostops.specs import ConfigPart, InstanceSpec, OverlayReference, SpecBan

SERVER_CONFIG_PATH = f"{CFG_DIR}/{SERVER_CFG}"
COPIES_DIR = "saferoom"
"""The folder of the copies, below cfg/."""

_SPEC_COPY = f"{COPIES_DIR}/90-config.cfg"
SPEC_CONFIG_PATH = f"{CFG_DIR}/{_SPEC_COPY}"
"""The copy of the config from blueprint and server."""

_BANS = f"{COPIES_DIR}/95-bans.cfg"
"""The bans of the spec."""

MAX_CHAIN_BYTES = 6 * 1024
"""Above this size there is a warning: the engine's buffer has 8,192 bytes, and plugins execute more files."""

_BUFFER_BYTES = 7 * 1024
"""The share of the engine's 8,192 bytes for configs and bans together; bans beyond it are left out."""

_MAX_SHOWN_CHARS = 16 * 1024
"""The most that is shown of a part's text: twice what the engine can take."""

_MAX_MAP_CHANGES = 100
_MAX_MAP_CHARS = 128
_MAX_STORED_BYTES = 16 * 1024**2
_HEADER = "// Written by Saferoom, and written again before each start."
_PASSWORD = re.compile(r'(rcon_password|sv_password) "([!-~]*)"')


@dataclass(frozen=True)
class Passwords:
    """The passwords that a server.cfg sets; empty if it does not set one."""

    rcon: str = field(default="", repr=False)
    join: str = field(default="", repr=False)

    def lines(self) -> list[str]:
        """Return the commands that set them. Inside quotes, `//` and `;` end nothing."""
        pairs = (("rcon_password", self.rcon), ("sv_password", self.join))
        return [f'{name} "{password}"' for name, password in pairs if password]


class ConfigMap(NamedTuple):
    """A command that loads a map, in a file outside the chain, and its place: `Line 2 of …`."""

    map: str
    where: str


@dataclass(frozen=True)
class ConfigChain:
    """The generated files by their path in the instance's tree, and what people are told about them."""

    files: Mapping[str, bytes] = field(repr=False)
    parts: tuple[ConfigPart, ...]
    map_changes: tuple[ConfigMap, ...] = ()


@dataclass(frozen=True)
class _Layer:
    """A layer with its cfg files, and the name for the copy of its server.cfg."""

    label: str
    copy_name: str
    cfg: CfgFiles
    is_overlay: bool = True

    @cached_property
    def by_lower_path(self) -> Mapping[str, bytes]:
        """The contents of its cfg files by lower-case path."""
        return {path.lower(): content for path, content in self.cfg.contents.items()}


@dataclass(frozen=True)
class _Part:
    """A copy in the chain, by its path below cfg/. `layer` is None for the spec's config."""

    path: str
    source: str
    where: str
    copy: ConfigCopy
    layer: _Layer | None = None


def make_chain(layout: HostLayout, spec: InstanceSpec, release: str) -> ConfigChain:
    """Return the config chain of a spec, made from the files as they are now.

    Raises HostError if the files execute each other in a circle, which crashes the game.
    """
    passwords = Passwords(spec.rcon_password, spec.join_password)
    own = [line.split(" ", 1)[0] for line in passwords.lines()]
    budget = Budget()
    layers = _read_layers(layout, spec, release, budget)
    parts = list(_make_parts(spec, layers, own))
    executed = _Executed(parts, layers)
    executed.refuse_circles(spec.name)
    below = [layer.by_lower_path for layer in reversed(layers)]
    own_bans = find_own_bans(layout.instance(spec.name), below, executed.paths)
    size = sum(len(part.copy.content) for part in parts) + executed.further_bytes + own_bans.bytes
    bans = list(_make_ban_part(spec.bans, _BUFFER_BYTES - size))
    # Its own bans come before those of the spec: the last command about a person counts.
    paths = (*(part.path for part in parts), *own_bans.executed, *(part.path for part in bans))
    parts += bans
    lines = (_HEADER, *passwords.lines(), *(f"exec {path}" for path in paths), *passwords.lines())
    server_cfg = "".join(f"{line}\n" for line in lines)
    map_changes = tuple(islice(executed.find_map_changes(), _MAX_MAP_CHANGES))
    warnings = [
        *_warn_of_unread(layers, budget, spec.name),
        *_warn_of_map_changes(map_changes),
        *executed.find_conflicts(),
        *_warn_of_characters(layers),
        *_warn_of_size(size + len(server_cfg), spec.name),
        *own_bans.warnings,
    ]
    head = copy_config(server_cfg.encode(), "cfg/server.cfg", ())
    secrets = {passwords.rcon, passwords.join}.union(*(part.copy.secrets for part in parts))
    return ConfigChain(
        {
            SERVER_CONFIG_PATH: server_cfg.encode(),
            **{f"{CFG_DIR}/{part.path}": part.copy.content for part in parts},
        },
        (
            _show(SERVER_CFG, "Saferoom", head.text, warnings, secrets),
            *(
                _show(part.path, part.source, part.copy.text, part.copy.warnings, secrets)
                for part in parts
            ),
        ),
        map_changes,
    )


def _show(
    path: str, source: str, text: str, warnings: Sequence[str], secrets: Collection[str]
) -> ConfigPart:
    """Return a part as people see it: without passwords, and not longer than anybody reads."""
    text = mask_secrets(text, secrets)
    if len(text) > _MAX_SHOWN_CHARS:
        text = f"{text[:_MAX_SHOWN_CHARS]}\n… [cut]"
    masked = tuple(mask_secrets(one, secrets) for one in warnings)
    return ConfigPart(f"cfg/{path}", source, text, masked)


class ExecutedFiles:
    """Finds the cfg files of layers, topmost first, by the name in a command."""

    def __init__(self, layers: Sequence[Path]) -> None:
        budget = Budget()
        self._layers = [read_cfg_files(layer, budget) for layer in layers]
        self._contents = [
            {path.lower(): content for path, content in layer.contents.items()}
            for layer in self._layers
        ]
        self._has_more = budget.is_spent

    @property
    def are_all_read(self) -> bool:
        """Whether every file could be read."""
        return not self._has_more and not any(layer.unread for layer in self._layers)

    def find(self, name: str) -> tuple[str, bytes] | None:
        """Return the path below cfg/ and the content of what `exec NAME` executes; None if it is missing."""
        for path in _to_paths([name]):
            for contents in self._contents:
                if (content := contents.get(path)) is not None:
                    return path, content
        return None


def store_parts(instance: InstanceLayout, parts: Sequence[ConfigPart]) -> None:
    """Save the chain's parts, as people see them, for `read_parts`."""
    write_atomically(
        instance.config_chain_path, json.dumps({"parts": [asdict(part) for part in parts]})
    )


def read_parts(instance: InstanceLayout) -> tuple[ConfigPart, ...]:
    """Return the chain as it was last written; empty if none was. HostError if the file is not ours."""
    path = instance.config_chain_path
    try:
        document = json.loads(read_regular(instance.dir, path.name, _MAX_STORED_BYTES))
        return tuple(_to_part(one) for one in document["parts"])
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except UnreadableFileError as error:
        reason = f"it {error}"
    except (ValueError, KeyError, TypeError, RecursionError):
        reason = "it is not what Saferoom wrote"
    raise HostError(
        f"The config chain of {instance.name} cannot be read from {path}: {reason}. "
        "Initialize the server again."
    )


def read_passwords(server_cfg: bytes) -> Passwords:
    """Return the passwords at the beginning of a generated server.cfg; none if the file is not ours."""
    header, *lines = server_cfg.decode("latin-1").split("\n")
    found: dict[str, str] = {}
    for line in lines if header == _HEADER else ():
        if (match := _PASSWORD.fullmatch(line)) is None:
            break
        found.setdefault(match[1], match[2])
    return Passwords(found.get("rcon_password", ""), found.get("sv_password", ""))


def _read_layers(
    layout: HostLayout, spec: InstanceSpec, release: str, budget: Budget
) -> list[_Layer]:
    """Return the layers with their cfg files, lowest first. The overlays share the budget."""
    layers = []
    for position, overlay in enumerate(reversed(spec.overlays), start=1):
        reference = OverlayReference.parse(overlay)
        cfg = read_cfg_files(layout.overlay_folder(overlay), budget)
        # Always two digits: the number only illustrates the order, which server.cfg determines.
        copy_name = f"{min(9 + position, 89)}-{reference.name}.cfg"
        layers.append(_Layer(f"overlay {reference.label}", copy_name, cfg))
    cfg = read_cfg_files(layout.releases_dir / release, Budget())
    return [_Layer(f"build {release}", "00-release.cfg", cfg, is_overlay=False), *layers]


def _make_parts(
    spec: InstanceSpec, layers: Sequence[_Layer], own: Sequence[str]
) -> Iterator[_Part]:
    for layer in layers:
        if (original := layer.cfg.contents.get(SERVER_CFG)) is not None:
            where = f"cfg/server.cfg of {layer.label}"
            copy = copy_config(original, where, own)
            source = f"{layer.label[0].upper()}{layer.label[1:]}"
            yield _Part(f"{COPIES_DIR}/{layer.copy_name}", source, where, copy, layer)
    if spec.config.strip():
        copy = copy_config(spec.config.encode(), "the config", own)
        source = "Config of the blueprint and the server"
        yield _Part(_SPEC_COPY, source, "the config", copy)


def _make_ban_part(bans: Sequence[SpecBan], room: int) -> Iterator[_Part]:
    """Yield the part that bans people, if there are any."""
    if not bans:
        return
    content, left_out = make_bans(bans, min(max(room, 0), MAX_BANS_BYTES))
    remark = (
        f"{left_out:,} of {len(bans):,} bans are not in it, as the game’s command buffer could lose them. The "
        "server is told of them once it runs."
    )
    warnings = (remark,) if left_out else ()
    copy = ConfigCopy(content, content.decode(), warnings, (), frozenset())
    yield _Part(_BANS, "Bans", "the bans", copy)


class _Executed:
    """The files that the chain executes, and those they execute in turn."""

    def __init__(self, parts: Sequence[_Part], layers: Sequence[_Layer]) -> None:
        self._layers = layers
        self._parts = {part.path: part for part in parts}
        self._executes = {SERVER_CFG: tuple(self._parts)}
        self._further: dict[str, tuple[_Layer, bytes]] = {}
        """The files outside the chain, each from the topmost layer that has it, as the game sees it."""
        for part in parts:
            self._executes[part.path] = _to_paths(part.copy.executes)
        waiting = [path for part in parts for path in self._executes[part.path]]
        while waiting:
            path = waiting.pop()
            if path not in self._executes:
                self._executes[path] = self._look_into(path)
                waiting += self._executes[path]

    @property
    def paths(self) -> Collection[str]:
        """The lower-case paths below cfg/ of everything that is executed, whether the file exists or not."""
        return {path for paths in self._executes.values() for path in paths}

    @property
    def further_bytes(self) -> int:
        """How many bytes the files outside the chain have together."""
        return sum(len(content) for _, content in self._further.values())

    def refuse_circles(self, name: str) -> None:
        """Raise HostError if a file leads back to itself, naming the files of the circle in order."""
        done: set[str] = set()
        here = [SERVER_CFG]
        left = [list(self._executes[SERVER_CFG])]
        while here:
            if not left[-1]:
                done.add(here.pop())
                left.pop()
                continue
            path = left[-1].pop(0)
            if path in here:
                circle = [*here[here.index(path) :], path]
                raise HostError(
                    f"The configs of {name} execute each other in a circle, which crashes the game: "
                    f"{' → '.join(map(self._describe, circle))}. Take one of these exec lines out."
                )
            if path not in done:
                here.append(path)
                left.append(list(self._executes[path]))

    def find_conflicts(self) -> Iterator[str]:
        """Yield a sentence for each overlay that has a file but executes another overlay's version of it."""
        for part in self._parts.values():
            if part.layer is None or not part.layer.is_overlay:
                continue
            for path in sorted(self._reached_from(part.path) & self._further.keys()):
                top, content = self._further[path]
                if part.layer.by_lower_path.get(path) not in (None, content):
                    yield (
                        f"cfg/{show_path(path)} is in {part.layer.label}, which executes it, and in "
                        f"{top.label}, which lies over it: both get that of {top.label}. "
                        "Give one of the two files another name."
                    )

    def find_map_changes(self) -> Iterator[ConfigMap]:
        """Yield the commands that load a map in files outside the chain, which are executed unchanged."""
        for path, (layer, content) in self._further.items():
            where = f"cfg/{show_path(path)} of {layer.label}"
            for number, name in find_map_changes(content.decode("latin-1")):
                shown = to_text(name[:_MAX_MAP_CHARS].encode("latin-1"))
                yield ConfigMap(shown, f"Line {number} of {where}")

    def _look_into(self, path: str) -> tuple[str, ...]:
        for layer in reversed(self._layers):
            if (content := layer.by_lower_path.get(path)) is not None:
                self._further[path] = layer, content
                return _to_paths(list_executed(content))
        return ()

    def _reached_from(self, path: str) -> set[str]:
        reached: set[str] = set()
        waiting = [path]
        while waiting:
            for one in self._executes[waiting.pop()]:
                if one not in reached:
                    reached.add(one)
                    waiting.append(one)
        return reached

    def _describe(self, path: str) -> str:
        if path in self._parts:
            return self._parts[path].where
        of_layer = f" of {self._further[path][0].label}" if path in self._further else ""
        return f"cfg/{show_path(path)}{of_layer}"


def _to_paths(names: Sequence[str]) -> tuple[str, ...]:
    """Return the lower-case paths below cfg/ of files as commands name them; none outside of it.

    The engine adds a missing extension, and may ignore case.
    """
    paths = []
    for name in names:
        path = posixpath.normpath(name.replace("\\", "/").lstrip("/")).lower()
        if path != "." and not path.startswith("../") and path != "..":
            paths.append(path if posixpath.splitext(path)[1] else f"{path}.cfg")
    return tuple(paths)


def _warn_of_unread(layers: Sequence[_Layer], budget: Budget, name: str) -> Iterator[str]:
    for layer in layers:
        if reason := layer.cfg.unread.get(SERVER_CFG):
            yield f"cfg/server.cfg of {layer.label} is left out, as it {reason}."
        others = [
            f"Nothing looked into cfg/{show_path(path)} of {layer.label}, as it {reason}."
            for path, reason in layer.cfg.unread.items()
            if path != SERVER_CFG
        ]
        yield from shorten(others, "files are alike")
    if budget.is_spent:
        yield (
            f"The overlays of {name} have more than {MAX_FILES:,} cfg files, or more than "
            f"{MAX_BYTES // 1024**2} MiB of them: nothing looked into the rest."
        )


def _warn_of_map_changes(changes: Sequence[ConfigMap]) -> tuple[str, ...]:
    """Warn about commands that may change the map over and over."""
    return shorten(
        [
            f"{change.where} changes the map{f' to {change.map}' if change.map else ''}. The game "
            "executes its configs on every map, so it may do that over and over: take the line out, and choose "
            "the first map with +map in the launch arguments."
            for change in changes
        ],
        "lines change the map as well",
    )


def _warn_of_characters(layers: Sequence[_Layer]) -> tuple[str, ...]:
    """Warn about other files of overlays that the game cannot read, wherever they are executed."""
    return shorten(
        [
            f"Line {bad[0]} of cfg/{show_path(path)} of {layer.label} {bad[1]}"
            for layer in layers
            if layer.is_overlay
            for path, content in layer.cfg.contents.items()
            if path != SERVER_CFG and (bad := find_first_bad_line(content)) is not None
        ],
        "cfg files are alike",
    )


def _warn_of_size(size: int, name: str) -> Iterator[str]:
    if size > MAX_CHAIN_BYTES:
        yield (
            f"The configs of {name} have {size:,} bytes together. The game's command buffer has 8,192, and "
            f"loses what does not fit: keep them below {MAX_CHAIN_BYTES:,}."
        )


def _to_part(document: Any) -> ConfigPart:
    part = ConfigPart(
        document["path"], document["source"], document["text"], tuple(document["warnings"])
    )
    if not all(isinstance(one, str) for one in (part.path, part.source, part.text, *part.warnings)):
        raise TypeError("a part of a config chain consists of texts")
    return part
