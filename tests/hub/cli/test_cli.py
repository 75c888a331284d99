"""The command line as a user runs it: real processes, their output, their exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgpack
import pytest

from hub.cli import cli, main, send
from hub.cli.send import _flush
from hub.journal.files import DiskFiles
from hub.journal.segment import list_segments, segment_name
from producers import NotAcknowledged, Producer
from tests.hub.wire.test_compression import COMPRESSORS
from tests.producers.fakehub import FakeHub
from tests.support import MPSR, HubProcess, Running, eventually, mpsr, read_messages

pytestmark = pytest.mark.timeout(100, method="signal")  # one that hangs fails, and the run goes on

DISK = str(Path(__file__).parent)
"""A folder that is most probably on a disk; the temporary one may be in memory."""


def json_lines(output: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


def test_demo_prints_the_lines_of_the_tokio_example() -> None:
    """`mpsr demo` prints exactly those lines, with messages in any order, and exits with 0."""
    done = mpsr("demo")
    lines = done.stdout.decode().splitlines()
    assert (done.returncode, done.stderr) == (0, b"")
    assert lines[0] == "[Server] Listening..."
    expected = [f"[Producer {n}] Sent." for n in range(5)]
    expected += [f"[Server] Got: Message from producer {n}" for n in range(5)]
    assert sorted(lines[1:]) == sorted(expected)


@pytest.mark.parametrize("command", ["", *cli.list_commands(click.Context(cli))])
def test_every_command_explains_itself(command: str) -> None:
    """`--help` describes the command and shows an example."""
    done = mpsr(*filter(None, (command, "--help")))
    assert done.returncode == 0
    assert b"Usage: mpsr" in done.stdout
    assert b"  Example" in done.stdout


def test_send_sends_arguments(hub: HubProcess) -> None:
    """Each argument is one message, on disk when the command ends."""
    done = mpsr("send", "--socket", hub.socket, "--tag", "t", "-F", "version=1.2", "one", "two words")
    assert (done.returncode, done.stderr) == (0, b"")
    records = [message.record for message in hub.messages("t")]
    assert records == [{"message": "one", "version": 1.2}, {"message": "two words", "version": 1.2}]


def test_send_fields_are_values(hub: HubProcess) -> None:
    """Numbers, true, false and null are what they are, unless they are in quotes or would be written differently."""
    fields = {
        "a": ("5", 5), "b": ("-1.5", -1.5), "c": ("true", True), "d": ("null", None), "e": ('"5"', "5"),
        "f": ("1.10", "1.10"), "g": ("007", "007"), "h": ("1e5", "1e5"), "i": ("nan", "nan"), "j": ("", ""),
        "k": (str(2**64), str(2**64)), "l": ("x=y", "x=y"), "m": ('"', '"'),
    }  # fmt: skip
    args = [arg for key, (text, _) in fields.items() for arg in ("-F", f"{key}={text}")]
    assert mpsr("send", "--socket", hub.socket, *args, "-p", "warn", "m").returncode == 0
    (message,) = hub.messages("send")
    assert message.record == {"message": "m", "level": "warn", **{key: value for key, (_, value) in fields.items()}}
    assert mpsr("logs", "--journal", hub.journal, "--where", "a>4", "--level", "warning", "--count").stdout == b"1\n"


def test_send_reads_json_as_the_socket_does(hub: HubProcess) -> None:
    """Tag and time of a JSON line count, and without a tag that of the command; a carriage return is not part of it."""
    lines = b'{"tag": "x", "time": 1700000000.5, "n": 1}\r\n{"n": 2, "time": 0.5}\n'
    assert mpsr("send", "--socket", hub.socket, "--json", "-t", "y", stdin=lines).returncode == 0
    (own,) = hub.messages("x")
    assert (own.time, own.record) == (1_700_000_000_500_000_000, {"n": 1})
    assert [message.record for message in hub.messages("y")] == [{"n": 2, "time": 0.5}]
    assert (
        mpsr("send", "--socket", hub.socket, "-F", os.fsdecode(b"k=\xff"), "-t", "z", stdin=b"a\xfe\r\n").returncode
        == 0
    )
    journal = b"".join(path.read_bytes() for path in Path(hub.journal).glob("*.seg"))
    assert b"\xa7message\xa2a\xfe\xa1k\xa1\xff" in journal
    deep = mpsr("send", "--socket", hub.socket, "--json", '{"a":' * 5000 + "1" + "}" * 5000)
    assert (deep.returncode, b"message 1 was not sent" in deep.stderr, deep.stderr.count(b"\n")) == (1, True, 1)


def test_send_streams_standard_input(hub: HubProcess) -> None:
    """Each line is one message, with any bytes, including empty lines and a last one without newline."""
    lines = [b"first", b"", b"\xff\xfe not UTF-8", "später".encode(), *(b"%d" % n for n in range(50_000)), b"last"]
    assert mpsr("send", "--socket", hub.socket, stdin=b"\n".join(lines)).returncode == 0
    expected = [line.decode("utf-8", "replace") for line in lines]
    assert [message.record["message"] for message in hub.messages("send")] == expected


def test_send_json_reports_bad_lines_and_sends_the_rest(hub: HubProcess) -> None:
    """A line that is not a JSON object is named on standard error, exit code 1; the others are sent."""
    done = mpsr("send", "--socket", hub.socket, "--json", "-F", "k=v", stdin=b'{"a": 1}\nnot json\n[1]\n{"a": 2}\n')
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 2
    assert b"message 2 was not sent" in done.stderr
    assert [message.record for message in hub.messages("send")] == [{"a": 1, "k": "v"}, {"a": 2, "k": "v"}]


def test_send_json_names_what_is_nested_too_deeply(hub: HubProcess) -> None:
    """On every Python, JSON with more levels than a record may have is named, and the others are sent."""
    lines = [b'{"a": %b}' % (b"[" * levels + b"1" + b"]" * levels) for levels in (499, 500, 900, 2000, 100_000)]
    done = mpsr("send", "--socket", hub.socket, "--json", stdin=b"\n".join([*lines, b'{"a": 1}']))
    assert done.returncode == 1
    assert [b"nested more than 500 levels deep" in line for line in done.stderr.splitlines()] == [True] * 4
    assert [len(str(message.record["a"])) for message in hub.messages("send")] == [2 * 499 + 1, 1]


def test_send_says_of_what_is_too_large_that_it_was_not_sent(hub: HubProcess) -> None:
    """A line larger than any hub accepts is named, exit code 1; the others are sent."""
    done = mpsr("send", "--socket", hub.socket, stdin=b"small\n" + b"x" * (65 << 20) + b"\nlast\n")
    assert (done.returncode, done.stderr.startswith(b"mpsr: message 2 was not sent: ")) == (1, True)
    assert [message.record["message"] for message in hub.messages()] == ["small", "last"]


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


@pytest.mark.parametrize(
    ("left", "reason", "waits"),
    [([5], "", 1), ([5], "no hub", 1), ([3, 3], "", 2), ([3, 1, 1], "", 3), ([3, 0], "", 2), ([3], "no hub", 1)],
)
def test_send_waits_as_long_as_acknowledgements_come(left: list[int], reason: str, waits: int) -> None:
    """A silent hub costs the timeout once; a hub that acknowledges slowly is waited for."""

    class Slow:
        pending = 5
        waited = 0

        def connect(self, timeout: float) -> None:
            assert timeout == 1.0

        def flush(self, timeout: float) -> None:
            self.waited += 1
            if left[self.waited - 1]:
                raise NotAcknowledged(left[self.waited - 1], reason)

    producer = Slow()
    with contextlib.nullcontext() if left[-1] == 0 else pytest.raises(NotAcknowledged):
        _flush(producer, 1.0)  # type: ignore[arg-type]
    assert producer.waited == waits


def test_send_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 1 if a message was dropped, even if all others are on disk."""

    class Dropping(Producer):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, when_full="drop_new", backlog_bytes_max=5000, **options)

        def connect(self, timeout: float | None = None) -> None:
            running.start()
            super().connect(timeout)

    with HubProcess(tmp_path) as running:
        running.kill()
        monkeypatch.setattr(send, "Producer", Dropping)
        with pytest.raises(SystemExit) as ended:
            main(["send", "--socket", running.socket, *("x" * 50 for _ in range(200))])
        stored = len(running.messages("send"))
        assert 0 < stored < 200
        assert ended.value.code == 1
        assert capsys.readouterr().err == f"mpsr: {200 - stored} messages were dropped for lack of room\n"


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


