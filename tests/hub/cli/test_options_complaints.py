"""What the commands answer to mistakes and obstacles: a helpful line, at once or after a second, and no traceback."""

from __future__ import annotations

import functools
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hub.cli import cli, main
from tests.support import MPSR, PATIENCE_S, HubProcess, Running, mpsr
from tests.users import ALICE, NEEDS_ROOT, as_user, open_folder

HOMELESS = """
import os, pwd
os.geteuid = os.getuid = lambda: 54399
def getpwuid(uid): raise KeyError(uid)
pwd.getpwuid = getpwuid
from hub.cli import main; main()
"""
"""`mpsr` as a user without a home folder: neither HOME nor an entry in passwd."""
WAITING = r"waiting 1.2 s for the hub: no hub at {0}/s \(is one running\? is --socket right\?\)"
SHELL = set("<>|$")
"""A line with one of them is the shell's; the others need only words."""
NO_DEFAULT = "there is no default, because this user has no home folder"

CASES: list[tuple[str, int, list[str]]] = [
    ("mpsr send --timeout 1.2 x", 1, [WAITING, r"1 message is not acknowledged \(no hub at {0}/s\)"]),
    ("mpsr send --timeout 0.2 --spool x", 1, [r"1 message is not acknowledged \(no hub at .*, and there is no spool"]),
    ("mpsr send --timeout 0.2 --socket {0}/file x", 1, [r"1 message is not acknowledged \({0}/file is not a socket\)"]),
    ("mpsr send <&-", 2, ["standard input is closed: give a MESSAGE"]),
    ("mpsr send -F x y", 2, [r"-F 'x': write it as KEY=VALUE \(see `mpsr send --help`\)"]),
    ("mpsr stats", 1, [r"no hub at {0}/s \(is one running\? is --socket right\?\)"]),
    ("mpsr stats --socket {0}/file", 1, ["{0}/file is not a socket"]),
    ("mpsr call ping --socket {0}", 1, ["{0} is not a socket"]),
    ("mpsr call ping {{", 2, ["the parameters are not JSON: "]),
    ("mpsr call ping 5", 2, ["the parameters must be a JSON array or object"]),
    ("mpsr call ping $(printf '[%.0s' $(seq 9999))", 2, ["the parameters are nested too deeply|.* not JSON"]),
    ("mpsr call ping $(printf '[%.0s' $(seq 600))$(printf ']%.0s' $(seq 600))", 1, ["no hub at {0}/s"]),
    (r"""mpsr call ping '["\ud800"]'""", 2, ["JSON cannot hold this request: "]),
    (r"""mpsr call tail '["\ud800"]'""", 2, ["JSON cannot hold this request: "]),
    ("mpsr logs --grep '[a--b]'", 2, [r"--grep '\[a--b\]': bad character range"]),
    ("mpsr logs", 1, [r"journal {0}/j: there is no journal here \(is --journal right"]),
    ("mpsr logs -n x", 2, [r"Invalid value for '-n' .*: not a whole number: 'x' \(0 to \d+\) \(see `mpsr logs "]),
    ("mpsr logs -n -1", 2, [r"Invalid value for '-n' .*: not a whole number: '-1'"]),
    ("mpsr logs --pid x", 2, [r"Invalid value for '--pid': not a whole number: 'x' \(0 or more\)"]),
    ("mpsr send --timeout 0.2 x", 1, [r"1 message .*no hub at {0}/s \(is one running\? is --socket right\?\)\)"]),
    ("mpsr send --timeout 1000 --spool x", 1, [r"1 message is not acknowledged \(no hub at .*, and there is no spool"]),
    ("mpsr send --timeout x y", 2, [".*: not a number of seconds: 'x' .0 to 1000000, or like 90s, 10m"]),
    ("mpsr send --socket '' x", 2, [r"Invalid value for '--socket': the path is empty \(leave the option out"]),
    ("mpsr logs --journal ''", 2, ["Invalid value for '--journal': the path is empty"]),
    ("mpsr config --config ''", 2, ["Invalid value for '--config': the path is empty"]),
    ("mpsr hub --journal ''", 2, ["--journal: journal = \"\": not an absolute path: ''"]),
    ("mpsr hub --journal-age 0s", 2, [r"--journal-age: journal_age = \"0s\": '0s' is too short \(at least 1s; "]),
    ("mpsr send -F message=x y", 2, ["-F message=: the text is the field `message`; give it as MESSAGE"]),
    ("echo y | mpsr send -F message=x", 2, ["-F message=: the text is the field `message`; give it as MESSAGE"]),
    ("mpsr send -F a=1 -F a=2 x", 2, ["the field 'a' is given twice"]),
    ("mpsr send -F level=x -p err y", 2, ["the field 'level' is given twice"]),
    ("mpsr send -p bogus x", 2, [r"-p: no level 'bogus' \(LEVEL or FACILITY.LEVEL; there are trace, debug, "]),
    ("mpsr send -p local9.err x", 2, ["-p: no level 'local9.err'"]),
    ("mpsr logs -p err..warning", 2, [r"no level 'err..warning' \(one level: it and all worse ones are shown; "]),
    ("mpsr logs -f --until 1h", 2, ["-f does not end, so --until cannot be used with it"]),
    ("mpsr logs -f --count", 2, ["-f does not end, so --count cannot be used with it"]),
    ("mpsr logs -v", 2, ["-v needs --grep"]),
    ("mpsr logs -n +2", 2, [r".*: '\+2' would mean from that line on, as in tail"]),
    ("mpsr logs --uid nobody-here", 2, [r".*: no such user: 'nobody-here' \(a name or a number\)"]),
    ("mpsr logs --since 1700000000", 2, [".*seconds since the epoch are @1700000000"]),
    ("mpsr logs -o verbose", 2, [".*'verbose' is not one of 'pretty', 'json', 'text'"]),
    ("mpsr install --user --system --print", 2, ["choose one of --user and --system"]),
    ("mpsr hub --check --journal /proc/x", 1, ["journal /proc/x: /proc is in a file system of the kernel"]),
    ("mpsr hub --check --socket /sys/x", 1, ["cannot listen on /sys/x: /sys is in a file system of the kernel"]),
    ("MPSR_JOURNALSIZE=1GiB mpsr hub --check", 0, [r"MPSR_JOURNALSIZE is no .* \(did you mean MPSR_JOURNAL_SIZE\?\)"]),
    ("MPSR_JOURNALSIZE= MPSR_TAG=x MPSR_ZEBRA=1 mpsr hub --check", 0, []),
    ("mpsr completion", 2, [r"Missing argument '\{{bash\|zsh\|fish\}}'. Choose from: bash, zsh, fish "]),
    ("mpsr logz", 2, [r"No such command 'logz'. Did you mean 'logs'\? \(see `mpsr --help`\)"]),
    ("mpsr logs --folow", 2, [r"No such option '--folow'.*'--follow'"]),
    ("mpsr bench --folder {0}/absent", 2, ["Invalid value for '--folder': Directory '{0}/absent' does not exist"]),
    ("mpsr bench --seconds 0", 2, ["Invalid value for '--seconds': a measurement takes more than 0 seconds"]),
    (
        "mpsr bench --client logging --pattern ping",
        2,
        ["--client logging is for --pattern load; leave out one of them"],
    ),
    ("mpsr bench --kill 2", 2, ["--kill is for --client producer or async, and for --seconds, not --messages"]),
    ("mpsr bench --kill 2 --client async --messages 9", 2, ["--kill is for --client producer or async, and for"]),
    ("mpsr bench --folder {0}/file", 2, ["Invalid value for '--folder': Directory '{0}/file' is a file"]),
    ("mpsr hub --socket {0}/file --journal {0}/j", 1, ["cannot listen on {0}/file: a file is already there"]),
    ("mpsr config >/dev/full", 1, ["standard output: No space left on device"]),
    ("mpsr --help >/dev/full", 1, ["standard output: No space left on device"]),
    ("mpsr demo >/dev/full", 1, ["standard output: No space left on device"]),
    ("mpsr demo | head -n 2 >/dev/null", 0, []),
    ("mpsr config --example | head -n 1 >/dev/null", 0, []),
    ("homeless send x", 2, [rf"--socket: {NO_DEFAULT} \(give --socket, or set MPSR_SOCKET\)"]),
    ("homeless stats", 2, [f"--socket: {NO_DEFAULT}"]),
    ("homeless logs", 2, [rf"--journal: {NO_DEFAULT} \(give --journal, or set MPSR_JOURNAL\)"]),
    ("homeless verify", 2, [f"--journal: {NO_DEFAULT}"]),
    ("homeless hub --check", 2, [f"--socket: {NO_DEFAULT}"]),
    ("homeless hub --check --socket {0}/s", 2, [f"--journal: {NO_DEFAULT}"]),
    ("homeless hub --check --socket {0}/s --journal {0}/j", 0, []),
    ("homeless hub --check --socket /nonexistent/s --journal /nonexistent/j", 0, []),
]  # fmt: skip


