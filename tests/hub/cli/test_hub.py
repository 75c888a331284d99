"""`mpsr hub` as a user runs it: its start, `--check`, `--print`, and what it stores."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import msgpack
import pytest

from tests.hub.wire.test_compression import COMPRESSORS
from tests.support import MPSR, HubProcess, eventually, mpsr, read_messages

pytestmark = pytest.mark.timeout(100, method="signal")  # one that hangs fails, and the run goes on


def test_retain_lets_the_old_go(tmp_path: Path) -> None:
    """With `--journal-age` older messages expire by themselves, and the hub logs it."""
    with HubProcess(tmp_path, "--journal-age", "1s") as hub:
        mpsr("send", "--socket", hub.socket, "old")
        eventually(lambda: [event for event in hub.log if event["event"] == "journal.expired"])
        assert mpsr("logs", "--journal", hub.journal, "--output", "text").stdout == b""
        mpsr("send", "--socket", hub.socket, "new")
        assert hub.stats()["last_sequence"] == 2
        assert hub.stop() == 0


def test_compressed_chunks_are_stored_and_acknowledged(hub: HubProcess) -> None:
    """gzip and zstd chunks, small and large, are stored in order with the others."""
    entries = [[1_700_000_000, {"n": number, "filling": "x" * 50}] for number in range(3000)]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(hub.socket)
        for number, (method, compress) in enumerate(COMPRESSORS.items()):
            for size in (10, 3000):
                payload = compress(b"".join(map(msgpack.packb, entries[:size])))
                chunk = f"{method}-{size}"
                client.sendall(msgpack.packb([f"c.{number}", payload, {"chunk": chunk, "compressed": method}]))
                assert msgpack.unpackb(client.recv(4096)) == {"ack": chunk}
    assert [message.record["n"] for message in hub.messages("c.*")] == [*range(10), *range(3000)] * 2


def test_print_shows_what_is_committed(tmp_path: Path) -> None:
    """`hub --print` prints each message before it ends."""
    output = tmp_path / "printed"
    with HubProcess(tmp_path, "--print", stdout=output) as hub:
        mpsr("send", "--socket", hub.socket, stdin=b"".join(b"line %d\n" % n for n in range(5000)))
        assert hub.stop() == 0
    lines = output.read_text().splitlines()
    assert len(lines) == 5000
    assert lines[0].endswith("line 0")
    assert lines[-1].endswith("line 4999")


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("--mode", "999"), 2, "not a file mode"),
        (("--group", "no-such-group"), 2, "no such group: no-such-group"),
        (("--journal-size", "lots"), 2, "not a size"),
        (("--journal-size", "1KiB"), 2, "at least 4MiB"),
        (("--durability", "maybe"), 2, "maybe"),
        (("--socket", "/tmp/" + "x" * 200), 2, "socket path is 205 bytes long"),
        (("--journal", "/dev/null"), 1, "journal /dev/null: /dev/null is not a folder"),
        (("--socket", "/dev/null/hub.sock"), 1, "cannot listen on /dev/null/hub.sock"),
    ],
)
def test_a_hub_that_cannot_start_says_why(tmp_path: Path, args: tuple[str, ...], code: int, says: str) -> None:
    """Wrong usage is exit code 2, a failure exit code 1, each with a reason on standard error."""
    given = dict(zip(args[::2], args[1::2], strict=True))
    defaults = {"--socket": str(tmp_path / "s"), "--journal": str(tmp_path / "j")}
    flat = [word for pair in {**defaults, **given}.items() for word in pair]
    done = mpsr("hub", *flat)
    assert (done.returncode, says in done.stderr.decode()) == (code, True), done.stderr
    assert b"Traceback" not in done.stderr


def test_a_hub_without_standard_streams(tmp_path: Path) -> None:
    """With standard input, output and error closed, the hub runs, and stops with exit code 0."""
    path = str(tmp_path / "s")
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *MPSR, "hub", "--socket", path]
    running = subprocess.Popen([*command, "--journal", str(tmp_path / "j")])
    try:
        assert mpsr("send", "--socket", path, "hello").returncode == 0
        running.terminate()
        assert running.wait(30) == 0
    finally:
        running.kill()
        running.wait()
    assert [message.record for message in read_messages(str(tmp_path / "j"))] == [{"message": "hello"}]


def test_check_names_who_runs(hub: HubProcess) -> None:
    """`mpsr hub --check` says which process has the socket and the journal, and disturbs it in no way."""
    places = ("--socket", hub.socket, "--journal", hub.journal)
    done = mpsr("hub", "--check", *places)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (
        done.stdout.decode() == f"mpsr: valid (no file); process {hub.process.pid} has its journal and its socket now\n"
    )
    done = mpsr("hub", "--check", "--socket", f"{hub.socket}2", "--journal", hub.journal)
    assert done.stdout.decode() == f"mpsr: valid (no file); process {hub.process.pid} has its journal now\n"
    assert mpsr("send", "--socket", hub.socket, "x").returncode == 0
    assert hub.stop() == 0
    assert mpsr("hub", "--check", *places).stdout == b"mpsr: valid (no file)\n"
