"""Settings, read from the environment or `.env`; docs/settings.md explains every variable.

A missing or malformed value raises `ImproperlyConfigured` with the variable's name and what it should be.
"""

import ipaddress
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit
from zoneinfo import available_timezones

import environ
from django.core.exceptions import ImproperlyConfigured

from hostops.linux.sockets import find_own_address
from hostops.specs import DRIVERS, NAME_PATTERN
from l4d2site.env_files import EnvFiles
from l4d2site.gate.addresses import TrustedProxies
from l4d2site.gate.host_names import is_host_name

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
_files = EnvFiles(os.environ)
_files.read(BASE_DIR / ".env")
VAR_DIR = Path(env.str("VAR_DIR", default="") or BASE_DIR / "var")
# Chosen by `script/server` at its first run; everything above overrides it.
_files.read(VAR_DIR / "local.env")

SECRET_NAMES = frozenset(
    {
        *("SECRET_KEY", "SECRETS_KEYS", "DATABASE_URL", "EMAIL_URL", "STEAM_PASSWORD"),
        "HEALTH_TOKEN",
    }
)
"""Variables whose values no message shows."""

T = TypeVar("T")


def read(name: str, cast: Callable[..., T], expected: str, **default: Any) -> T:
    """Return the variable `name` through `cast`; `expected` completes "NAME must be …"."""
    try:
        return cast(name, **default)
    except ImproperlyConfigured:
        raise ImproperlyConfigured(
            f"{name} is not set. It must be {expected}. Set it in the environment or in .env."
            f"{_files.unread}"
        ) from None
    except (ValueError, TypeError):
        raise ImproperlyConfigured(describe_fault(name, expected)) from None


def describe_fault(name: str, expected: str) -> str:
    """Return what is wrong with the variable `name`, and where it is set."""
    return f"{name} is {shown(name)}{_files.place_of(name)}, but must be {expected}."


def shown(name: str) -> str:
    """Return the value of the variable `name` for an error message, unless it is a secret."""
    return "set" if name in SECRET_NAMES else repr(env.str(name, ""))


def require(is_valid: bool, name: str, expected: str) -> None:
    """Refuse the value of the variable `name` unless `is_valid`."""
    if not is_valid:
        raise ImproperlyConfigured(describe_fault(name, expected))


require(VAR_DIR.is_absolute(), "VAR_DIR", "an absolute path")


def has_tables(database: Path) -> bool:
    """Return whether there is an SQLite database with a table: one with a second page, or with a log."""
    try:
        log = Path(f"{os.path.realpath(database)}-wal")  # If it is a link, SQLite follows it first.
        return database.is_file() and (
            database.stat().st_size > 4096 or (os.access(log, os.F_OK) and log.stat().st_size > 0)
        )
    except OSError:  # It is not there, or this account may not look at it.
        return False


# Anything that is no boolean is refused: django-environ alone would read DEBUG=ture as False.
def read_bool(name: str, default: bool) -> bool:
    """Return the boolean variable `name`."""
    words = {"1": True, "true": True, "yes": True, "on": True}
    words |= {"0": False, "false": False, "no": False, "off": False}
    value = env.str(name, str(default)).strip().lower()
    require(value in words, name, "true or false")
    return words[value]


def read_number(name: str, default: float) -> str:
    """Return the text of a number. Python would also read 3_0, and digits of other scripts."""
    text: str = env.str(name, str(default))
    if "_" in text or not text.isascii():
        raise ValueError(text)
    return text


def read_int(name: str, default: int) -> int:
    """Return the variable `name` as a whole number."""
    return int(read_number(name, default))


def read_float(name: str, default: float) -> float:
    """Return the variable `name` as a number. django-environ would take 1e3 for 13, and 1 min for 1."""
    return float(read_number(name, default))


# --- Django -----------------------------------------------------------------------------------

