"""The systemd unit and the Kubernetes manifests, judged by systemd's and Kubernetes' own rules."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "systemd"
UNIT = UNITS / "hostmesh.service"
MANIFESTS = ROOT / "daemonset.yaml"
WORST_EXPOSURE = 2.0
"""Of 10 in systemd's own reckoning; what is left is the network, which is the point of the service."""


def resources() -> dict[str, dict]:
    """The manifests by kind; each kind occurs once."""
    return {document["kind"]: document for document in yaml.safe_load_all(MANIFESTS.read_text())}


@pytest.fixture
def units(tmp_path: Path) -> dict[str, Path]:
    """The units with the command of this environment, because systemd wants to see an executable."""
    here = Path(sys.executable).parent / "hostmesh"
    found = {}
    for shipped in UNITS.iterdir():
        found[shipped.name] = tmp_path / shipped.name
        text = shipped.read_text().replace("/opt/hostmesh/bin/hostmesh", str(here))
        found[shipped.name].write_text(text)
    return found


@pytest.mark.server("systemd-analyze")
@pytest.mark.parametrize("name", ["hostmesh.service", "hostmesh-certs.service", "hostmesh-certs.timer"])
def test_x14_unit_is_understood_by_systemd(
    program: Callable[[str], str], units: dict[str, Path], name: str
) -> None:
    """systemd knows every key and value of the unit and has nothing to say about it."""
    command = [program("systemd-analyze"), "verify", "--recursive-errors=no", str(units[name])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.server("systemd-analyze")
@pytest.mark.parametrize("name", ["hostmesh.service", "hostmesh-certs.service"])
def test_x14_unit_is_hardened(program: Callable[[str], str], units: dict[str, Path], name: str) -> None:
    """The exposure that systemd computes stays low."""
    command = [program("systemd-analyze"), "security", "--offline=true", str(units[name])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = re.search(rf"Overall exposure level for {name}: ([\d.]+)", done.stdout)

    assert found is not None
    assert float(found[1]) < WORST_EXPOSURE


@pytest.mark.server("setpriv")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has powers to give up")
def test_renewal_needs_no_more_power_than_its_unit_has(program: Callable[[str], str], tmp_path: Path) -> None:
    """With the capabilities of the unit files are renewed for another user, twice, since the first leaves old ones."""
    text = (UNITS / "hostmesh-certs.service").read_text()
    found = re.search(r"^CapabilityBoundingSet=(.*)$", text, re.MULTILINE)
    assert found is not None
    powers = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in found[1].split())])
    certs = [str(Path(sys.executable).parent / "hostmesh"), "certs"]
    for arguments in (("init", "ca"), ("issue", "ca", "web", "--out", "tls", "--owner", "nobody")):
        subprocess.run([*certs, *arguments], check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)

    for _ in range(2):
        command = [program("setpriv"), "--bounding-set", powers, *certs, "rotate", "ca", "--all"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "web: renewed (asked for)\n", "")

    assert (tmp_path / "tls" / "key.pem").stat().st_uid == (tmp_path / "tls").stat().st_uid != 0


UNDER_ITS_MEMORY_RULE = """
import ctypes, sys
PR_SET_MDWE, REFUSE_GAIN = 65, 1  # what systemd asks of the kernel
if sys.argv[1] == "yes":
    ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE_GAIN, 0, 0, 0)
from OpenSSL import SSL
context = SSL.Context(SSL.TLS_METHOD)
context.set_alpn_select_callback(lambda connection, offered: b"")
context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
"""


def test_unit_leaves_the_memory_that_tls_needs() -> None:
    """OpenSSL's callbacks work under the unit's rule for memory that is written and executed."""
    rule = re.search(r"^MemoryDenyWriteExecute=(\w+)$", UNIT.read_text(), re.MULTILINE)
    command = [sys.executable, "-c", UNDER_ITS_MEMORY_RULE, rule[1] if rule is not None else "no"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")


def test_unit_waits_longer_than_the_drain() -> None:
    """systemd kills only after shutdownGraceMs of the shipped configuration is over."""
    stop = re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    grace = yaml.safe_load((ROOT / "config" / "vm.yaml").read_text())["admin"]["shutdownGraceMs"]

    assert stop is not None
    assert int(stop[1]) * 1000 > grace


@pytest.mark.server("kubernetes-validate")
@pytest.mark.parametrize("version", ["1.26", "1.37"])
def test_x14_manifests_are_valid(program: Callable[[str], str], version: str) -> None:
    """Every object fits Kubernetes' schema, with no unknown key."""
    command = [program("kubernetes-validate"), "--strict", "-k", version, str(MANIFESTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr


def test_manifests_carry_the_shipped_configuration() -> None:
    """The ConfigMap is config/kubernetes-node.yaml, word for word."""
    shipped = (ROOT / "config" / "kubernetes-node.yaml").read_text()

    assert resources()["ConfigMap"]["data"]["hostmesh.yaml"] == shipped


def test_x14_pod_has_no_privileges() -> None:
    """Not root, no capability, nothing to write to, no token."""
    pod = resources()["DaemonSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)


def test_x14_role_only_reads_endpoints() -> None:
    """RBAC grants reading services and endpoint slices and nothing else."""
    granted = {
        (resource, verb)
        for rule in resources()["ClusterRole"]["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    assert granted == {(r, v) for r in ("services", "endpointslices") for v in ("get", "list", "watch")}


def test_pod_fits_its_configuration() -> None:
    """Ports, probes and grace period agree with the configuration that the pod runs."""
    config = yaml.safe_load(resources()["ConfigMap"]["data"]["hostmesh.yaml"])
    pod = resources()["DaemonSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}

    assert ports == {"outgoing": config["routers"][0]["servers"][0]["port"], "admin": config["admin"]["port"]}
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/admin/ping", "port": "admin"}
    assert pod["terminationGracePeriodSeconds"] * 1000 > config["admin"]["shutdownGraceMs"]
