"""The small program that lets SteamCMD see an installed release as a folder it may write to.

    python -I -S update_mount.py ROOT BUILD_ID PROGRAM [ARGUMENT …]

In a private user and mount namespace it mounts `staging/merged`: the release at the bottom, and above it
`staging/upper`, which takes all writes. Then it gives up every capability and becomes the program.
Nothing is mounted on the host, and the release cannot be changed through the mount. Uses only the
standard library.
"""

# Without pathlib, like hostops.launcher:

import os
import sys

# Run by path and isolated, so the package is not on its search path.
sys.path.append(__file__.rsplit("/", 3)[0])

from hostops.linux.namespaces import (
    EXIT_FAILED,
    LaunchError,
    drop_privileges,
    enter_namespaces,
    mount_overlay,
)


def main(arguments: list[str]) -> int:
    """Become the program on the command line; return an exit code only if that failed."""
    if len(arguments) < 3:
        print("usage: update_mount.py ROOT BUILD_ID PROGRAM [ARGUMENT …]", file=sys.stderr)
        return 2
    root, build_id, *argv = arguments
    try:
        os.chdir(root)
        enter_namespaces()
        # Relative to the root, whose path may have colons and commas, which mount options may not.
        mount_overlay([f"releases/{build_id}"], "staging/upper", "staging/work", "staging/merged")
        drop_privileges()
        os.execvp(argv[0], argv)  # noqa: S606 - this is what it is for
    except LaunchError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"{argv[0]} could not be run on build {build_id}: {error.strerror}.", file=sys.stderr)
    return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