def test_logs_follow_waits_for_the_first_hub(tmp_path: Path) -> None:
    """`logs -f` before any hub has run waits for the journal, like `tail -F`."""
    command = ["logs", "--journal", str(tmp_path / "journal"), "-f", "--output", "text"]
    following = Running(*command, stdout=subprocess.PIPE)
    with HubProcess(tmp_path) as hub:
        mpsr("send", "--socket", hub.socket, "first")
        assert following.stdout.readline() == b"first\n"
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=30)
    assert following.returncode == 0


def test_send_without_a_hub_says_so(tmp_path: Path) -> None:
    """Without a hub, one line names the socket, exit code 1."""
    done = mpsr("send", "--socket", str(tmp_path / "absent.sock"), "--timeout", "0.2", "hello")
    assert done.returncode == 1
    reason = f"no hub at {tmp_path / 'absent.sock'} (is one running? is --socket right?)"
    assert done.stderr.decode().splitlines() == [f"mpsr: 1 message is not acknowledged ({reason})"]


def test_send_survives_a_restart_of_the_hub(hub: HubProcess) -> None:
    """A hub killed in the middle of the stream loses and duplicates nothing."""
    sending = Running("send", "--socket", hub.socket, stdin=subprocess.PIPE)
    for part in range(10):
        sending.stdin.write(b"".join(b"%d\n" % n for n in range(part * 10_000, (part + 1) * 10_000)))
        if part in (3, 7):
            eventually(lambda: hub.stats()["messages"] > 0)
            hub.kill()
            hub.start()
    sending.stdin.close()
    assert sending.wait(60) == 0
    assert [int(message.record["message"]) for message in hub.messages("send")] == list(range(100_000))