DEBUG = read_bool("DEBUG", default=False)
SECRET_KEY = read(
    "SECRET_KEY",
    env.str,
    "a long random text that stays the same over restarts",
    **({"default": "insecure-and-for-debugging-only"} if DEBUG else {}),
)
require(len(SECRET_KEY) >= 20, "SECRET_KEY", "at least 20 characters long")
# The keys for the servers' passwords: the first one encrypts, all of them decrypt.
SECRETS_KEYS: list[str] = [
    key.strip()
    for key in read(
        "SECRETS_KEYS", env.list, "a comma-separated list of keys of Fernet", default=[]
    )
    if key.strip()
]
require(
    all(re.fullmatch(r"[A-Za-z0-9_-]{43}=", key) for key in SECRETS_KEYS),
    "SECRETS_KEYS",
    "a comma-separated list of keys that manage.py makesecretskey makes",
)
ALLOWED_HOSTS = [
    name.strip()
    for name in read(
        "ALLOWED_HOSTS",
        env.list,
        "a comma-separated list of names",
        default=["127.0.0.1", "localhost", "[::1]"],
    )
]
require(
    any(map(is_host_name, ALLOWED_HOSTS)),
    "ALLOWED_HOSTS",
    "a comma-separated list of names without https:// and port, such as panel.example.org, or .example.org for "
    "all names below it",
)
CSRF_TRUSTED_ORIGINS: list[str] = read(
    "CSRF_TRUSTED_ORIGINS", env.list, "a comma-separated list of origins", default=[]
)
require(
    all(re.fullmatch(r"https?://[^/]+", origin) for origin in CSRF_TRUSTED_ORIGINS),
    "CSRF_TRUSTED_ORIGINS",
    "a comma-separated list of origins such as https://panel.example.org",
)

INSTALLED_APPS = [
    "l4d2site.apps.SaferoomAdminConfig",
    "l4d2site.apps.SaferoomConfig",  # Before the app whose command it replaces.
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "l4d2site.accounts.apps.AccountsConfig",
    "servers",
    "jobs",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "l4d2site.security.content_security_policy",
    "l4d2site.security.keep_links_from_referrers",
    "l4d2site.security.keep_out_of_caches",
    "l4d2site.errors.refuse_unreadable",
    "l4d2site.outages.outlast_outages",
    "l4d2site.query_texts.drop_nul",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "l4d2site.accounts.middleware.hold_unready_accounts",
    "l4d2site.errors.explain_refused_methods",
    "l4d2site.gate.password_hashing.TooManyHashesMiddleware",
    "l4d2site.outages.note_view_reached",
]

ROOT_URLCONF = "l4d2site.urls"
ASGI_APPLICATION = "l4d2site.asgi.application"
WSGI_APPLICATION = "l4d2site.wsgi.application"

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "l4d2site.context_processors.page_context",
                "jobs.context_processors.worker_notes",
            ],
        },
    },
]

FORM_RENDERER = "l4d2site.form_fields.PanelRenderer"

# --- Database ---------------------------------------------------------------------------------

# Not quote() of all of it, which refuses a name that is not UTF-8.
_own_path = re.sub("[%+#?]", lambda mark: quote(mark[0]), str(VAR_DIR / "saferoom.sqlite3"))
DATABASE_URL = env.str("DATABASE_URL", default=f"sqlite:///{_own_path}")
IS_SQLITE = DATABASE_URL.startswith("sqlite:")
require(
    IS_SQLITE or DATABASE_URL.startswith(("postgres:", "postgresql:")),
    "DATABASE_URL",
    "a URL such as postgres://user:password@host/name or sqlite:////path/to/file",
)
DATABASES: dict[str, dict[str, Any]] = {}
try:
    with warnings.catch_warnings(action="ignore"):  # The check saferoom.W005 says it better.
        DATABASES["default"] = env.db_url_config(DATABASE_URL)
    _can_be_parsed = urlsplit(DATABASE_URL).port != 0
except ValueError:
    _can_be_parsed = False
