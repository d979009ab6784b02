"""The few files of /etc that a program needs, copied or generated. The real folder stays outside."""

# Without pathlib, like everything the launcher imports:
# ruff: noqa: PTH112, PTH123, PTH208

import os

_COPIED = (
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "localtime",  # Usually a link into /usr; its content is what counts.
    "resolv.conf",  # Often a link into /run, which is not in the box.
    "ssl/openssl.cnf",
)
_COPIED_FOLDERS = ("ld.so.conf.d",)

# The machine's own file may name services whose sockets are in /run.
_NSSWITCH = b"passwd: files\ngroup: files\nhosts: files dns\nservices: files\n"


def read_small_etc(home_dir: str) -> dict[str, bytes]:
    """Return the files by their path below /etc. The generated passwd has this account with `home_dir`."""
    uid, gid = os.geteuid(), os.getegid()
    accounts = {
        0: f"root:x:0:{gid if uid == 0 else 0}:root:{home_dir if uid == 0 else '/'}:/bin/sh"
    }
    accounts.setdefault(uid, f"game:x:{uid}:{gid}:game:{home_dir}:/bin/sh")
    groups = {0: "root:x:0:"}
    groups.setdefault(gid, f"game:x:{gid}:")
    files = {
        "passwd": "".join(f"{line}\n" for line in accounts.values()).encode(),
        "group": "".join(f"{line}\n" for line in groups.values()).encode(),
        "nsswitch.conf": _NSSWITCH,
    }
    names = list(_COPIED)
    for folder in _COPIED_FOLDERS:
        if os.path.isdir(f"/etc/{folder}"):
            names += [f"{folder}/{name}" for name in os.listdir(f"/etc/{folder}")]
    for name in names:
        try:
            with open(f"/etc/{name}", "rb") as file:
                files[name] = file.read()
        except (
            FileNotFoundError,
            PermissionError,
        ):  # A file that this account may not read is not for its game either.
            continue
    return files
