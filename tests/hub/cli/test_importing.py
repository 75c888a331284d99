"""`mpsr import` as a user runs it: output, exit codes, files that are none, kills in the middle."""

from __future__ import annotations

import gzip
import os
import random
import re
import shlex
import signal
import subprocess
from pathlib import Path

import click
import pytest

from hub.cli import importing
from hub.importing import formats
from hub.importing.contents import Contents
from hub.importing.importer import Importer
from producers import call
from tests.support import MPSR, PATIENCE_S, HubProcess, Running, eventually, mpsr
from tests.users import ALICE, MALLORY, NEEDS_ROOT, as_user, open_folder

pytestmark = pytest.mark.timeout(100, method="signal")


def stored(hub: HubProcess, tag: str | None = None) -> list[str]:
    return [message.record["message"] for message in hub.messages(tag)]


def test_files_and_what_is_none(hub: HubProcess, tmp_path: Path) -> None:
    """What cannot be read is named in a line each, the others are imported, and the exit code is 1."""
    (tmp_path / "a.log").write_bytes(b"one\ntwo")
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"three\n" * 3) + b"damage")
    (tmp_path / "c.xz").write_bytes(b"\xfd7zXZ\0...")
    (tmp_path / "empty").touch()
    paths = [str(tmp_path / name) for name in ("", "a.log", "none", "b.gz", "c.xz", "empty")]
    done = mpsr("import", "--socket", hub.socket, "--tag", "t", *paths)
    assert (done.returncode, done.stdout) == (1, b"5 messages imported, 25 bytes\n")
    assert [line.rpartition(": ")[2] if "gz" not in line else line for line in done.stderr.decode().splitlines()] == [
        "it is a folder (give the files in it)",
        "No such file or directory",
        f"mpsr: {paths[3]}: it is damaged: gzip: Error -3 while decompressing data: incorrect header check (all that "
        "precedes it was read); everything before that is imported",
        "xz -dc FILE | mpsr import -)",
    ]
    assert stored(hub, "t") == ["one", "two", "three", "three", "three"]
    done = mpsr("import", "--socket", hub.socket, paths[1], paths[1], "-", stdin=b"one\ntwo\nmore\n")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"2 messages imported, 6 bytes; 21 bytes were already there\n"


def test_standard_input_and_formats(hub: HubProcess, tmp_path: Path) -> None:
    """A pipe and a file are the same; the format is the tag, unless there is one; --parse decides."""
    line = b'{"level": "info", "time": "2024-01-01T00:00:00Z"}\n'
    assert mpsr("import", "--socket", hub.socket, "-", stdin=line).returncode == 0
    (message,) = hub.messages("json")
    assert (message.record, message.time, message.peer.uid) == ({"level": "info"}, 1704067200 * 10**9, os.getuid())
    (tmp_path / "a").write_bytes(b"x" + line)
    with (tmp_path / "a").open("rb") as file:
        command = [*MPSR, "import", "--socket", hub.socket, "--parse", "TEXT", "--tag", "t", "-"]
        subprocess.run(command, stdin=file, check=True, stdout=subprocess.DEVNULL)
    assert stored(hub, "t") == ["x" + line.decode().rstrip()]
    (tmp_path / "b").write_bytes(b"read by another\none\n")
    script = f"(read line; {shlex.join(MPSR)} import --socket {hub.socket} --tag rest -) <{tmp_path}/b"
    subprocess.run(script, shell=True, check=True, stdout=subprocess.DEVNULL)
    assert stored(hub, "rest") == ["one"]
    for tag, why in (("", b"the tag is empty"), ("x" * 5000, b"5000 bytes, 4096 at most")):
        wrong = mpsr("import", "--socket", hub.socket, "--tag", tag, "-")
        assert (wrong.returncode, why in wrong.stderr) == (2, True)
    assert mpsr("import").returncode == 2


def test_the_formats_are_those_of_the_package() -> None:
    """They stand once more in the command, so that its help needs no import."""
    assert set(importing.FORMATS) == set(formats.FORMATS)


def test_without_a_hub(tmp_path: Path) -> None:
    """It is an error at once, once for all files."""
    (tmp_path / "a.log").write_bytes(b"one\n")
    done = mpsr("import", "--socket", str(tmp_path / "s"), str(tmp_path / "a.log"), str(tmp_path / "a.log"))
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert b"no hub at" in done.stderr