require(
    _can_be_parsed,
    "DATABASE_URL",
    "a URL whose port is a number from 1 to 65535, and whose host has no brackets or two, as [::1]",
)
require(
    "%00" not in DATABASE_URL, "DATABASE_URL", "a URL without %00, which stands for no character"
)
require(
    not IS_SQLITE or DATABASES["default"]["NAME"] not in ("", ":memory:"),
    "DATABASE_URL",
    "a URL with the path of a file, such as sqlite:////path/to/file: web server and worker share it",
)
require(
    "pool" not in DATABASES["default"].get("OPTIONS", {}),
    "DATABASE_URL",
    "a URL without pool: each thread of the panel has a connection of its own",
)
if IS_SQLITE:
    _path = DATABASES["default"]["NAME"]
    # SQLite could open it, but the lock of the write turns and the log would be looked for at this very name.
    require(
        not _path.startswith("file:"),
        "DATABASE_URL",
        "a URL with the path itself, such as sqlite:////path/to/file, without file:",
    )
    # A relative path leads to the same file wherever a process is started. Once it depended on that: a file
    # that is found so, and not in the panel's folder, is still used. If there are both, one of them is a
    # mistake, and nobody can tell here which one. One without a table does not count: any command makes it.
    _here, _in_panel = Path(_path), BASE_DIR / _path
    _is_here, _is_in_panel = map(has_tables, (_here, _in_panel))
    if _is_here:  # Otherwise the folder in which it was started may not even be there.
        _here = _here.absolute()
    require(
        not (_is_here and _is_in_panel) or _here.samefile(_in_panel),
        "DATABASE_URL",
        f"an absolute path, with four slashes: there are both {_here} and {_in_panel}. Choose the one with the "
        "panel's data",
    )
    # If it is a link, SQLite follows it first, so the log and the locks are beside the file itself.
    DATABASES["default"]["NAME"] = os.path.realpath(
        _here if _is_here and not _is_in_panel else _in_panel
    )
    DATABASES["default"]["OPTIONS"] = {
        # In SQLite, a transaction that starts by reading and then writes may fail at once, whatever the
        # timeout; an IMMEDIATE one waits for its turn.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        # FULL: a job is recorded as running before its host is touched, even across a power cut.
        # No automatic checkpoints: `jobs.database.wal_checkpoints` makes them.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0;",
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- People -----------------------------------------------------------------------------------

AUTHENTICATION_BACKENDS = ["l4d2site.accounts.backend.AccountBackend"]
AUTH_PASSWORD_VALIDATORS: list[dict[str, Any]] = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    # Requires ten characters. Django also notifies it of every password change, however it was made.
    {"NAME": "l4d2site.accounts.password_changes.PasswordPolicy"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "servers:list"
LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_ADAPTER = "l4d2site.accounts.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_PRESERVE_USERNAME_CASING = True
# Wrong second factors are counted per account: only somebody with its password can use them up. Wrong passwords
# are limited before Django, per address, because strangers must not be able to lock an account.
ACCOUNT_RATE_LIMITS: dict[str, str | None] = {
    **dict.fromkeys(
        ("change_password", "login", "manage_email", "reset_password_from_key", "signup")
    ),
    "login_failed": "10/300s/key",
    # Requests for a mail with a link: by the sender's IP address, and by the mail address.
    "reset_password": "5/300s/ip,3/3600s/key",
    # Mailed invitations: by inviter, and by the mail address.
    "mail_invitation": "30/3600s/user,2/3600s/key",
}
MFA_ADAPTER = "l4d2site.accounts.second_factors.SecondFactorAdapter"
MFA_FORMS = {
    "activate_totp": "l4d2site.accounts.forms.AppForm",
    "authenticate": "l4d2site.accounts.forms.SecondFactorForm",
    "reauthenticate": "l4d2site.accounts.forms.ReauthenticationForm",
    "add_webauthn": "l4d2site.accounts.passkey_forms.PasskeyForm",
    "login_webauthn": "l4d2site.accounts.passkey_forms.PasskeySignInForm",
    "authenticate_webauthn": "l4d2site.accounts.passkey_forms.PasskeySecondFactorForm",
    "reauthenticate_webauthn": "l4d2site.accounts.passkey_forms.PasskeyReauthenticationForm",
    "edit_webauthn": "l4d2site.accounts.passkey_forms.PasskeyNameForm",
}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_ALLOW_UNVERIFIED_EMAIL = True
MFA_TOTP_ISSUER = "Saferoom"
# It counts guesses, so it has more than enough entries: none may be evicted to make room.
CACHES: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "OPTIONS": {"MAX_ENTRIES": 20_000},
    }
}
REQUIRE_STAFF_MFA = read_bool("REQUIRE_STAFF_MFA", default=False)
OWNERS_INVITE = read_bool("OWNERS_INVITE", default=True)
ACCOUNT_EVENTS_KEEP_DAYS = read(
    "ACCOUNT_EVENTS_KEEP_DAYS", read_int, "a whole number of days", default=90
)
require(1 <= ACCOUNT_EVENTS_KEEP_DAYS <= 3650, "ACCOUNT_EVENTS_KEEP_DAYS", "between 1 and 3650")
PANEL_URL = read("PANEL_URL", env.str, "the panel's address", default="").rstrip("/")
require(
    re.fullmatch(r"(https?://[^/?#\s]+)?", PANEL_URL) is not None,
    "PANEL_URL",
    "an address without a path, such as https://panel.example.org",
)

