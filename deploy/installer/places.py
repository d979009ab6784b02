"""The paths of everything on an installed machine. docs/deploy.md has the same as a table."""

from pathlib import Path

CODE_DIR = Path("/opt/saferoom")
RELEASES_DIR = CODE_DIR / "releases"
ENVIRONMENTS_DIR = CODE_DIR / "environments"
CURRENT = CODE_DIR / "current"
PREVIOUS = CODE_DIR / "previous"
SETTINGS_DIR = Path("/etc/saferoom")
ANSWERS = SETTINGS_DIR / "install.json"
PASSPHRASE = SETTINGS_DIR / "backup.passphrase"
CERTIFICATES_DIR = SETTINGS_DIR / "tls"
STATE_DIR = Path("/srv/saferoom")
HOST_ROOT = STATE_DIR / "host"
VAR_DIR = STATE_DIR / "var"
BACKUPS_DIR = STATE_DIR / "backups"
PUBLIC_DIR = Path("/var/lib/saferoom")
STATIC_DIR = PUBLIC_DIR / "static"
CHALLENGES_DIR = PUBLIC_DIR / "acme"
SOCKET = Path("/run/saferoom/web.sock")
SYSTEM_UNITS = Path("/etc/systemd/system")
USER_UNITS = Path("/etc/systemd/user")
COMMANDS_DIR = Path("/usr/local/bin")
SYSUSERS = Path("/usr/local/lib/sysusers.d/saferoom.conf")
TMPFILES = Path("/usr/local/lib/tmpfiles.d/saferoom.conf")
DELEGATION = SYSTEM_UNITS / "user@.service.d/saferoom.conf"
POLKIT_RULES = Path("/etc/polkit-1/rules.d/50-saferoom.rules")
NFTABLES_RULES = SETTINGS_DIR / "games.nft"
NGINX_DIR = Path("/etc/nginx")

WORKER_ACCOUNT = "saferoom"
WEB_ACCOUNT = "saferoom-web"
WORKER_UNIT = "saferoom-worker.service"
WEB_UNIT = "saferoom-web.service"
WEB_SOCKET_UNIT = "saferoom-web.socket"
BACKUP_UNIT = "saferoom-backup.service"
BACKUP_TIMER = "saferoom-backup.timer"
GAME_UNIT = "saferoom-game@.service"
GAMES_SLICE = "saferoom-games.slice"
NFTABLES_UNIT = "saferoom-nftables.service"
