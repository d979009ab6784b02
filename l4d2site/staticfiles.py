"""Static files whose names contain a hash of their contents, so that browsers may cache them forever."""

from django.contrib.staticfiles.storage import ManifestStaticFilesStorage


class HashedStaticFilesStorage(ManifestStaticFilesStorage):
    """Also rewrites the imports between JavaScript modules, which Django by default does not."""

    support_js_module_import_aggregation = True