# --- Mail -------------------------------------------------------------------------------------

EMAIL_URL = env.str("EMAIL_URL", default="")
if EMAIL_URL:
    _expected = "a URL such as smtp+tls://user:password@mail.example.org:587"
    try:
        _mail = env.email_url("EMAIL_URL")
    except (ImproperlyConfigured, ValueError):
        require(False, "EMAIL_URL", _expected)
    globals().update({name: value for name, value in _mail.items() if value is not None})
    # The address in a mail must not come from the request that caused it.
    require(PANEL_URL != "", "PANEL_URL", "set where EMAIL_URL is, as mails have links in them")
EMAIL_TIMEOUT = 20  # seconds
DEFAULT_FROM_EMAIL = read(
    "DEFAULT_FROM_EMAIL", env.str, "an e-mail address", default="saferoom@localhost"
)

# --- Pages ------------------------------------------------------------------------------------

LANGUAGE_CODE = "en"
TIME_ZONE = read("TIME_ZONE", env.str, "a time zone such as Europe/Berlin", default="UTC")
require(TIME_ZONE in available_timezones(), "TIME_ZONE", "a time zone such as Europe/Berlin")
USE_I18N = False
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = Path(read("STATIC_ROOT", env.str, "a folder", default=str(VAR_DIR / "static")))
require(STATIC_ROOT.is_absolute(), "STATIC_ROOT", "an absolute path")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "l4d2site.staticfiles.HashedStaticFilesStorage",
        # A web server under another account may serve them, whatever the umask is.
        "OPTIONS": {"file_permissions_mode": 0o644, "directory_permissions_mode": 0o755},
    },
}
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = False
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
# Behind a reverse proxy that terminates TLS (deploy/), which sets this header itself.
if read_bool("BEHIND_TLS_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
# For this long browsers refuse to connect without TLS, or with a certificate that they do not trust. So only
# people with such a certificate should turn it on: with any other, nobody could get in.
SECURE_HSTS_SECONDS = read("HSTS_SECONDS", read_int, "a whole number of seconds", default=0)
require(0 <= SECURE_HSTS_SECONDS <= 63_072_000, "HSTS_SECONDS", "between 0 and 63072000, two years")
require(
    SECURE_HSTS_SECONDS == 0 or SESSION_COOKIE_SECURE,
    "HSTS_SECONDS",
    "0 unless BEHIND_TLS_PROXY is true: without TLS no browser heeds it",
)
# Checks of `manage.py check --deploy`, each with the reason why it does not apply here.
SILENCED_SYSTEM_CHECKS = [
    "security.W004",  # HSTS: HSTS_SECONDS, for panels with a certificate that browsers trust.
    "security.W005",  # HSTS for subdomains: the panel does not know what else is below its domain.
    "security.W008",  # A redirect to TLS: for the proxy, which listens without it.
    "security.W021",  # HSTS preloading: cannot be undone for months, for a whole domain.
]

# The web server's own port, which deploy/gunicorn.conf.py reads too. No game server gets it.
PANEL_PORT = read("PORT", read_int, "a port number", default=8000)
require(1 <= PANEL_PORT <= 65535, "PORT", "a port number from 1 to 65535")
# --- The gate ---------------------------------------------------------------------------------

try:
    TRUSTED_PROXIES = TrustedProxies.parse(env.list("TRUSTED_PROXIES", default=[]))
except ValueError:
    require(False, "TRUSTED_PROXIES", "a comma-separated list of IP addresses, networks, and unix")


def read_limit(name: str, default: int, lowest: int = 1) -> int:
    """Return the variable `name`, a whole number of at least `lowest`."""
    number: int = read(name, read_int, "a whole number", default=default)
    require(number >= lowest, name, f"a whole number, at least {lowest}")
    return number


SIGN_IN_FAILURES_PER_ADDRESS = read_limit("SIGN_IN_FAILURES_PER_ADDRESS", 10)
SIGN_IN_FAILURES_PER_ACCOUNT = read_limit("SIGN_IN_FAILURES_PER_ACCOUNT", 10)
HEADER_SECONDS = read_limit("HEADER_SECONDS", 10)
BODY_IDLE_SECONDS = read_limit("BODY_IDLE_SECONDS", 30)
BODY_SECONDS = read_limit("BODY_SECONDS", 120)
BODY_MAX_BYTES = read_limit("BODY_MAX_BYTES", 3 * 1024**2, lowest=64 * 1024)
BODIES_MAX_BYTES = read_limit("BODIES_MAX_BYTES", 64 * 1024**2, lowest=1024**2)
require(
    BODIES_MAX_BYTES >= 4 * BODY_MAX_BYTES,
    "BODIES_MAX_BYTES",
    "at least four times BODY_MAX_BYTES: an address may hold a quarter of it",
)
CONNECTIONS_PER_ADDRESS = read_limit("CONNECTIONS_PER_ADDRESS", 300)
STREAMS_PER_ADDRESS = read_limit("STREAMS_PER_ADDRESS", 50)
STREAMS_PER_PERSON = read_limit("STREAMS_PER_PERSON", 100)
# Django writes anything larger than this to disk, or refuses it. The gate lets nothing larger through.
FILE_UPLOAD_MAX_MEMORY_SIZE = DATA_UPLOAD_MAX_MEMORY_SIZE = BODY_MAX_BYTES
PASSWORD_HASHERS = [
    "l4d2site.gate.password_hashing.Argon2Hasher",
    "l4d2site.gate.password_hashing.PBKDF2Hasher",
]

# --- Health -----------------------------------------------------------------------------------

HEALTH_TOKEN = read("HEALTH_TOKEN", env.str, "a long random text", default="")
require(
    re.fullmatch(r"([A-Za-z0-9._~+/-]{20,}=*)?", HEALTH_TOKEN) is not None,
    "HEALTH_TOKEN",
    "at least 20 letters, digits and .-_~+/ (such as `openssl rand -hex 32` prints)",
)

# --- Quotas -----------------------------------------------------------------------------------

# For everybody except superusers; `l4d2site.accounts.models.OwnQuotas` overrides it for one person.
SERVERS_PER_OWNER = read_limit("SERVERS_PER_OWNER", 20)
WAITING_JOBS_PER_OWNER = read_limit("WAITING_JOBS_PER_OWNER", 20)
CONTENT_BYTES_PER_OWNER = read_limit("CONTENT_BYTES_PER_OWNER", 20 * 1024**3, lowest=0)

# --- Content ----------------------------------------------------------------------------------

CONTENT_ROOT = Path(read("CONTENT_ROOT", env.str, "a folder", default=str(VAR_DIR / "content")))
require(CONTENT_ROOT.is_absolute(), "CONTENT_ROOT", "an absolute path")

# --- Jobs -------------------------------------------------------------------------------------

JOB_WORKER_ENABLED = read_bool("JOB_WORKER_ENABLED", default=True)
JOB_WORKER_POLL_SECONDS = read(
    "JOB_WORKER_POLL_SECONDS", read_float, "a number of seconds", default=1.0
)
require(
    0 < JOB_WORKER_POLL_SECONDS <= 3600,
    "JOB_WORKER_POLL_SECONDS",
    "more than 0, and at most 3600 seconds",
)
JOB_WORKER_CONCURRENCY = read("JOB_WORKER_CONCURRENCY", read_int, "a whole number", default=4)
require(1 <= JOB_WORKER_CONCURRENCY <= 64, "JOB_WORKER_CONCURRENCY", "between 1 and 64")
JOB_WORKER_LEASE_SECONDS = read(
    "JOB_WORKER_LEASE_SECONDS", read_float, "a number of seconds", default=30.0
)
require(
    5 <= JOB_WORKER_LEASE_SECONDS <= 86_400,
    "JOB_WORKER_LEASE_SECONDS",
    "between 5 and 86400 seconds, a day",
)
if not IS_SQLITE:
    # A broken network must be noticed well within the lease; TCP by itself would retry for a quarter of an
    # hour. DATABASE_URL overrides this.
    _patience_seconds = max(2, int(JOB_WORKER_LEASE_SECONDS / 3))
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": _patience_seconds,
        "keepalives_idle": _patience_seconds,
        "keepalives_interval": 1,
        "keepalives_count": 2,
        "tcp_user_timeout": _patience_seconds * 1000,  # milliseconds
        # Only statements that ask for it keep their plans (`jobs.database.sql`): Django's own never do.
        "prepare_threshold": 0,
        # A process that freezes in a transaction must not keep its locks.
        "options": f"-c idle_in_transaction_session_timeout={_patience_seconds}s",
    } | DATABASES["default"].get("OPTIONS", {})
