"""Reading files whose content is obeyed: code, and endpoints from before a restart."""

from __future__ import annotations

import os
import stat


def read_trusted(path: str, max_bytes: int) -> bytes:
    """The bytes of a file that only root or this user can have written.

    Judged and read through one descriptor, so that nobody can exchange it in between; a pipe is not waited for.
    OSError, or ValueError that says why it is not to be trusted.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("expected a file, found something else")
        if status.st_uid not in (0, os.geteuid()):
            raise ValueError(
                f"expected a file of root or of user {os.geteuid()}, found one of user {status.st_uid}"
            )
        if status.st_mode & 0o022:
            mode = stat.S_IMODE(status.st_mode)
            raise ValueError(
                f"expected a file that only its owner may write to, found mode {mode:04o}; chmod go-w it"
            )
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"expected at most {max_bytes} bytes, found more")
    return data
