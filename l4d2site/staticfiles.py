"""Static files whose names contain a hash of their contents, so that browsers may cache them forever."""

import logging
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
from django.core.files.base import ContentFile, File

logger = logging.getLogger(__name__)

_PARTIAL = re.compile(r".+\.[0-9a-f]{8}\.partial")
LEFT_AFTER_SECONDS = 24 * 3600
"""How old a file that is not complete must be until nobody can still be writing it."""


class HashedStaticFilesStorage(ManifestStaticFilesStorage):
    """Also rewrites the imports between JavaScript modules, which Django by default does not.

    Each file is written once, and not at all if it is there already. Django deletes and writes each of them
    about five times in every run, so that a start beside a server would take files from under its pages. Files
    without references are not searched for them five times either: that took a third of a start.
    """

    support_js_module_import_aggregation = True

    _drafts: dict[str, bytes] | None = None
    """While files are processed: what would be written, with drafts of files whose references are not final."""

    _settled: set[str] | None = None
    """Files in which the first pass found no references; None until it is over."""

    def post_process(self, *args: Any, **options: Any) -> Iterator[Any]:
        """Process the files that `collectstatic` has copied."""
        if not options.get("dry_run"):
            remove_left_behind(Path(self.location))
        self._drafts, self._settled = {}, None
        try:
            yield from super().post_process(*args, **options)
        finally:
            self._drafts = None

    def _post_process(
        self, paths: dict[str, Any], adjustable_paths: list[str], hashed_files: dict[str, str]
    ) -> Iterator[Any]:
        """Make one pass over files, without those whose names can no longer change."""
        settled = self._settled or set()
        remaining = {name: place for name, place in paths.items() if name not in settled}
        for step in super()._post_process(remaining, adjustable_paths, hashed_files):  # type: ignore[misc]
            name, _hashed_name, _processed, is_changed = step
            if self._settled is None and not is_changed:
                settled.add(name)
            yield step
        self._settled = settled

    def save_manifest(self) -> None:
        """Write the files under their final names, and then the manifest, which leads to them."""
        drafts, self._drafts = self._drafts or {}, None
        for name in self.hashed_files.values():
            if name in drafts:
                self._write(name, drafts[name])
        super().save_manifest()

    def _write(self, name: str, content: bytes) -> None:
        if self.exists(name):
            with self.open(name) as file:
                if file.read() == content:
                    return
            self.delete(name)  # It was cut short when it was written.
        self._save(name, ContentFile(content))

    def _save(self, name: str, content: "File[Any]") -> str:
        if self._drafts is not None:
            self._drafts[name] = b"".join(content.chunks())
            return name
        # Under another name first: nothing else would notice a copy or a manifest that was cut short.
        partial = f"{name}.{secrets.token_hex(4)}.partial"
        try:
            Path(self.path(super()._save(partial, content))).replace(self.path(name))  # type: ignore[misc]
        finally:
            super().delete(partial)
        return name

    def load_manifest(self) -> Any:
        """Return the manifest, or an empty one if it is damaged: `collectstatic` then writes it again."""
        try:
            return super().load_manifest()
        # What is JSON and no manifest ends in the last two.
        except (ValueError, AttributeError, RecursionError) as error:
            logger.warning(
                "%s is damaged (%s): no page can be shown until manage.py collectstatic has run.",
                *(self.manifest_name, error),
            )
            return {}, ""

    def delete(self, name: str) -> None:
        """Delete a file; one that is being processed stays until it is known to differ."""
        if self._drafts is None:
            super().delete(name)


def remove_left_behind(folder: Path) -> None:
    """Remove the partial files of a `collectstatic` that was killed. Another one may be running now."""
    before = time.time() - LEFT_AFTER_SECONDS
    for path in folder.rglob("*.partial"):
        with suppress(OSError):  # It may be another account's.
            if _PARTIAL.fullmatch(path.name) and path.stat().st_mtime < before:
                path.unlink()