JOB_WORKER_GRACE_SECONDS = read(
    "JOB_WORKER_GRACE_SECONDS", read_float, "a number of seconds", default=600.0
)
require(
    0 <= JOB_WORKER_GRACE_SECONDS <= 31_536_000,
    "JOB_WORKER_GRACE_SECONDS",
    "between 0 and 31536000 seconds, a year",
)
JOB_LOG_REPLAY_LIMIT = read("JOB_LOG_REPLAY_LIMIT", read_int, "a whole number", default=500)
require(1 <= JOB_LOG_REPLAY_LIMIT <= 10_000, "JOB_LOG_REPLAY_LIMIT", "between 1 and 10000 rows")
JOB_LOG_MAX_BYTES = read(
    "JOB_LOG_MAX_BYTES", read_int, "a whole number of bytes", default=64_000_000
)
require(
    100_000 <= JOB_LOG_MAX_BYTES <= 10**12, "JOB_LOG_MAX_BYTES", "between 100 kB and 1 TB in bytes"
)

# --- Consoles ---------------------------------------------------------------------------------

CONSOLE_KEEP_BYTES = read(
    "CONSOLE_KEEP_BYTES", read_int, "a whole number of bytes", default=50 * 1024**2
)
require(
    1024**2 <= CONSOLE_KEEP_BYTES <= 1024**3,
    "CONSOLE_KEEP_BYTES",
    "between 1 MiB and 1 GiB in bytes",
)

