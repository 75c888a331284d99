"""`mpsr send` as a user runs it: what is stored, what is reported, how long it waits."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hub.cli import main, send
from hub.cli.send import _flush
from producers import NotAcknowledged, Producer
from tests.support import HubProcess, Running, eventually, mpsr

pytestmark = pytest.mark.timeout(100, method="signal")  # one that hangs fails, and the run goes on


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
