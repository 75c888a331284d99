"""Procfiles, files of variables and a dry run, as a user of honcho types them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import MPSR, PATIENCE_S, HubProcess, mpsr
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


HABITS = [
    ("wbe", 127, "command not found: 'wbe' (the Procfile has web, worker, true). Did you mean 'web'?"),
    ("start", 127, "command not found: 'start': write `mpsr spawn`"),
    ("start web", 127, "command not found: 'start': write `mpsr spawn web`"),
    ("run env", 127, "command not found: 'run': write `mpsr spawn -e .env -- env`"),
    ("check", 127, "command not found: 'check': `mpsr spawn --dry-run` checks the Procfile"),
    ("export upstart .", 127, "command not found: 'export': `mpsr spawn --dry-run` checks the Procfile"),
    ("-- wbe", 127, "command not found: 'wbe'\n"),
    ("-- start", 127, "command not found: 'start'\n"),
    ("web wroker", 2, "'wroker' is not in the Procfile (there are: web, worker, true). Did you mean 'worker'?"),
    ("web=x", 2, "'web=x': the part after = must be a number, as in web=2"),
    ("web:2", 2, "'web:2': write web=2"),
    ("web,worker", 2, "'web,worker': write web worker, with spaces"),
    ("-c web=2", 2, "No such option '-c': the number is part of the name: `mpsr spawn web=2`"),
    ("-m all=1", 2, "No such option '-m': the number is part of the name"),
    ("--concurrency web=2", 2, "No such option '--concurrency': the number is part of the name"),
    ("--formation=web=2", 2, "No such option '--formation': the number is part of the name"),
    ("-t 5", 2, "No such option '-t': --stop-timeout S"),
    ("-d folder", 2, "No such option '-d': -f DIR/Procfile runs"),
    ("--no-prefix", 2, "No such option '--no-prefix': `mpsr spawn -q`"),
    ("--timestamps", 2, "No such option '--timestamps': the time is always shown"),
    ("--qiet", 2, "No such option '--qiet'. Did you mean '--quiet'?"),
    ("sh -c x", 2, "No such option '-c': a command with options follows `--`, as in `mpsr spawn -- sh -c x`"),
]


@pytest.mark.parametrize(("words", "code", "said"), HABITS, ids=[words for words, _, _ in HABITS])
def test_habits_of_other_supervisors(in_folder: Path, words: str, code: int, said: str) -> None:
    """What is typed to honcho and foreman, or mistyped, is answered with what to write."""
    if any(shutil.which(word) for word in words.split()[:1] if word in ("start", "check", "run", "export")):
        pytest.skip("this machine has such a command")
    (in_folder / ".env").touch()
    done = mpsr("spawn", *words.split())
    assert (done.returncode, done.stdout) == (code, b"")
    assert done.stderr.decode().startswith(f"mpsr: {said}")


def test_a_folder_without_a_procfile(in_folder: Path) -> None:
    """An entry that is started there is answered so."""
    (in_folder / "Procfile").unlink()
    for args, code in [(["web"], 127), (["web=2"], 2), ([], 2)]:
        done = mpsr("spawn", *args)
        assert (done.returncode, b"this folder has no Procfile" in done.stderr) == (code, True), done.stderr


def test_a_procfile_on_standard_input(hub: HubProcess, in_folder: Path) -> None:
    """`-f -` reads it; the current folder and its .env apply. Standard input cannot go to a child as well."""
    (in_folder / ".env").write_text("PORT=6000\n")
    assert (
        run(hub, "-f", "-", "--any-exit", "ignore", "x=2", stdin=b"x: echo $PORT in $(basename $PWD)\n").returncode == 0
    )
    assert said(hub) == [f"{port} in {in_folder.name}" for port in (6000, 6001)]
    done = run(hub, "-f", "-", "--stdin", "x", stdin=b"x: cat\n")
    assert (done.returncode, b"--stdin cannot be used with -f -" in done.stderr) == (2, True)
    assert b"mpsr: standard input: line 1: 'x'" in run(hub, "-f", "-", stdin=b"x\n").stderr


@pytest.mark.parametrize(
    ("variable", "file", "args", "said"),
    [
        ("", "", ["-p", "65336"], "true.1: its PORT would be 65536, but the highest is 65535"),
        ("", "", ["-p", "65500"], "worker.1: its PORT would be 65600, but the highest is 65535"),
        ("", "", ["-p", "65436", "web=101"], "web.101: its PORT would be 65536"),
        ("", "", ["-p", "65534", "-n", "3", "--", "echo"], "echo.3: its PORT would be 65536"),
        ("abc", "", [], "the environment: PORT='abc' (write a number from 1 to 65535)"),
        ("0", "", [], "the environment: PORT='0' (write a number"),
        ("80", "PORT=70000", [], "{0}/.env: PORT='70000' (write a number"),
    ],
)
def test_a_port_that_cannot_be(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, file: str, args: list[str], said: str
) -> None:
    """A PORT that is no port is an error that names its origin; a child's that would be none names the child."""
    monkeypatch.setenv("PORT", variable)
    (in_folder / ".env").write_text(file)
    done = mpsr("spawn", "--dry-run", *args)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().startswith("mpsr: " + said.format(in_folder))


@pytest.mark.parametrize(
    ("variable", "file", "args", "first"),
    [
        ("", "", ["-p", "65335"], "web.1    | PORT=65335 "),
        ("", "", ["-p", "65535", "web"], "web.1 | PORT=65535 "),
        ("abc", "PORT=80", [], "web.1    | PORT=80 "),
        ("abc", "", ["-p", "80"], "web.1    | PORT=80 "),
        ("80", "PORT=", [], "web.1    | PORT=5000 "),
        ("abc", "", ["--", "echo", "x"], "echo.1 | PORT=abc echo x"),
    ],
)
def test_a_port_that_counts(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, file: str, args: list[str], first: str
) -> None:
    """Only the PORT that applies is checked: of --port, the file, or the environment; for a command none."""
    monkeypatch.setenv("PORT", variable)
    (in_folder / ".env").write_text(file)
    done = mpsr("spawn", "--dry-run", *args)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().startswith(first)


def complete(words: str) -> list[str]:
    """Return what the shell offers after *words*, each with its type."""
    env = {
        **os.environ, "_MPSR_COMPLETE": "bash_complete",
        "COMP_WORDS": f"mpsr spawn {words}", "COMP_CWORD": str(len(f"x spawn {words}x".split()) - 1),
    }  # fmt: skip
    done = subprocess.run(MPSR, env=env, capture_output=True, timeout=PATIENCE_S, check=True)
    return [line for line in done.stdout.decode().splitlines() if line]


def test_names_are_completed(in_folder: Path) -> None:
    """Entries of the Procfile that applies are completed, and those for --stdin; of a command, files."""
    (in_folder / "other").write_text("x: y\n")
    names = ["plain,web", "plain,worker", "plain,true"]
    assert complete("") == complete("web ") == complete("--stdin ") == names
    assert complete("w") == complete("--stdin w") == names[:2]
    assert complete("-f other ") == complete("-f other --stdin ") == ["plain,x"]
    assert complete("-- w") == ["file,w"]
    assert complete("./w") == ["file,./w"]
    (in_folder / "Procfile").write_text("x\n")
    assert (complete("w"), complete("--stdin w"), complete("-f - --stdin w")) == (["file,w"], [], [])


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
