"""nginx in front of the panel: its site, and the certificate."""

import ipaddress
from pathlib import Path

from deploy.installer import env_files, places
from deploy.installer.answers import Answers
from deploy.installer.errors import CommandError, InstallError
from deploy.installer.machine import Machine

_EXAMPLE = "panel.example.org"
_EXAMPLE_DIR = f"/etc/letsencrypt/live/{_EXAMPLE}"
_OWN_CERTIFICATE = places.CERTIFICATES_DIR / "self-signed.pem"
_OWN_KEY = places.CERTIFICATES_DIR / "self-signed.key"


def install(machine: Machine, code: Path, answers: Answers) -> None:
    """Write the site and load it. For certbot, it is first served with a self-signed certificate."""
    machine.make_folder(places.PUBLIC_DIR)
    machine.make_folder(places.CHALLENGES_DIR)
    template = (code / "deploy/nginx.conf").read_text(encoding="utf-8")
    certificate, key = find_certificate(answers)
    if answers.certificate == "self-signed" or (
        answers.certificate == "certbot" and not certificate.exists()
    ):
        make_certificate(machine, answers.name)
        _load(machine, render(template, answers.name, _OWN_CERTIFICATE, _OWN_KEY))
    if answers.certificate == "certbot":
        fetch_certificate(machine, answers)
    if answers.certificate != "self-signed":
        _load(machine, render(template, answers.name, certificate, key))


def find_certificate(answers: Answers) -> tuple[Path, Path]:
    """Return the paths of certificate and key, which may not exist yet."""
    if answers.certificate == "files":
        return Path(answers.certificate_file), Path(answers.key_file)
    if answers.certificate == "certbot":
        folder = Path("/etc/letsencrypt/live", answers.name)
        return folder / "fullchain.pem", folder / "privkey.pem"
    return _OWN_CERTIFICATE, _OWN_KEY


def render(template: str, name: str, certificate: Path, key: Path) -> str:
    """Return the site for a name and a certificate. IPv6 is left out if the kernel has none."""
    host = f"[{name}]" if ":" in name else name
    text = template.replace(f"{_EXAMPLE_DIR}/fullchain.pem", str(certificate))
    text = text.replace(f"{_EXAMPLE_DIR}/privkey.pem", str(key))
    text = text.replace(f"server_name {_EXAMPLE};", f"server_name {host};")
    if not Path("/proc/net/if_inet6").exists():
        text = "".join(
            line for line in text.splitlines(keepends=True) if "listen [::]:" not in line
        )
    return text


def make_certificate(machine: Machine, name: str) -> None:
    """Make a self-signed certificate for ten years, unless there is one for that name."""
    kind = "IP" if _is_address(name) else "DNS"
    if _OWN_CERTIFICATE.exists() and machine.succeeds(
        "openssl",
        "x509",
        "-noout",
        "-in",
        _OWN_CERTIFICATE,
        f"-check{'ip' if kind == 'IP' else 'host'}",
        name,
    ):
        shown = machine.ask(
            "openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", _OWN_CERTIFICATE
        )
        if name in shown:
            return
    machine.make_folder(places.CERTIFICATES_DIR, 0o700)
    machine.run(
        *(
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ),
        *("-days", "3650", "-subj", f"/CN={name[:64]}", "-addext", f"subjectAltName={kind}:{name}"),
        *("-keyout", _OWN_KEY, "-out", _OWN_CERTIFICATE),
    )


def fetch_certificate(machine: Machine, answers: Answers) -> None:
    """Make certbot get a certificate through the loaded site, and renew it automatically from then on."""
    contact = ("--email", answers.mail) if answers.mail else ("--register-unsafely-without-email",)
    try:
        machine.run(
            *(
                "certbot",
                "certonly",
                "--non-interactive",
                "--agree-tos",
                "--keep-until-expiring",
                *contact,
            ),
            *("--webroot", "--webroot-path", places.CHALLENGES_DIR, "--domain", answers.name),
            *("--deploy-hook", "systemctl reload nginx"),
        )
    except CommandError as error:
        raise InstallError(
            f"Let's Encrypt gave no certificate for {answers.name}. {error}",
            f"{answers.name} has to lead to this machine, and port 80 has to be reachable from the Internet. "
            "Until then the panel has a certificate of its own; --certificate self-signed leaves it at that.",
        ) from error


def _load(machine: Machine, text: str) -> None:
    """Install the site if nginx accepts it; otherwise what was there before stays."""
    sites = places.NGINX_DIR / "sites-available"
    path = sites / "saferoom" if sites.is_dir() else places.NGINX_DIR / "conf.d/saferoom.conf"
    try:
        before = env_files.read_text(path)
    except FileNotFoundError:
        before = None
    machine.write(path, text)
    if sites.is_dir():
        machine.link(places.NGINX_DIR / "sites-enabled/saferoom", str(path))
    try:
        machine.run("nginx", "-t")
    except CommandError as error:
        if before is None:
            machine.remove(path)
            machine.remove(places.NGINX_DIR / "sites-enabled/saferoom")
        else:
            machine.write(path, before)
        raise InstallError(
            f"nginx does not take the panel's site. {error}",
            "What nginx served before is untouched. Mend what it names, or give --no-nginx and set a proxy "
            "up yourself: deploy/nginx.conf is what it has to do.",
        ) from error
    machine.run("systemctl", "enable", "nginx.service")
    machine.run("systemctl", "reload-or-restart", "nginx.service")


def remove(machine: Machine) -> None:
    """Remove the site."""
    for place in ("sites-enabled/saferoom", "sites-available/saferoom", "conf.d/saferoom.conf"):
        machine.remove(places.NGINX_DIR / place)
    if machine.succeeds("systemctl", "is-active", "--quiet", "nginx.service"):
        machine.run("systemctl", "reload", "nginx.service")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
