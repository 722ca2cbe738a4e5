"""What importing the admin costs."""

from __future__ import annotations

import subprocess
import sys

UNWANTED = (
    "jinja2",
    "itsdangerous",
    "multipart",
    "OpenSSL",
    "anyio._backends._asyncio",
    "anyio._backends._trio",
)


def test_the_admin_imports_no_more_than_it_uses() -> None:
    """Templates, form parsers, a second event loop: each is resident memory in every host's daemon."""
    code = f"import sys, hostmesh.admin.serve; print([name for name in {UNWANTED!r} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
