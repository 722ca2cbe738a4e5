"""A real Kubernetes API server for tests: kube-apiserver and kubectl built from their Go module, etcd from Debian.

The build takes 5 to 15 minutes on two cores, so it happens only when asked for: with ``CI=true``, or by
``python -m tests.servers.fetch_kube``. Its result stays in ``.servers/kube``, which git ignores.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.servers.fetch import SERVERS, Unavailable, _debian, _download_from, _only_one, _run, _whole

MODULE = Path(__file__).with_name("kube")
VERSION = "v1.32.13"
"""The one in kube/go.mod. It runs on the etcd of Debian 12."""

BUILD_S = 3600
"""Seconds that a build may take: many times what it does, for machines that are busy."""


def etcd() -> Path:
    """The etcd server."""
    return _debian("etcd-server", "usr/bin/etcd")


def kube_apiserver(*, build: bool | None = None) -> Path:
    """The API server."""
    return _built("kube-apiserver", build)


def kubectl(*, build: bool | None = None) -> Path:
    """kubectl of the same version: its ``proxy`` is what Linkerd's configurations talk to."""
    return _built("kubectl", build)


def installed_go() -> Path | None:
    """The machine's Go, if it is new enough."""
    for found in (shutil.which("go"), "/usr/local/go/bin/go"):
        if found is not None and os.path.exists(found):
            said = subprocess.run(
                [found, "env", "GOVERSION"], capture_output=True, text=True, check=False
            ).stdout
            version = re.match(r"go1\.(\d+)", said)
            if version is not None and int(version[1]) >= 23:
                return Path(found)
    return None


def go_compiler() -> Path:
    """A Go that is new enough: the machine's, or else that of Debian 13, which needs nothing of the machine."""
    found = installed_go()
    if found is not None:
        return found
    folder = SERVERS / "go"
    with _only_one("go"):
        if not folder.exists():
            if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
                raise Unavailable("it is built with Go", "install Go 1.23 or newer")
            with _whole(folder) as part:
                for package in ("golang-1.24-go", "golang-1.24-src"):
                    _download_from("trixie", package, part)
                for file in sorted(part.glob("*.deb")):
                    _run(["dpkg", "-x", file.name, "."], part)
                    file.unlink()
    return folder / "usr/lib/go-1.24/bin/go"


def build_go(go: Path, module: Path, package: str, program: Path, *, flags: str = "", jobs: int = 1) -> None:
    """Make ``program`` of a package of the Go module in the folder ``module``; Unavailable says why that failed."""
    part = program.with_name(f"{program.name}.part")
    command = ["nice", "-n", "10", str(go), "build", "-p", str(jobs), "-mod=readonly", "-trimpath"]
    command += ["-ldflags", f"-s -w {flags}".strip(), "-o", str(part), package]
    try:
        subprocess.run(
            command,
            cwd=module,
            env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": ""},
            check=True,
            capture_output=True,
            text=True,
            timeout=BUILD_S,
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines()[-3:]
        raise Unavailable(
            f"go build of {program.name} failed: {' / '.join(said)}", f"see {module}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            f"go build of {program.name} took over {BUILD_S} s", "build it beforehand"
        ) from error
    part.rename(program)


def _built(program: str, build: bool | None) -> Path:
    path = SERVERS / "kube" / program
    with _only_one("kube"):
        if path.exists():
            return path
        if not (bool(os.environ.get("CI")) if build is None else build):
            raise Unavailable(
                f"{program} is not built", "python -m tests.servers.fetch_kube (5 to 15 minutes)"
            )
        go = go_compiler()
        path.parent.mkdir(parents=True, exist_ok=True)
        major, minor = VERSION[1:].split(".")[:2]
        stamp = {
            "gitVersion": VERSION,
            "gitMajor": major,
            "gitMinor": minor,
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
        }
        flags = " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in stamp.items())
        build_go(go, MODULE, f"k8s.io/kubernetes/cmd/{program}", path, flags=flags, jobs=2)
        return path


if __name__ == "__main__":
    missing = 0
    for name, find in (
        ("etcd", etcd),
        ("kube-apiserver", lambda: kube_apiserver(build=True)),
        ("kubectl", lambda: kubectl(build=True)),
    ):
        try:
            print(f"{name}: {find()}", flush=True)
        except Unavailable as why:
            missing += 1
            print(f"{name}: {why}", flush=True)
    sys.exit(missing)