def test_logs_filters_and_formats(hub: HubProcess) -> None:
    """Tag, grep, after and -n select; json has the promised keys; text is the text alone."""
    mpsr("send", "--socket", hub.socket, "--tag", "app.web", "GET /index", "GET /missing: 404")
    mpsr("send", "--socket", hub.socket, "--tag", "app.jobs", "done", "failed: 404")

    def logs(*args: str) -> bytes:
        done = mpsr("logs", "--journal", hub.journal, *args)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout

    assert logs("--output", "text") == b"GET /index\nGET /missing: 404\ndone\nfailed: 404\n"
    assert logs("--output", "text", "--tag", "app.w*", "--tag", "other") == b"GET /index\nGET /missing: 404\n"
    assert logs("--output", "text", "--grep", "4.4$", "-n", "1") == b"failed: 404\n"
    assert logs("--output", "text", "--after", "3") == b"failed: 404\n"
    assert logs("--output", "text", "-n", "0") == b""
    first = json_lines(logs("--output", "json"))[0]
    keys = ["sequence", "time", "received", "tag", "pid", "uid", "gid", "comm", "record"]
    assert list(first) == keys
    assert (first["sequence"], first["uid"]) == (1, os.getuid())
    assert len(str(first["time"])) == len("2026-11-20T05:40:30.212593840Z")
    assert b"app.jobs" in logs()