def test_progress_on_a_terminal(hub: HubProcess, tmp_path: Path) -> None:
    """There it shows the file, the share, the bytes and the rate, and leaves the line empty."""
    (tmp_path / "a.log").write_bytes(b"x" * 99 + b"\n" + b"y\n" * 500_000)
    ours, theirs = os.openpty()
    done = subprocess.run(
        [*MPSR, "import", "--socket", hub.socket, str(tmp_path / "a.log")],
        stderr=theirs, stdout=subprocess.PIPE, timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.stdout == b"500001 messages imported, 976.7 KiB\n"
    assert re.search(r"a\.log: \d+ %, [0-9.]+ KiB of 976\.7 KiB, [0-9.]+ [KMG]iB/s", shown)
    assert shown.endswith("\x1b[K")


def test_a_name_that_would_control_the_terminal(
    hub: HubProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is shown escaped, also one that is no UTF-8."""
    path = os.fsencode(tmp_path) + b"/\x1b[31m\xff"
    Path(os.fsdecode(path)).write_bytes(b"one\n")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress = importing._Progress()
    progress.begin(os.fsdecode(path))
    with Contents(os.fsdecode(path)) as contents:
        progress(contents)
    assert capsys.readouterr().err.startswith("\r\x1b[K\\x1b[31m\\udcff: 0 %")


def test_standard_input_that_is_closed(hub: HubProcess) -> None:
    """It is a file that cannot be read."""
    script = f"{shlex.join(MPSR)} import --socket {hub.socket} - <&-"
    done = subprocess.run(script, check=False, shell=True, capture_output=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (1, b"mpsr: -: standard input is closed\n")


def test_sizes() -> None:
    """They are written as people read them."""
    shown = [importing._size(count) for count in (0, 1, 1023, 1024, 3 << 29, 5 << 40)]
    assert shown == ["0 bytes", "1 byte", "1023 bytes", "1.0 KiB", "1.5 GiB", "5.0 TiB"]


@pytest.mark.durability
def test_kills_of_import_and_hub(tmp_path: Path) -> None:
    """However often either of them is killed, each line is stored once, in order."""
    dice = random.Random(5)
    count = 80_000
    path = tmp_path / "a.log"
    path.write_bytes(b"".join(b"%d %s\n" % (number, b"x" * 90) for number in range(count)))
    config = tmp_path / "hub.toml"
    config.write_text("[[limits]]\nmessages_per_s = 8000\n")  # so that it does not end before the kills
    with HubProcess(tmp_path, "--config", str(config)) as hub:
        for victims in ("import", "hub", "hub, import"):
            before = hub.stats()["last_sequence"]
            command = ["import", "--socket", hub.socket, "--tag", "t", str(path)]
            running = Running(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wanted = before + dice.randint(1, 5000)
            eventually(lambda: last_sequence(hub) >= wanted, "some of it is stored")  # noqa: B023  it is waited for here
            for victim in victims.split(", "):
                if victim == "hub":
                    hub.kill()
                else:
                    running.send_signal(signal.SIGKILL)
            if hub.process.returncode is not None:
                hub.start()
            running.kill()
            running.wait(PATIENCE_S)
        assert 0 < last_sequence(hub) < count, "there is something left to import"
        config.write_text("")
        call("reload", path=hub.socket)
        done = mpsr("import", "--socket", hub.socket, "--tag", "t", str(path))
        assert done.returncode == 0, done.stderr
        assert mpsr("import", "--socket", hub.socket, str(path)).stdout.startswith(b"0 messages imported, 0 bytes; ")
        assert hub.stop() == 0
        assert [int(text.partition(" ")[0]) for text in stored(hub)] == list(range(count))
        assert mpsr("verify", "--journal", hub.journal).returncode == 0


def last_sequence(hub: HubProcess) -> int:
    sequence: int = call("stats", path=hub.socket)["last_sequence"]
    return sequence


def test_a_hub_that_is_restarted_is_waited_for(hub: HubProcess, tmp_path: Path) -> None:
    """The import goes on by itself."""
    path = tmp_path / "a.log"
    path.write_bytes(b"".join(b"%d %s\n" % (number, b"x" * 90) for number in range(100_000)))
    command = ["import", "--socket", hub.socket, str(path)]
    with Running(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        eventually(lambda: last_sequence(hub) > 0, "some of it is stored")
        hub.kill()
        hub.start()
        out, errors = running.communicate(timeout=PATIENCE_S)
    assert (running.returncode, out, errors) == (0, b"100000 messages imported, 9.2 MiB\n", b"")
    assert [int(text.partition(" ")[0]) for text in stored(hub)] == list(range(100_000))


@NEEDS_ROOT
def test_users_do_not_share_their_places() -> None:
    """A log that one user has imported is new for another user, and the other sees nothing of the first."""
    with open_folder() as folder:
        (folder / "run").mkdir()
        path = folder / "a.log"
        path.write_bytes(b"one\ntwo\n")
        with HubProcess(folder / "run", "--mode", "0666") as hub:

            def run() -> int:
                with Contents(str(path)) as contents:
                    return Importer(hub.socket, timeout=PATIENCE_S).run(contents).messages

            for user in (ALICE, MALLORY):
                assert [as_user(user, run), as_user(user, run)] == ["2", "0"]
                rows = as_user(user, lambda: len(call("imports", path=hub.socket)["imports"]))
                assert rows == "1"
            assert [message.peer.uid for message in hub.messages()] == [ALICE, ALICE, MALLORY, MALLORY]


def test_completion() -> None:
    """The formats are completed."""
    context = click.Context(importing.importing)
    (param,) = [param for param in importing.importing.params if param.name == "kind"]
    assert [item.value for item in param.shell_complete(context, "j")] == ["json", "journald"]
