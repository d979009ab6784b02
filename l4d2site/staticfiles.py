"""Static files under names that carry a hash of their contents, so that browsers may keep them for ever."""

from django.contrib.staticfiles.storage import ManifestStaticFilesStorage


class HashedStaticFilesStorage(ManifestStaticFilesStorage):
    """Rewrites the imports between JavaScript modules too, which Django leaves alone by default."""

    support_js_module_import_aggregation = True
