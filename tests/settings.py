"""Settings of the tests: the product's, without DEBUG and fast, and with nothing stored in `var/`."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

os.environ["SECRET_KEY"] = "a-key-that-only-the-tests-have"
os.environ["SECRETS_KEYS"] = "dGhlLWtleS10aGF0LW9ubHktdGhlLXRlc3RzLWhhdmU="
os.environ["GAME_SOURCE"] = "simulator"
_scratch = Path(tempfile.mkdtemp(prefix="saferoom-tests-"))


@atexit.register
def _remove_scratch(maker: int = os.getpid()) -> None:
    """Remove the folder at the end of the process that made it; forks of it end sooner."""
    if os.getpid() == maker:
        shutil.rmtree(_scratch, ignore_errors=True)


os.environ["VAR_DIR"] = str(_scratch / "var")
os.environ["HOST_ROOT"] = str(_scratch / "host")
os.environ.setdefault("DATABASE_URL", f"sqlite:///{_scratch / 'saferoom.sqlite3'}")
for name in ("DEBUG", "ALLOWED_HOSTS", "HOST_NAME", "JOB_WORKER_ENABLED", "JOB_LOG_REPLAY_LIMIT"):
    os.environ.pop(name, None)

from l4d2site.settings import *  # noqa: E402, F403
from l4d2site.settings import DATABASES, IS_SQLITE, STORAGES  # noqa: E402

if IS_SQLITE:
    # A file, not memory: the tests open it from several threads and processes.
    DATABASES["default"]["TEST"] = {"NAME": _scratch / "test.sqlite3"}
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