def test_logs_finds_by_fields_level_writer_and_time(hub: HubProcess) -> None:
    """Conditions, level, pid, since and until filter; an invalid one is a usage error."""
    mpsr("send", "--socket", hub.socket, "--json", stdin=b'{"n": 1, "level": "info"}\n{"n": 2, "level": "error"}\n')
    mpsr("send", "--socket", hub.socket, "--json", stdin=b'{"n": 3, "level": "critical", "a": {"b": "x"}}\n')

    def numbers(*args: str) -> list[object]:
        done = mpsr("logs", "--journal", hub.journal, "--output", "json", *args)
        assert (done.returncode, done.stderr) == (0, b"")
        return [line["record"]["n"] for line in json_lines(done.stdout)]  # type: ignore[index]

    assert numbers("--where", "n>1") == numbers("--where", "n >= 2") == [2, 3]
    assert numbers("--where", "n>1", "--where", "a.b=x") == [3]
    assert numbers("--level", "error") == [2, 3]
    assert numbers("--since", "1h", "--until", "now") == [1, 2, 3]
    assert numbers("--until", "1h") == []
    assert numbers("--since", "2099-01-01") == []
    pid = str(hub.messages()[0].peer.pid)
    assert numbers("--pid", pid) == [1, 2]
    assert numbers("--where", "n!=2", "-n", "1") == [3]
    assert numbers("-p", "err", "-S", "yesterday", "-u", "*", "-t", "!other") == [2, 3]
    assert numbers("-r") == [3, 2, 1]
    assert numbers("-r", "--tail", "2") == [3, 2]
    assert numbers("--uid", str(os.getuid()), "--comm", "[pm]*", "--no-pager") == [1, 2, 3]
    assert numbers("--uid", "4242") == []
    assert numbers("-g", "X", "-i") == [3]
    assert mpsr("logs", "--journal", hub.journal, "--count", "--level", "error").stdout == b"2\n"
    line = json_lines(mpsr("logs", "--journal", hub.journal, "-o", "json", "--fields", "n, a.b").stdout)[-1]
    assert line["record"] == {"n": 3, "a.b": "x"}
    for wrong in (("--where", "n"), ("--level", "loud"), ("--since", "someday"), ("-f", "-r"), ("-f", "--count")):
        done = mpsr("logs", "--journal", hub.journal, *wrong)
        assert (done.returncode, b"Traceback" in done.stderr) == (2, False)


def test_logs_takes_what_one_knows(hub: HubProcess) -> None:
    """Levels of syslog, names of users, `all`, names of outputs, bare --color, and what needs no option anyway."""
    for level in ("info", "err", "crit"):
        assert mpsr("send", "--socket", hub.socket, "-p", level, f"m {level}").returncode == 0

    def shown(*args: str) -> list[str]:
        done = mpsr("logs", "--journal", hub.journal, *args)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode().splitlines()

    plain = shown("--no-color", "-a", "-q", "--no-hostname", "--no-pager")
    assert plain == shown() == shown("-n", "all") == shown("--tail", "ALL", "-o", "short") == shown("--color=Never")
    assert len(plain) == 3
    assert shown("-o", "CAT") == shown("-o", "raw") == ["m info", "m err", "m crit"]
    assert shown("-o", "jsonl") == shown("-o", "JSON") == shown("-o", "json")
    assert shown("-o", "text", "-p", "3") == shown("-o", "text", "-p", "ERR") == ["m err", "m crit"]
    assert shown("-o", "text", "-p", "2") == ["m crit"]
    assert shown("-o", "text", "--uid", pwd.getpwuid(os.getuid()).pw_name) == ["m info", "m err", "m crit"]
    assert shown("-o", "text", "-v", "-g", "err|info") == ["m crit"]
    assert shown("-o", "text", "-v", "-i", "-g", "M ERR") == ["m info", "m crit"]
    assert shown("--color") == shown("--color", "always") != plain
    for args, number in (((), "3"), (("-n", "2"), "2"), (("-n", "9"), "3"), (("-n", "all"), "3"), (("-n", "0"), "0")):
        assert shown("--count", *args) == [number]


def test_nothing_found(hub: HubProcess) -> None:
    """On a terminal, standard error says that no message matches, and what --where may have meant; else nothing."""
    assert mpsr("send", "--socket", hub.socket, "x").returncode == 0
    hint = "mpsr: no message matches (--where tag: a field of the record; --tag selects messages)"
    for args, said in (
        (["--where", "tag=send"], hint),
        (["-r", "-t", "y"], "mpsr: no message matches"),
        (["-n", "5", "-t", "y"], "mpsr: no message matches"),
        (["-n", "0"], ""),
        (["-n", "1"], ""),
    ):
        ours, theirs = os.openpty()
        with Running("logs", "--journal", hub.journal, *args, stdout=subprocess.PIPE, stderr=theirs) as running:
            shown, _ = running.communicate()
        assert running.wait() == 0
        os.write(theirs, b".")  # so that there is something to read
        assert os.read(ours, 1000).decode().removesuffix(".").rstrip() == said
        assert bool(shown) == (args == ["-n", "1"])
        os.close(ours)
        os.close(theirs)
    done = mpsr("logs", "--journal", hub.journal, "--where", "tag=send")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("has_journal", [True, False])