@pytest.mark.parametrize(("line", "code", "says"), CASES, ids=[line for line, _, _ in CASES])
def test_a_mistake_or_an_obstacle_is_one_helpful_line(
    line: str, code: int, says: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands say what is wrong, leave with the right code, and make nothing."""
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    places = {"MPSR_SOCKET": f"{tmp_path}/s", "MPSR_JOURNAL": f"{tmp_path}/j", "XDG_CONFIG_HOME": str(tmp_path)}
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("MPSR_", "XDG_", "HOME"))}
    if "homeless" not in line:
        environ |= places
    command = line.format(tmp_path)
    if command.startswith("mpsr ") and not SHELL & set(line):
        done = mpsr(*shlex.split(command)[1:], env=environ)
    else:
        functions = f'mpsr() {{ "$PYTHON" -c "{MPSR[2]}" "$@"; }}; homeless() {{ "$PYTHON" -c "$HOMELESS" "$@"; }}; '
        done = subprocess.run(
            ["bash", "-c", "set -o pipefail; " + functions + command],
            env={**environ, "PYTHON": sys.executable, "HOMELESS": HOMELESS},
            capture_output=True,
            check=False,
            timeout=PATIENCE_S,
        )
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, len(lines)) == (code, len(says)), done.stderr
    for said, expected in zip(lines, says, strict=True):
        assert re.match("mpsr: " + expected.format(re.escape(str(tmp_path))), said), said
    assert os.listdir(tmp_path) == ["file"]


def test_a_sender_that_is_refused(tmp_path: Path) -> None:
    """After a second, one line says what closed connections may mean."""
    with HubProcess(tmp_path, "--send-deny", f"uid:{os.getuid()}") as hub:
        done = mpsr("send", "--socket", hub.socket, "--timeout", "1.2", "x")
    waiting, failed = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert waiting.startswith(f"mpsr: waiting for the hub: {hub.socket}: the hub closed the connection (does it refuse")
    assert failed.startswith("mpsr: 1 message is not acknowledged (")


def test_an_interrupt_of_send(tmp_path: Path) -> None:
    """Ctrl-C while `send` waits for a hub: one line with the number of messages, exit code 130."""
    with Running("send", "--socket", str(tmp_path / "s"), "one", "two", stderr=subprocess.PIPE) as sending:
        assert b"waiting 10 s for the hub" in sending.stderr.readline()
        sending.send_signal(signal.SIGINT)
        assert sending.stderr.read() == b"mpsr: 2 messages are not acknowledged (interrupted)\n"
    assert sending.returncode == 130


def test_a_follower_without_a_journal(tmp_path: Path) -> None:
    """After a second, `logs -f` says what it waits for."""
    with Running("logs", "-f", "--journal", str(tmp_path / "j"), stderr=subprocess.PIPE) as following:
        waiting = f"mpsr: journal {tmp_path / 'j'}: there is none yet; waiting for a hub (is --journal right?)\n"
        assert following.stderr.readline() == waiting.encode()
        following.send_signal(signal.SIGINT)
        assert following.stderr.read() == b""
    assert following.returncode == 0


@pytest.mark.parametrize("command", cli.list_commands(click.Context(cli)))
def test_help_shows_no_ranges(command: str) -> None:
    """Limits of numbers are in the error message; in the help they would hide the rest."""
    assert not re.search(r"x ?<=|<= ?x|x ?>=", mpsr(command, "--help").stdout.decode())


def test_send_with_a_spool(tmp_path: Path) -> None:
    """`send --spool` leaves messages for a hub that starts later, and does not wait for it; they arrive once."""
    with HubProcess(tmp_path) as hub:
        assert mpsr("send", "--socket", hub.socket, "--spool", "first").returncode == 0
        assert [message.record["message"] for message in hub.messages("send")] == ["first"]
        assert os.listdir(f"{hub.socket}.spool") == []
        hub.stop()
        done = mpsr("send", "--socket", hub.socket, "--spool", "--timeout", "1000", "second", "third")
        assert (done.returncode, done.stderr) == (0, b"")
        assert mpsr("send", "--socket", hub.socket, "--timeout", "0.1", "lost").returncode == 1
        hub.start()
        mpsr("send", "--socket", hub.socket, "last")
        sent = [message.record["message"] for message in hub.messages("send")]
        assert sent == ["first", "second", "third", "last"]


@NEEDS_ROOT
def test_a_socket_that_may_not_be_opened(capfd: pytest.CaptureFixture[str]) -> None:
    """Without permission, `send` does not wait, and `send` and `stats` name the group."""
    with open_folder() as folder, socket.socket(socket.AF_UNIX) as sock:
        path = str(folder / "s")
        sock.bind(path)
        os.chmod(path, 0o600)
        sock.listen()
        for name in ("send", "stats"):
            command_of(name)  # another user may not be able to load it
            args = [name, "--socket", path, *(["--timeout", "1000", "x"] if name == "send" else [])]
            assert as_user(ALICE, functools.partial(exit_code, args)) == "1"
            (said,) = capfd.readouterr().err.splitlines()
            assert f"{path}: Permission denied (are you in the group of the socket? see the key group" in said


def command_of(name: str) -> click.Command | None:
    return cli.get_command(click.Context(cli), name)


def exit_code(args: list[str]) -> object:
    """Return the exit code of `mpsr` with *args*."""
    with pytest.raises(SystemExit) as ended:
        main(args)
    return ended.value.code


def test_a_hub_that_does_not_answer(tmp_path: Path) -> None:
    """A hub that is there and does not acknowledge is one line with what to look at, or that there was no time."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        for timeout, remedy in (("1.2", "is its disk full? see its log"), ("0", "allow more with --timeout")):
            done = mpsr("send", "--socket", str(tmp_path / "s"), "--timeout", timeout, "x")
            reason = f"the hub did not answer within {timeout} s; {remedy}"
            assert (done.returncode, done.stderr.decode()) == (1, f"mpsr: 1 message is not acknowledged ({reason})\n")