# --- The host ---------------------------------------------------------------------------------

HOST_NAME = read("HOST_NAME", env.str, "a host's name", default="local")
require(
    re.fullmatch(NAME_PATTERN, HOST_NAME) is not None,
    "HOST_NAME",
    "1 to 32 lower-case letters, digits and dashes, not starting with a dash",
)
HOST_ROOT = Path(read("HOST_ROOT", env.str, "a folder", default=str(VAR_DIR / "host")))
require(HOST_ROOT.is_absolute(), "HOST_ROOT", "an absolute path")
HOST_DRIVER = read("HOST_DRIVER", env.str, " or ".join(map(repr, DRIVERS)), default="process")
require(HOST_DRIVER in DRIVERS, "HOST_DRIVER", " or ".join(map(repr, DRIVERS)))
HOST_UNBOXED = read_bool("HOST_UNBOXED", default=False)
GAME_SOURCE = read("GAME_SOURCE", env.str, "'steam' or 'simulator'", default="steam")
require(GAME_SOURCE in ("steam", "simulator"), "GAME_SOURCE", "'steam' or 'simulator'")
# If empty, the host layer determines it each time. A real game does not answer on loopback.
HOST_ADDRESS = read("HOST_ADDRESS", env.str, "an IP address", default="")
MACHINE_ADDRESS = find_own_address()
try:
    ipaddress.ip_address(HOST_ADDRESS or MACHINE_ADDRESS)
