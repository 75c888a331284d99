"""Procfiles, files of variables and a dry run, as a user of honcho types them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import HubProcess, mpsr
from tests.system.test_spawn import run, texts

PROCFILE = "web: echo web $PORT $NAME\nworker: echo worker $PORT\ntrue: echo entry\n"


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a Procfile, which is the current one."""
    (tmp_path / "Procfile").write_text(PROCFILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PORT", raising=False)
    return tmp_path


def said(hub: HubProcess) -> list[str]:
    return sorted(text for text in texts(hub.messages()) if not text.startswith("process."))


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["web"], ["web 5000"]),
        (["worker", "--port", "80"], ["worker 180"]),
        (["-p", "80", "--any-exit", "ignore", "web=2", "worker"], ["web 80", "web 81", "worker 180"]),
        (["true"], ["entry"]),
        (["--", "true"], []),
        (["-f", "other"], ["other 5000"]),
        (["-f", "other", "-e", "a.env,b.env"], ["other 7000"]),
        (["-p", "90", "-n", "2", "--", "sh", "-c", "echo $PORT"], ["90", "91"]),
    ],
)
def test_what_is_started(hub: HubProcess, in_folder: Path, args: list[str], expected: list[str]) -> None:
    """Names next to a Procfile are its entries; after `--` there is a command; options are as in honcho."""
    (in_folder / "other").write_text("x: echo other $PORT\n")
    (in_folder / "a.env").write_text("PORT=6000\n")
    (in_folder / "b.env").write_text("export PORT='7000'\n")
    done = run(hub, *args)
    assert (done.returncode, said(hub)) == (0, expected), done.stderr


def test_a_name_that_is_not_there(hub: HubProcess, in_folder: Path) -> None:
    """A wrong name is an error that lists the right ones; without a Procfile there is nothing to run."""
    for args, code in [(["wbe"], 127), (["web", "wroker"], 2)]:
        done = run(hub, *args)
        assert (done.returncode, b"web, worker, true" in done.stderr) == (code, True), done.stderr
    (in_folder / "Procfile").unlink()
    assert b"this folder has no Procfile" in run(hub, "web=2").stderr


def test_variables_of_several_lines(hub: HubProcess, in_folder: Path) -> None:
    """A byte order mark, `export`, quotes and values of several lines work; a fault is an error with file and line."""
    (in_folder / ".env").write_text("\ufeffexport A=1\r\nNAME='one\n two' # it\nPORT=700\n")
    assert run(hub, "web").returncode == 0
    assert said(hub) == ["web 700 one two"]
    for text, line in [
        ("A=1\nB='x\n", b".env: line 2: the quote is not closed"),
        ("A=\0", b".env: line 1: there is a NUL"),
    ]:
        (in_folder / ".env").write_text(text)
        done = run(hub, "web")
        assert (done.returncode, line in done.stderr) == (2, True), done.stderr


def test_a_dry_run_prints_and_starts_nothing(hub: HubProcess, in_folder: Path) -> None:
    """Names, PORTs and commands are printed, the hub with --hub too; a wrong name is found."""
    done = run(hub, "--dry-run", "web=2", "worker")
    assert (done.returncode, done.stdout.decode().splitlines()) == (
        0,
        [
            "web.1    | PORT=5000 echo web $PORT $NAME",
            "web.2    | PORT=5001 echo web $PORT $NAME",
            "worker.1 | PORT=5100 echo worker $PORT",
        ],
    )
    assert mpsr("spawn", "--dry-run", "--tag", "w", "--", "echo", "a b").stdout == b"w.1 | echo 'a b'\n"
    assert mpsr("spawn", "--dry-run", "--hub", "web").stdout.startswith(b"hub   | ")
    assert run(hub, "--dry-run", "nothing").returncode == 127
    assert hub.messages() == []
