"""The command line."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from hostmesh.cli import INTERRUPTED, MISTAKES, OK, USAGE, main

FINE = "routers:\n- protocol: http\n  servers:\n  - port: 4140\n"
BAD = "routers:\n- protocol: http\n  srevers: []\n  servers: [{port: nine}]\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        (tmp_path / "mesh.yaml").write_text(text)
        return "mesh.yaml"

    return write


@pytest.mark.parametrize("command", ["check", "-validate", "--validate"])
def test_check_of_a_good_file(write, capsys: pytest.CaptureFixture[str], command: str) -> None:  # type: ignore[no-untyped-def]
    """A good file exits with 0 and says what it contains, also as Linkerd spelt it."""
    code = main([command, write(FINE)])

    assert (code, capsys.readouterr().out) == (
        OK,
        "mesh.yaml: fine: routers http (http on 127.0.0.1:4140); namers none\n",
    )


def test_check_of_a_bad_file(write, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    """A bad file exits with 1, every mistake on its own line of standard error."""
    code = main(["check", write(BAD)])

    out, err = capsys.readouterr()
    assert (code, out) == (MISTAKES, "")
    assert err.splitlines() == [
        "mesh.yaml:3: routers[0].srevers: found the unknown key 'srevers', expected 'servers'",
        "mesh.yaml:4: routers[0].servers[0].port: found 'nine', expected a whole number from 0 to 65535",
        "mesh.yaml: 2 mistakes",
    ]


def test_check_shows_warnings_and_what_cannot_run(write, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    """Warnings and kinds of later versions are shown, and the file is fine."""
    code = main(["check", write(FINE.replace("4140", "'4140'") + "telemetry: [{kind: io.l5d.zipkin}]\n")])

    assert code == OK
    assert capsys.readouterr().err.splitlines() == [
        "mesh.yaml:4: routers[0].servers[0].port: found '4140' in quotes, taken for the number; "
        "expected it without quotes (warning)",
        "mesh.yaml:5: telemetry[0]: the telemeter io.l5d.zipkin cannot run yet: it arrives with tracing in a later "
        "version (checked; `hostmesh run` refuses it)",
    ]


def test_check_of_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A dash is standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(FINE.encode())))

    assert main(["check", "-"]) == OK
    assert capsys.readouterr().out.startswith("stdin: fine: ")


def test_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there exits with 2 and is named."""
    code = main(["check", str(tmp_path / "nowhere.yaml")])

    assert code == USAGE
    assert capsys.readouterr().err == (
        f"{tmp_path}/nowhere.yaml: cannot be read: No such file or directory\n"
    )


@pytest.mark.parametrize("command", [["run"], ["delegate", "/svc/web"]], ids=lambda command: command[0])
def test_commands_refuse_a_bad_file(write, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:  # type: ignore[no-untyped-def]
    """What would use a bad file prints the same report as check."""
    name, *rest = command

    code = main([name, write(BAD), *rest])

    assert code == MISTAKES
    assert capsys.readouterr().err.splitlines()[0] == (
        "mesh.yaml:3: routers[0].srevers: found the unknown key 'srevers', expected 'servers'"
    )


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a command with the code that shells expect, and no traceback."""

    def interrupted(_file: str) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr("hostmesh.config.load.read_file", interrupted)

    assert main(["check", "mesh.yaml"]) == INTERRUPTED


@pytest.mark.parametrize("arguments", [[], ["check"], ["fly"], ["check", "a", "b"], ["-validate"]])
def test_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command line exits with 2 and shows the usage."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert (caught.value.code, capsys.readouterr().err.startswith("usage: hostmesh")) == (USAGE, True)


def test_help_documents_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts can read in the help what the exit codes mean."""
    with pytest.raises(SystemExit) as caught:
        main(["check", "--help"])

    assert (caught.value.code, "exit codes:" in capsys.readouterr().out) == (OK, True)


def test_module_can_be_run(tmp_path: Path) -> None:
    """`python -m hostmesh` is the command."""
    file = tmp_path / "mesh.yaml"
    file.write_text(FINE)

    done = subprocess.run(
        [sys.executable, "-m", "hostmesh", "check", str(file)], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (OK, "")