except ValueError:
    require(False, "HOST_ADDRESS", "the IP address under which this host's game servers answer")
HOST_MIN_FREE_BYTES = read(
    "HOST_MIN_FREE_BYTES", read_int, "a whole number of bytes", default=1024**3
)
require(0 <= HOST_MIN_FREE_BYTES <= 2**50, "HOST_MIN_FREE_BYTES", "between 0 and 1 PiB in bytes")
# An account that owns the game, in case Steam refuses it to anonymous users.
STEAM_ACCOUNT = read("STEAM_ACCOUNT", env.str, "a Steam account's name", default="")
STEAM_PASSWORD = read("STEAM_PASSWORD", env.str, "a password", default="")
STEAM_PASSWORD_FILE = (
    Path(text)
    if (text := read("STEAM_PASSWORD_FILE", env.str, "an absolute path", default=""))
    else None
)
require(
    STEAM_PASSWORD_FILE is None or STEAM_PASSWORD_FILE.is_absolute(),
    "STEAM_PASSWORD_FILE",
    "the absolute path of a file with mode 600",
)
require(
    not any(
        character == '"' or ord(character) < 32 for character in STEAM_ACCOUNT + STEAM_PASSWORD
    ),
    "STEAM_PASSWORD",
    "without quotation marks and control characters, as STEAM_ACCOUNT",
)

# --- Backups ----------------------------------------------------------------------------------

BACKUP_DIR = Path(read("BACKUP_DIR", env.str, "a folder", default=str(VAR_DIR / "backups")))
require(BACKUP_DIR.is_absolute(), "BACKUP_DIR", "an absolute path")
BACKUP_PASSPHRASE_FILE = (
    Path(text)
    if (text := read("BACKUP_PASSPHRASE_FILE", env.str, "an absolute path", default=""))
    else None
)
require(
    BACKUP_PASSPHRASE_FILE is None or BACKUP_PASSPHRASE_FILE.is_absolute(),
    "BACKUP_PASSPHRASE_FILE",
    "the absolute path of a file with a passphrase",
)
BACKUP_CONTENT = read_bool("BACKUP_CONTENT", default=True)
BACKUP_KEEP = read_limit("BACKUP_KEEP", 14)
BACKUP_KEEP_BYTES = read_limit("BACKUP_KEEP_BYTES", 20 * 1024**3)

# --- Log of the processes ---------------------------------------------------------------------

REFUSALS = (
    *("DisallowedModelAdminLookup", "DisallowedModelAdminToField"),
    *("RequestDataTooBig", "TooManyFieldsSent", "TooManyFilesSent", "SuspiciousMultipartForm"),
)
"""Django's errors that say no more than that it refused a request."""

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {
            "class": "l4d2site.log_filters.SafeLines",
            "format": "{asctime} {levelname} {name}: {message}",
            "style": "{",
        },
    },
    "filters": {
        "once_a_minute": {"()": "l4d2site.log_filters.OnceAMinute"},
        "one_line": {"()": "l4d2site.log_filters.OneLine"},
        "short_warning": {"()": "l4d2site.log_filters.ShortWarning"},
        # The answer itself reports this, with the reason; it is no fault of this process.
        "not_healthz": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: "Service Unavailable: /healthz" not in record.getMessage(),
        },
        # `l4d2site.outages` logs it in one line.
        "not_outages": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: (
                not getattr(getattr(record, "request", None), "outage", None)
            ),
        },
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "django.request": {"filters": ["not_healthz", "not_outages", "short_warning"]},
        "django.security.csrf": {"filters": ["short_warning"]},
        "django.security.DisallowedHost": {"filters": ["once_a_minute"]},
        **{f"django.security.{error}": {"filters": ["one_line"]} for error in REFUSALS},
    },
}
