"""A file system with files of the test's own at absolute paths, for one command.

What is mounted lives in a mount namespace of that command: nothing of it is seen by anybody else. That takes root with
the right to mount, or a system where everybody may have a user namespace.
"""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

SCRIPT = """\
set -eu
root=$1; foo=$2; hosts=$3; shift 3
mount -t tmpfs tmpfs "$root"
for each in /*; do
  if [ -L "$each" ]; then cp -P "$each" "$root$each"
  elif [ -d "$each" ]; then mkdir "$root$each" && mount --rbind "$each" "$root$each"
  fi
done
mkdir "$root/foo" && mount --bind "$foo" "$root/foo"
mount --bind "$hosts" "$root/etc/hosts"
exec chroot "$root" sh -c 'cd "$0" && exec "$@"' "$PWD" "$@"
"""


@cache
def unsharing() -> tuple[str, ...] | None:
    """How to get a mount namespace here; None if there is no way."""
    for command in (("unshare", "-m"), ("unshare", "-Urm")):
        try:
            done = subprocess.run(
                [*command, "sh", "-c", "mount -t tmpfs tmpfs /tmp"], capture_output=True, check=False
            )
        except FileNotFoundError:
            return None
        if done.returncode == 0:
            return command
    return None


def with_files(folder: Path, foo: Path, hosts: dict[str, str]) -> list[str] | None:
    """What comes before a command so that it sees ``foo`` as ``/foo``, and ``hosts`` (name to address) as /etc/hosts.

    ``folder`` is for what that needs. None where there is no way, see :func:`unsharing`.
    """
    command = unsharing()
    if command is None:
        return None
    root, script, table = folder / "root", folder / "root.sh", folder / "hosts"
    root.mkdir()
    script.write_text(SCRIPT)
    table.write_text("127.0.0.1 localhost\n" + "".join(f"{ip} {name}\n" for name, ip in hosts.items()))
    return [*command, "sh", str(script), str(root), str(foo), str(table)]
