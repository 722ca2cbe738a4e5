"""What all tests share: builders that clean up after themselves, and the rule for tests that need a real
server.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# `tests.wire.harness` must be importable however pytest was started and from any working directory.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from hostmesh import core  # noqa: E402
from tests.tls_files import TlsFiles  # noqa: E402
from tests.wire.harness import EndpointServer, Hostmesh  # noqa: E402

SERVERS = ROOT / ".servers"
"""Real servers and tools that are not Python dependencies of the project; `make servers` fills it."""


def find_program(name: str) -> Path | None:
    """The program of that name: from ``make servers``, from the virtual environment, or installed on the
    machine.
    """
    for place in (SERVERS / "tools" / "bin", Path(sys.executable).parent):
        if (place / name).exists():
            return place / name
    found = shutil.which(name)
    return Path(found) if found else None


def pytest_report_header() -> str:
    """Which form of the data path is tested."""
    return f"hostmesh: {core.kind()} core"


def pytest_configure() -> None:
    """What is tested must be what can be read."""
    changed = core.stale()
    if changed:
        raise pytest.UsageError(
            f"changed since they were compiled: {', '.join(changed)}; make compiled, or make pure"
        )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose server is not installed; where everything must be installed (CI) its absence is a
    failure.
    """
    for marker in item.iter_markers("server"):
        name = marker.args[0]
        if find_program(name) is None:
            why = f"{name} is not installed: see `make servers` and .ci/run"
            if os.environ.get("CI"):
                pytest.fail(why)
            pytest.skip(why)


@pytest.fixture
def program() -> Callable[[str], str]:
    """The path of a program that the test's ``server`` marker names."""

    def path(name: str) -> str:
        found = find_program(name)
        assert found is not None, f"mark the test with server({name!r})"
        return str(found)

    return path


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    """Context managers entered here are left, newest first, when the test ends."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def endpoint(cleanup: ExitStack) -> Callable[..., EndpointServer]:
    """Builds scripted endpoints: ``endpoint("web-1")``; the arguments are those of EndpointServer."""

    def build(name: str = "web-1", **options: object) -> EndpointServer:
        return cleanup.enter_context(EndpointServer(name, **options))

    return build


@pytest.fixture
def hostmesh(cleanup: ExitStack, tmp_path: Path) -> Callable[..., Hostmesh]:
    """Starts hostmesh: ``hostmesh(web=[server])``, or with a configuration text first."""

    def build(config: str | None = None, /, **services: list[EndpointServer]) -> Hostmesh:
        options = {} if config is None else {"config": config}
        return cleanup.enter_context(Hostmesh.routing(tmp_path, **options, **services))

    return build


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """The CA and certificates of all tests with TLS; one that must change its files copies them."""
    return TlsFiles(tmp_path_factory.mktemp("tls"))
