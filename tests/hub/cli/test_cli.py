"""Several commands, as a user runs them: help, usage errors, output that cannot be written, terminals."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from hub.cli import cli
from tests.producers.fakehub import FakeHub
from tests.support import MPSR, HubProcess, Running, mpsr

pytestmark = pytest.mark.timeout(100, method="signal")  # one that hangs fails, and the run goes on


@pytest.mark.parametrize("command", ["", *cli.list_commands(click.Context(cli))])
def test_every_command_explains_itself(command: str) -> None:
    """`--help` describes the command and shows an example."""
    done = mpsr(*filter(None, (command, "--help")))
    assert done.returncode == 0
    assert b"Usage: mpsr" in done.stdout
    assert b"  Example" in done.stdout


@pytest.mark.parametrize(
    "args",
    [
        ("send", "--timeout", "nan", "x"),
        ("send", "--timeout", "inf", "x"),
        ("logs", "-n", "99999999999999999999"),
        ("logs", "--since", "0001-01-01"),
        ("bench", "--seconds", "nan"),
    ],
)
def test_odd_numbers_are_usage_errors(args: tuple[str, ...]) -> None:
    """Invalid numbers are refused with a correct range, without a traceback."""
    done = mpsr(*args)
    assert (done.returncode, b"Traceback" in done.stderr, done.stderr.startswith(b"mpsr: Invalid value for")) == (
        2,
        False,
        True,
    )


def test_output_that_cannot_be_written_is_one_line(hub: HubProcess) -> None:
    """A full device under standard output is an error of one line; a closed one is none."""
    mpsr("send", "--socket", hub.socket, "x")
    for command, code in (
        (["logs", "--journal", hub.journal], 1),
        (["stats", "--socket", hub.socket], 1),
    ):
        with open("/dev/full", "wb") as full, Running(*command, stdout=full, stderr=subprocess.PIPE) as running:
            _, errors = running.communicate()
        assert (running.wait(), errors.count(b"\n"), b"Traceback" in errors) == (code, 1, False)
        closed = ["sh", "-c", 'exec "$@" >&-', "sh", *MPSR, *command]
        done = subprocess.run(closed, stderr=subprocess.PIPE, check=False, timeout=30)
        assert (done.returncode, done.stderr) == (0, b"")


STEERING = "\x1b[2J\r\x9b1m\u202e\u200b\u2028"


@contextlib.contextmanager
def answering(path: str, **reply: Any) -> Iterator[None]:
    """Answer one request at *path* with *reply*, unescaped, as a fake hub."""
    with FakeHub(path) as fake:

        def answer() -> None:
            with contextlib.closing(fake.accept()) as connection:
                connection.peek()
                line = json.dumps({"jsonrpc": "2.0", "id": 1, **reply}, ensure_ascii=False) + "\n"
                connection.sock.sendall(line.encode())

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join()
    os.unlink(path)


def printable(output: bytes) -> bool:
    """Return whether a terminal shows *output* and executes none of it."""
    return output.decode().replace("\n", "").isprintable()


def test_no_answer_steers_the_terminal(tmp_path: Path) -> None:
    """`call` and `stats` print any answer and its errors escaped, an error on one line."""
    path = str(tmp_path / "fake.sock")
    with answering(path, result={STEERING: STEERING}):
        done = mpsr("call", "--socket", path, "ping")
    assert (done.returncode, printable(done.stdout), json.loads(done.stdout)) == (0, True, {STEERING: STEERING})
    with answering(path, error={"code": 1, "message": f"{STEERING}\nmpsr: forged"}):
        done = mpsr("call", "--socket", path, "ping")
    assert (done.returncode, done.stderr.count(b"\n"), printable(done.stderr)) == (1, 1, True)
    assert b"\\x1b[2J" in done.stderr
    with answering(path, result={"uptime_s": 1, f"{STEERING}\nforged": STEERING}):
        done = mpsr("stats", "--socket", path)
    assert (done.returncode, done.stdout.count(b"\n"), printable(done.stdout)) == (0, 2, True)


def test_no_complaint_steers_the_terminal(tmp_path: Path) -> None:
    """`verify`, `send` and usage errors print folders, fields and arguments escaped."""
    done = mpsr("verify", "--journal", str(tmp_path / STEERING))
    assert (done.returncode, done.stderr.count(b"\n"), printable(done.stderr)) == (1, 1, True)
    done = mpsr("send", "--socket", str(tmp_path / STEERING), "-F", STEERING, "x")
    assert (done.returncode, printable(done.stderr)) == (2, True)
    assert b"\\x1b[2J" in done.stderr
    done = mpsr(STEERING)
    assert (done.returncode, printable(done.stderr)) == (2, True)
    assert b"\\x1b[2J" in done.stderr


@pytest.mark.parametrize("command", [("verify",), ("logs",), ("logs", "-f"), ("logs", "-n", "3"), ("logs", "-r")])
def test_a_folder_that_is_no_journal_is_an_error(command: tuple[str, ...], tmp_path: Path) -> None:
    """A folder with other files is reported at once, also by a follower; nothing is made in it."""
    (tmp_path / "hosts").touch()
    done = mpsr(*command, "--journal", str(tmp_path))
    reason = "this folder holds other files and no journal (is --journal right?)"
    assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", f"mpsr: journal {tmp_path}: {reason}\n")
    assert os.listdir(tmp_path) == ["hosts"]


def test_a_mistyped_command_is_answered_with_the_nearest() -> None:
    """Only if there is one that is near."""
    assert b"Did you mean 'logs'?" in mpsr("lgos").stderr
    assert b"Did you mean" not in mpsr("frobnicate").stderr


def test_python_runs_every_command() -> None:
    """`python -m hub` is the command line; without a command it runs a hub."""
    for args, words in ((("logs", "--help"), b"Usage: mpsr logs"), (("--help",), b"Usage: mpsr hub")):
        done = subprocess.run([sys.executable, "-m", "hub", *args], capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stdout[: len(words)]) == (0, words)