def test_a_follower_ends_with_its_reader(tmp_path: Path, has_journal: bool) -> None:
    """`logs -f | head -1` ends as soon as the reader of its output has, and not with the next message."""
    with HubProcess(tmp_path) as hub:
        assert mpsr("send", "--socket", hub.socket, "one").returncode == 0
        journal = hub.journal if has_journal else str(tmp_path / "none")
        command = ["logs", "-f", "--journal", journal]
        with Running(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
            if has_journal:
                assert following.stdout.readline().endswith(b"one\n")
            else:
                assert b"waiting for a hub" in following.stderr.readline()
            following.stdout.close()
            assert following.wait(30) == 0
            assert following.stderr.read() == b""


def test_follow_everything(hub: HubProcess) -> None:
    """`logs -f -n all` begins with the first message of the journal, and continues."""
    mpsr("send", "--socket", hub.socket, *(str(n) for n in range(30)))
    command = ["logs", "-f", "-n", "all", "-o", "text", "--journal", hub.journal]
    with Running(*command, stdout=subprocess.PIPE) as following:
        assert [following.stdout.readline() for _ in range(30)] == [b"%d\n" % n for n in range(30)]
        mpsr("send", "--socket", hub.socket, "last")
        assert following.stdout.readline() == b"last\n"
        following.stdout.close()
        assert following.wait(30) == 0


def test_send_as_logger_and_cat_do(hub: HubProcess) -> None:
    """-p takes FACILITY.LEVEL and numbers, and a single - is standard input."""
    for level in ("user.err", "LOCAL0.Info", "3"):
        assert mpsr("send", "--socket", hub.socket, "-p", level, "x").returncode == 0
    assert mpsr("send", "--socket", hub.socket, "--timeout", "5s", "-", stdin=b"a\nb\n").returncode == 0
    assert mpsr("send", "--socket", hub.socket, "-", "c").returncode == 0
    assert [message.record for message in hub.messages()] == [
        {"message": "x", "level": "err", "facility": "user"},
        {"message": "x", "level": "Info", "facility": "local0"},
        {"message": "x", "level": "3"},
        *({"message": text} for text in ("a", "b", "-", "c")),
    ]
    assert mpsr("logs", "--journal", hub.journal, "-p", "err", "--count").stdout == b"2\n"


def test_an_interrupt_when_all_is_stored(hub: HubProcess) -> None:
    """Ctrl-C in `send` on a terminal says nothing if everything that was sent is stored."""
    command = ["send", "--socket", hub.socket]
    with Running(*command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as sending:
        sending.stdin.write(b"x\n")
        sending.stdin.flush()
        eventually(lambda: hub.stats()["acks"])
        threads = [*Path(f"/proc/{sending.pid}/task").iterdir()]
        eventually(lambda: all(" S " in (each / "stat").read_text() for each in threads), "it has read the reply")
        sending.send_signal(signal.SIGINT)
        assert sending.stderr.read() == b""
        assert sending.wait(30) == 130


def test_retain_lets_the_old_go(tmp_path: Path) -> None:
    """With `--retain` older messages expire by themselves, and the hub logs it."""
    with HubProcess(tmp_path, "--retain", "1s") as hub:
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


def test_stats_watch_goes_on(hub: HubProcess) -> None:
    """`stats --watch` prints repeatedly; Ctrl-C ends it with 0."""
    watching = Running("stats", "--socket", hub.socket, "--watch", "--json", stdout=subprocess.PIPE)
    assert [json.loads(watching.stdout.readline())["messages"] for _ in range(2)] == [0, 0]
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=30)
    assert watching.returncode == 0


def test_bench_measures_and_checks() -> None:
    """A short run finds all its messages in the journal, and prints the promised figures as JSON."""
    done = mpsr("bench", "--folder", DISK, "--messages", "2000", "--json", timeout=100)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    promised = "messages_per_s mb_per_s hub_cpu_ns_per_message hub_memory_max_bytes journal_bytes commits"
    assert {*promised.split(), "fdatasync_us_p50", "disk_mb_per_s_synced"} <= set(report)
    assert [report[name] for name in ("lost", "duplicated", "disordered", "damaged")] == [0, 0, 0, 0]
    assert report["checked"] == report["messages"] >= 2000


def test_bench_does_not_claim_what_it_has_not_checked() -> None:
    """Of pings nothing is in the journal: the text says so."""
    command = ["bench", "--folder", DISK, "--messages", "5", "--pattern", "ping", "--journal-size", "64MiB"]
    assert re.search(rb"^lost +not checked$", mpsr(*command).stdout, re.MULTILINE)


def test_bench_says_what_it_cannot_do() -> None:
    """Chunks larger than any hub accepts: one line, exit code 1."""
    done = mpsr("bench", "--chunk", "1000", "--size", "100000")
    assert (done.returncode, done.stderr.count(b"\n"), b"over the limit" in done.stderr) == (1, 1, True)


def test_bench_refuses_memory() -> None:
    """A file system in memory is refused: one line, exit code 1."""
    done = mpsr("bench", "--folder", "/dev/shm")
    assert (done.returncode, b"which is memory" in done.stderr) == (1, True)


def test_logs_reads_when_no_hub_runs(hub: HubProcess) -> None:
    """The journal of a stopped or killed hub is readable."""
    mpsr("send", "--socket", hub.socket, "kept")
    hub.kill()
    assert mpsr("logs", "--journal", hub.journal, "--output", "text").stdout == b"kept\n"


def test_logs_follow_begins_when_it_was_started(hub: HubProcess) -> None:
    """`-f` begins with the last 10, and `-f -n 0` shows what arrives while the interpreter starts."""
    mpsr("send", "--socket", hub.socket, stdin=b"".join(b"old %d\n" % number for number in range(20)))
    for args, before in (("-n 0", 0), ("", 10), ("-n 3", 3)):
        time.sleep(0.05)  # the kernel counts the starts of processes in hundredths: what is older is old for sure
        command = ["logs", "--journal", hub.journal, "-f", "-o", "text", *args.split()]
        with Running(*command, stdout=subprocess.PIPE, is_new=True) as process:
            with socket.socket(socket.AF_UNIX) as client:  # at once: the follower has not begun to read
                client.connect(hub.socket)
                client.sendall(b"new\n")
            shown = [process.stdout.readline() for _ in range(before + 1)]
            process.terminate()
        assert (shown[-1], len(shown)) == (b"new\n", before + 1)
        assert before == 0 or shown[0].startswith(b"old")


def test_logs_follow_skips_nothing(hub: HubProcess) -> None:
    """`logs -f` shows old and new messages, over a kill and restart of the hub; Ctrl-C ends it with 0."""
    mpsr("send", "--socket", hub.socket, "0")
    command = ["logs", "--journal", hub.journal, "-f", "--output", "text"]
    following = Running(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    seen = [int(following.stdout.readline())]
    for number in range(1, 5):
        mpsr("send", "--socket", hub.socket, str(number))
        seen.append(int(following.stdout.readline()))
        hub.kill()
        hub.start()
    following.send_signal(signal.SIGINT)
    rest, complaints = following.communicate(timeout=30)
    assert (seen, rest, complaints, following.returncode) == ([0, 1, 2, 3, 4], b"", b"", 0)


def test_a_closed_pipe_ends_logs_quietly(hub: HubProcess) -> None:
    """`mpsr logs | head -1` reports no error about the pipe."""
    mpsr("send", "--socket", hub.socket, stdin=b"line\n" * 200_000)
    reading = Running("logs", "--journal", hub.journal, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert reading.stdout.readline()
    reading.stdout.close()
    assert (reading.wait(30), reading.stderr.read()) == (0, b"")
    reading.stderr.close()


def test_logs_without_a_journal_says_so(tmp_path: Path) -> None:
    """A missing journal: one line, exit code 1; an invalid regular expression: exit code 2."""
    done = mpsr("logs", "--journal", str(tmp_path / "absent"))
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"there is no journal here" in done.stderr
    assert mpsr("logs", "--journal", str(tmp_path), "--grep", "(").returncode == 2


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


def test_stats_and_call_ask_the_hub(hub: HubProcess) -> None:
    """`stats` has every promised counter; `call` prints the answer, or the hub's error with exit code 1."""
    mpsr("send", "--socket", hub.socket, "x")
    promised = "messages batches bytes commits duplicates losses connections last_sequence journal_bytes inbox_bytes"
    counters = json.loads(mpsr("stats", "--socket", hub.socket, "--json").stdout)
    assert {*promised.split(), "rss_bytes", "uptime_s"} <= set(counters)
    assert (counters["messages"], counters["last_sequence"]) == (1, 1)
    assert b"last_sequence" in mpsr("stats", "--socket", hub.socket).stdout
    assert mpsr("call", "--socket", hub.socket, "ping").stdout == b'"pong"\n'
    unknown = mpsr("call", "--socket", hub.socket, "pong")
    assert (
        unknown.returncode,
        b"reload, sink_pause, sink_resume, sink_rewind, sinks, sources, stats" in unknown.stderr,
    ) == (
        1,
        True,
    )
    assert mpsr("call", "--socket", hub.socket, "ping", "{").returncode == 2
    hub.kill()
    gone = mpsr("call", "--socket", hub.socket, "ping")
    assert (gone.returncode, gone.stderr.count(b"\n")) == (1, 1)


def test_sources_shows_the_ways_in(hub: HubProcess) -> None:
    """A table with a line for each, or an object for each; what went wrong is in it."""
    mpsr("send", "--socket", hub.socket, "x", "y")
    head, line = mpsr("sources", "--socket", hub.socket).stdout.decode().splitlines()
    assert head.split() == ["type", "path", "state", "messages", "bytes", "losses", "lag", "error"]
    assert line.split()[:4] == ["socket", hub.socket, "open", "2"]
    assert line.split()[-1] == "-"
    (row,) = map(json.loads, mpsr("sources", "--socket", hub.socket, "--output", "json").stdout.splitlines())
    assert (row["type"], row["messages"], row["last_error"]) == ("socket", 2, None)


@pytest.mark.parametrize("command", [("verify",), ("logs",), ("logs", "-f"), ("logs", "-n", "3"), ("logs", "-r")])
def test_a_folder_that_is_no_journal_is_an_error(command: tuple[str, ...], tmp_path: Path) -> None:
    """A folder with other files is reported at once, also by a follower; nothing is made in it."""
    (tmp_path / "hosts").touch()
    done = mpsr(*command, "--journal", str(tmp_path))
    reason = "this folder holds other files and no journal (is --journal right?)"
    assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", f"mpsr: journal {tmp_path}: {reason}\n")
    assert os.listdir(tmp_path) == ["hosts"]


def test_verify_counts_and_finds_the_faults(hub: HubProcess) -> None:
    """`verify` counts a whole journal with exit code 0, and names every fault with exit code 1."""
    for number in range(5):
        mpsr("send", "--socket", hub.socket, f"message {number}")
    done = mpsr("verify", "--journal", hub.journal)
    assert (done.returncode, done.stdout.startswith(b"5 messages in 5 batches")) == (0, True)
    hub.stop()
    segment = Path(hub.journal) / segment_name(list_segments(DiskFiles(hub.journal))[0])
    data = bytearray(segment.read_bytes())
    for damaged in b"message 1", b"message 3":
        data[data.index(damaged)] ^= 1
    segment.write_bytes(data)
    done = mpsr("verify", "--journal", hub.journal)
    first, second = done.stderr.splitlines()
    summary = b"3 messages in 3 batches, 1 segment: 2 faults, the rest is whole\n"
    assert (done.returncode, done.stdout) == (1, summary)
    assert b"sequences 2 to 2 are missing" in first
    assert b"sequences 4 to 4 are missing" in second
    shown = [message.record.get("message") for message in read_messages(hub.journal)]
    assert shown == ["message 0", None, "message 2", None, "message 4"]


def test_verify_clears_its_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal, nothing of the progress line is left beside the result."""
    with HubProcess(tmp_path) as hub:
        lines = b"".join(b"%d\n" % number for number in range(3000))
        assert mpsr("send", "--socket", hub.socket, stdin=lines).returncode == 0
    monkeypatch.setattr("hub.journal.verify.PROGRESS_BATCHES", 1)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(SystemExit):
        main(["verify", "--journal", hub.journal])
    output = capsys.readouterr()
    assert output.err.count("messages checked") > 0
    assert output.err.endswith(" messages checked\r\x1b[K")
    assert output.out.startswith("3000 messages in ")


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
        (("--journal", "/dev/null"), 1, "journal /dev/null: /dev/null is no folder"),
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


def test_python_m_hub_is_mpsr_hub(tmp_path: Path) -> None:
    """`python -m hub` takes the same options as `mpsr hub`."""
    done = subprocess.run([MPSR[0], "-m", "hub", "--help"], capture_output=True, check=False, timeout=30)
    assert b"mpsr hub" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    """It is the one of the shell, and it asks this command."""
    done = mpsr("completion", shell)
    assert (done.returncode, b"_MPSR_COMPLETE" in done.stdout) == (0, True)


def test_completion_knows_levels_and_tags(hub: HubProcess) -> None:
    """Values of `--level`, and of `--tag` from the journal, are completed; without a journal there are none."""
    mpsr("send", "--socket", hub.socket, "--tag", "app.web", "x")
    mpsr("send", "--socket", hub.socket, "--tag", "other", "x")

    def complete(words: str, journal: str = hub.journal, shell: str = "bash") -> list[bytes]:
        env = {
            **os.environ, "MPSR_JOURNAL": journal, "_MPSR_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": f"mpsr {words}", "COMP_CWORD": str(len(words.split())),
        }  # fmt: skip
        return [line.partition(b",")[2] for line in mpsr(env=env).stdout.splitlines() if line]

    assert complete("logs --level w") == [b"warning"]
    assert complete("logs --tag app") == [b"app.web"]
    assert complete("send -t o") == [b"other"]
    mpsr("send", "--socket", hub.socket, "--tag", "two 'words'", "x")
    assert complete("logs -t t") == [rb"two\ \'words\'"]
    assert complete("call p") == [b"ping", b"peers"]
    assert complete("hub --durability r") == [b"relaxed"]
    assert complete("hub --log-level W") == [b"warning"]
    assert complete("hub --journal-size 1") == []
    assert complete("logs --tag o", journal=f"{hub.journal}/none") == []
    assert b"logs" in complete("lo")


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


def test_a_mistyped_command_is_answered_with_the_nearest() -> None:
    """Only if there is one that is near."""
    assert b"Did you mean 'logs'?" in mpsr("lgos").stderr
    assert b"Did you mean" not in mpsr("frobnicate").stderr


def test_python_runs_every_command() -> None:
    """`python -m hub` is the command line; without a command it runs a hub."""
    for args, words in ((("logs", "--help"), b"Usage: mpsr logs"), (("--help",), b"Usage: mpsr hub")):
        done = subprocess.run([sys.executable, "-m", "hub", *args], capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stdout[: len(words)]) == (0, words)


def test_sinks(tmp_path: Path) -> None:
    """Each sink is a row; an order changes one; a wrong order gets an error."""
    config = tmp_path / "hub.toml"
    config.write_text(f'[[sinks]]\ntype = "file"\nname = "a"\npath = "{tmp_path}/a.log"\n')
    with HubProcess(tmp_path, "--config", str(config)) as hub:
        socket = ("--socket", hub.socket)
        assert mpsr("sinks", "pause", "a", *socket).returncode == 0
        assert mpsr("send", *socket, "one").returncode == 0
        (row,) = map(json.loads, mpsr("sinks", *socket, "--output", "json").stdout.splitlines())
        assert (row["name"], row["lag"]["messages"]) == ("a", 1)
        head, line = mpsr("sinks", *socket).stdout.decode().splitlines()
        assert head.split()[:4] == ["name", "type", "path", "state"]
        assert line.split()[:4] == ["a", "file", f"{tmp_path}/a.log", "paused"]
        assert "1 messages, " in line
        assert "sink a: paused, 0 messages, 0 lost, 1 to deliver" in mpsr("stats", *socket).stdout.decode()
        moved = mpsr("sinks", "rewind", "a", "--to", "1", *socket)
        assert moved.stdout == b"mpsr: a goes on with sequence 1\n"
        assert mpsr("sinks", "resume", "a", *socket).returncode == 0
        eventually(lambda: (tmp_path / "a.log").exists() and (tmp_path / "a.log").read_bytes())
        wrong = mpsr("sinks", "pause", "b", *socket)
        assert (wrong.returncode, b"there is no sink 'b' (there are: a)" in wrong.stderr) == (1, True)
        for args, words in ((("pause",), b"NAME"), (("pause", "a", "--to", "1"), b"--to"), (("stop", "a"), b"pause")):
            wrong = mpsr("sinks", *args, *socket)
            assert (wrong.returncode, words in wrong.stderr) == (2, True)
