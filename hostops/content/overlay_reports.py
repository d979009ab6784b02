"""Reports on an overlay or a release: its shape, maps, campaigns, and for an overlay its fingerprint."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hostops.content.fingerprints import fingerprint_of, list_files
from hostops.content.pack_facts import Pack
from hostops.content.packs import read_packs
from hostops.content.plugins import find_lacks, find_needs, read_plugins
from hostops.content.search_paths import LayerFiles, find_roots, look_at_layer
from hostops.content.shapes import arrange, find_faults
from hostops.instances.cfg_files import show_path
from hostops.linux.untrusted import UntrustedFileError
from hostops.specs import (
    Campaign,
    CancelToken,
    ContentFinding,
    ContentSeverity,
    OverlayReport,
    ReleaseReport,
)

MAX_CAMPAIGNS = 200
MAX_MAPS = 5_000
"""The most that the report on an overlay or a release contains."""


def report_overlay(
    overlay: Path, name: str, cache_dir: Path | None, cancel: CancelToken | None = None
) -> OverlayReport:
    """Return a report on an overlay as it is now. Without `cache_dir`, nothing is cached for the next time.

    Raises FileNotFoundError if there is no such overlay, and HostError as `read_packs` does.
    """
    try:
        files = list_files(overlay)
    except UntrustedFileError as error:
        # Without the path of the host's folder, which may be one that is about to be renamed.
        why = str(error).replace(str(overlay), name)
        fault = ContentFinding(
            "unreadable", ContentSeverity.WARNED, f"It cannot be looked at: {why}"
        )
        return OverlayReport(name, "", 0, 0, (fault,))
    roots, _ = find_roots([overlay])
    layer = look_at_layer(overlay, roots)
    packs = read_packs(overlay, _paths(layer), cache_dir=cache_dir, cancel=cancel)
    campaigns = _list_campaigns(packs)
    plugins, are_all = read_plugins(overlay)
    findings = [
        *find_faults(overlay, files),
        *find_lacks(plugins, (file.path for file in files), are_all=are_all),
        *_look_at_packs(packs, layer),
        *_look_at_campaigns(campaigns),
    ]
    return OverlayReport(
        name=name,
        fingerprint=fingerprint_of(files),
        files=len(files),
        size_bytes=sum(file.status.st_size for file in files),
        findings=tuple(arrange(findings)),
        campaigns=campaigns,
        maps=_list_maps(layer, packs),
        plugins=tuple(find_needs(plugins)) if are_all else None,
    )


def report_release(
    release: Path, cache_dir: Path, cancel: CancelToken | None = None
) -> ReleaseReport:
    """Return a report on a release; its name is its build id. Raises HostError as `read_packs` does."""
    roots, obstacles = find_roots([release])
    layer = look_at_layer(release, roots)
    packs = read_packs(release, _paths(layer), cache_dir=cache_dir, cancel=cancel)
    return ReleaseReport(
        build_id=release.name,
        campaigns=_list_campaigns(packs),
        maps=_list_maps(layer, packs),
        obstacles=(
            *obstacles,
            *layer.obstacles,
            *(f"{show_path(path)} {pack.fault}." for path, pack in packs.items() if pack.fault),
        ),
    )


def _paths(layer: LayerFiles) -> Sequence[str]:
    return (*layer.packs, *layer.missions)


def _list_maps(layer: LayerFiles, packs: Mapping[str, Pack]) -> tuple[str, ...]:
    names = layer.maps.union(*(pack.maps for pack in packs.values()))
    return tuple(sorted(names)[:MAX_MAPS])


def _list_campaigns(packs: Mapping[str, Pack]) -> tuple[Campaign, ...]:
    """Return the campaigns of packs and mission files; if two of these have the same one, the first."""
    found: dict[str, Campaign] = {}
    for path, pack in packs.items():
        for campaign in pack.campaigns:
            within = f"{path}/{campaign.path}" if path.lower().endswith(".vpk") else path
            placed = replace(campaign, path=show_path(within))
            found.setdefault(campaign.name.lower() or within, placed)
    return tuple(found.values())[:MAX_CAMPAIGNS]


def _look_at_packs(packs: Mapping[str, Pack], layer: LayerFiles) -> Iterator[ContentFinding]:
    for path in layer.packs:
        pack, shown = packs[path], show_path(path)
        if pack.fault:
            text = f"The pack {pack.fault}. Get it once more."
            yield ContentFinding("pack_broken", ContentSeverity.WARNED, text, shown)
        if pack.version == 2:
            text = "It is a VPK of version 2, and the game reads version 1: pack it again with the game's tool."
            yield ContentFinding("pack_version", ContentSeverity.WARNED, text, shown)
        if pack.odd_paths:
            text = f"{pack.odd_paths:,} paths in it are none that a game's file has: who made it?"
            yield ContentFinding("pack_odd_paths", ContentSeverity.WARNED, text, shown)
        if pack.configs:
            text = f"It has config files in it, which servers can execute: {', '.join(pack.configs)[:200]}."
            yield ContentFinding("pack_has_config", ContentSeverity.NOTED, show_path(text), shown)
    for obstacle in layer.obstacles:
        yield ContentFinding("unreadable", ContentSeverity.WARNED, obstacle)


def _look_at_campaigns(campaigns: Sequence[Campaign]) -> Iterator[ContentFinding]:
    for one in campaigns:
        if one.problem:
            what = one.title or one.name or "a campaign"
            text = f"The game may leave out {what}, as its mission file is faulty. {one.problem}"
            yield ContentFinding("mission_broken", ContentSeverity.WARNED, text, one.path)
