"""Traffic split by weights, by a request's own dtab, by a header, and by fallback."""

from __future__ import annotations

from pathlib import Path

from tests.wire.counting import CountingEndpoint
from tests.wire.harness import Hostmesh, replace_file
from tests.wire.load import Call, Load, Outcome, by_endpoint, failed
from tests.wire.scenarios.world import HEAD, Figures, World, agree

SPLIT = "/svc/web => {a} * /#/io.l5d.fs/v1 & {b} * /#/io.l5d.fs/v2"

IN_FILE = (
    HEAD
    + """\
routers:
- protocol: http
  interpreter:
    kind: io.l5d.fs
    dtabFile: @dir@/split.dtab
  servers:
  - port: @port@
    ip: 127.0.0.1
"""
)

IN_CONFIG = (
    HEAD
    + """\
routers:
- protocol: http
  dtab: "DTAB"
  servers:
  - port: @port@
    ip: 127.0.0.1
"""
)


def split(folder: Path, *, requests: int, through: str) -> Figures:
    """9:1, edited to 5:5 and back to 9:1 under load; ``requests`` are counted in each of the three phases.

    ``through`` is "file" for the dtab file of ``io.l5d.fs`` or "config" for the configuration itself.
    """
    with World(folder) as world:
        v1, v2 = world.endpoint("v1"), world.endpoint("v2")

        def write(mesh: Hostmesh, a: int, b: int) -> None:
            text = SPLIT.format(a=a, b=b)
            if through == "file":
                replace_file(folder / "split.dtab", text + ";\n")
            else:
                mesh.write_config(IN_CONFIG.replace("DTAB", text))

        def edit(mesh: Hostmesh, load: Load, a: int, b: int) -> None:
            """Edit, and wait until hostmesh says that it has read it."""
            word = '"interpreter.dtab"' if through == "file" else '"reloaded"'
            before = mesh.log().count(word)
            write(mesh, a, b)
            mesh.wait(lambda: mesh.log().count(word) > before, "the edit is read")
            # What was on its way has been drawn from the old weights.
            load.more(2 * load.connections)

        def phase(load: Load) -> tuple[int, int]:
            counted = load.more(requests)[:requests]
            names = by_endpoint(counted)
            assert failed(counted) == []
            assert set(names) <= {"v1", "v2"}
            return names["v1"], names["v2"]

        if through == "file":
            replace_file(folder / "split.dtab", SPLIT.format(a=9, b=1) + ";\n")
            mesh = world.serve(IN_FILE, v1=[v1], v2=[v2])
        else:
            text = IN_CONFIG.replace("DTAB", SPLIT.format(a=9, b=1))
            mesh = world.serve(text, v1=[v1], v2=[v2])
        load = world.load(mesh.port, Call(), connections=8)
        phases = {"9:1": phase(load)}
        edit(mesh, load, 5, 5)
        phases["5:5"] = phase(load)
        edit(mesh, load, 9, 1)
        phases["9:1 again"] = phase(load)
        outcomes = load.stop()

        assert failed(outcomes) == []
        agree([v1, v2], outcomes)
        shares = {name: b / (a + b) for name, (a, b) in phases.items()}
        # Five standard deviations of a binomial; at 20,000 requests that is 1 % of 10 %.
        wide = 5 * (0.1 * 0.9 / requests) ** 0.5
        assert abs(shares["9:1"] - 0.1) < min(wide, 0.1), shares
        assert abs(shares["9:1 again"] - 0.1) < min(wide, 0.1), shares
        assert abs(shares["5:5"] - 0.5) < 5 * 0.5 / requests**0.5, shares
        return {
            "through": through,
            "requests": len(outcomes),
            "failed": 0,
            "v1, v2": phases,
            "share of v2": {name: f"{share:.2%}" for name, share in shares.items()},
        }


VERSIONS = (
    HEAD
    + """\
routers:
- protocol: http
  label: override
  dtab: |
    /svc => /#/io.l5d.fs;
  servers:
  - port: @port@
    ip: 127.0.0.1
- protocol: http
  label: by-header
  identifier:
    kind: io.l5d.header
    header: x-version
  dtab: |
    /svc => /#/io.l5d.fs;
  servers:
  - port: @header@
    ip: 127.0.0.1
- protocol: http
  label: fallback
  dtab: |
    /svc/* => /#/io.l5d.fs/missing | /#/io.l5d.fs/empty | /#/io.l5d.fs/web;
  servers:
  - port: @fallback@
    ip: 127.0.0.1
"""
)


def one_caller_to_v2(folder: Path, *, requests: int) -> Figures:
    """``l5d-dtab`` moves the caller that sends it and nobody else, while both send at once."""
    with World(folder) as world:
        web, v2, mesh = _versions(world)
        ours = Call(fields=(("l5d-dtab", "/svc/web => /#/io.l5d.fs/v2"),))
        tester = world.load(mesh.port, ours, connections=2, total=requests, prefix="t")
        others = world.load(mesh.port, Call(), connections=2, total=requests, prefix="o")
        tested, rest = tester.finish(), others.finish()
        assert by_endpoint(tested) == {"v2": requests}
        assert by_endpoint(rest) == {"web": requests}
        agree([web, v2], tested + rest)
        return {"with l5d-dtab": dict(by_endpoint(tested)), "without": dict(by_endpoint(rest))}


def header_splits(folder: Path, *, requests: int) -> Figures:
    """The header identifier sends A to one version and B to the other."""

    def call(n: int) -> Call:
        return Call(fields=(("x-version", "/v2" if n % 3 == 0 else "/web"),))

    with World(folder) as world:
        web, v2, mesh = _versions(world)
        outcomes = world.load(mesh.ports["header"], call, connections=4, total=requests).finish()
        wrong = [o.id for o in outcomes if o.endpoint != ("v2" if int(o.id) % 3 == 0 else "web")]
        assert wrong == []
        agree([web, v2], outcomes)
        return dict(by_endpoint(outcomes))


def fallback(folder: Path, *, requests: int) -> Figures:
    """``|`` passes by what does not exist; as soon as it exists it is taken, without a failed request."""
    with World(folder) as world:
        web, v2, mesh = _versions(world)
        load = world.load(mesh.ports["fallback"], Call(), connections=4)
        first = load.more(requests)
        mesh.set_endpoints("missing", [v2.line])
        load.wait(lambda: load.outcomes[-1].endpoint == "v2", "the first alternative is taken")
        load.more(2 * load.connections)
        second: list[Outcome] = load.more(requests)
        (mesh.disco / "missing").unlink()
        load.wait(lambda: load.outcomes[-1].endpoint == "web", "the last alternative is taken again")
        load.more(2 * load.connections)
        third = load.more(requests)
        outcomes = load.stop()
        assert failed(outcomes) == []
        assert set(by_endpoint(first)) == {"web"}
        assert set(by_endpoint(second)) == {"v2"}
        assert set(by_endpoint(third)) == {"web"}
        agree([web, v2], outcomes)
        return {"requests": len(outcomes), "failed": 0, **by_endpoint(outcomes)}


def _versions(world: World) -> tuple[CountingEndpoint, CountingEndpoint, Hostmesh]:
    web, v2 = world.endpoint("web"), world.endpoint("v2")
    return web, v2, world.serve(VERSIONS, web=[web], v2=[v2])
