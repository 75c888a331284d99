"""`mpsr logs --socket`, which shows what reading the files would show; the streams of `mpsr call`."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from hub.cli import athub, stored
from hub.errors import JournalUnusable
from hub.query.query import Query
from producers import AnswerLost, CommandFailed, Producer
from tests.support import PATIENCE_S, HubProcess, Running, eventually, mpsr
from tests.users import MALLORY, NEEDS_ROOT, as_user, open_folder

Run = Callable[..., tuple[int, bytes, bytes]]
COUNT = 2500
"""More than a page."""


def deep(levels: int) -> Any:
    value: Any = "end"
    for _ in range(levels):
        value = [value]
    return value


RECORDS: list[dict[Any, Any]] = [
    {"message": "plain"},
    {"message": "two\nlines \x1b[31m ä \u202e", "level": "error", "a b": 'c"d'},
    {"message": b"bytes\xff\x00", "data": b"\x01", "level": b"info"},
    {"ext": msgpack.ExtType(7, b"x"), "like": {"ext": 7, "data": "78"}},
    {
        "event": "times",
        "event_time": msgpack.ExtType(0, b"\x00\x00\x00\x01\x00\x00\x00\x02"),
        "at": msgpack.Timestamp(1),
    },
    {1: "a number", None: "nothing", b"k": "bytes", "1": "a text"},
    {"n": float("nan"), "inf": float("inf"), "f": 1.0, "big": (1 << 64) - 1, "small": -(1 << 63), "t": True},
    {"msg": "nested", "http": {"status": 500, "path": "/a?b=c"}, "list": [1, [2, {"x": None}]]},
    {"deep": deep(300)},
    {"deeper": deep(505)},
    {"message": "failed", "traceback": "Traceback\n  File x\nValueError", "exc_info": {"type": "ValueError"}},
    {"message": "x" * 60_000, "level": "debug"},
    {},
]
LINES = [
    b"a line of text\n",
    b"<34>Oct 11 22:14:15 host su[7]: 'su root' failed\n",
    b'{"message": "json", "level": "WARN", "http.status": 500}\n',
    b"\xff\xfe no UTF-8\n",
]


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    """A hub whose journal holds all kinds of messages, and losses."""
    with tempfile.TemporaryDirectory(prefix="mpsr-", dir="/tmp") as folder, HubProcess(Path(folder)) as hub:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(hub.socket)
            for number, record in enumerate(RECORDS):
                tag = ("app.web", "app.db", "mpsr.loss", "other")[number % 4]
                sock.sendall(msgpack.packb([tag, 1_700_000_000 + number, record, {"chunk": str(number)}]))
                assert sock.recv(1000)
            sock.sendall(msgpack.packb(["app.bad", [[1, {"a": 1}], ["never", 2], [3, {"b": 3}]], {"chunk": "x"}]))
            assert sock.recv(1000)
        for line in LINES:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(hub.socket)
                sock.sendall(line)
        with Producer(hub.socket, tag="many", spool=False) as producer:
            for number in range(COUNT):
                producer.send({"message": f"message {number}", "n": number, "level": "info" if number % 7 else "error"})
        eventually(lambda: hub.stats()["messages"] == len(RECORDS) + 3 + len(LINES) + COUNT)
        yield hub


FIELDS = ["--fields message,http.status -t app.*", "--fields 1"]
OPTIONS = [
    "",
    "-n 5",
    "-n 0",
    "-n all",
    "-n 1200",
    "-n 99999",
    "-r",
    "-r -n 3",
    "-r -n 2000",
    "--after 3 -n 2",
    "--after 2 -r -n 4",
    "--after 99999",
    "-r --after 99999",
    "-t app.*",
    "-t app.* -t !app.db",
    "-t mpsr.loss*",
    "-g failed",
    "-g FAILED -i",
    "-g message -v",
    "-g [0-9]+9$ -n 7",
    "--where http.status=500",
    "--where n>2490 --where n!=2495",
    "-p warning",
    "-p 3 -n 3",
    "--uid OURS -n 2",
    "--uid 0 -n 2",
    "--uid 12345",
    "--pid 0",
    "--pid OURS -n 2",
    "--comm python* -n 2",
    "--comm nobody*",
    "--unit nothing",
    "--container 00",
    "--host *",
    "--since 1h -n 3",
    "--until 1h",
    "--since 2100-01-01",
    "--until 2100-01-01 -n 1",
    "--count",
    "--count -t many -n 7",
    "--count -p error",
    *FIELDS,
    "--utc -n 2",
    "--color always -n 30",
]


SHOWN = [
    "",
    "-n 5",
    "-r -n 3",
    "-t app.*",
    "-t mpsr.loss*",
    "-g failed",
    "--count",
    "--utc -n 2",
    "--color always -n 30",
]
"""Options for each output; which messages they are does not depend on it, so the others are tried with one."""


@pytest.mark.parametrize(
    ("options", "output"),
    [
        *((options, "json") for options in OPTIONS),
        *itertools.product(SHOWN, ["pretty", "text"]),
    ],
)
def test_the_same_bytes(hub: HubProcess, run: Run, options: str, output: str) -> None:
    """Every filter, order and output gives the same bytes both ways."""
    ours = str(os.getpid() if "--pid" in options else os.getuid())
    args = ("logs", *options.replace("OURS", ours).split(), "--output", output)
    files = run(*args, "--journal", hub.journal)
    assert files[0] == 0
    assert run(*args, "--socket", hub.socket) == files


def test_more_than_the_hub_looks_for_at_once(hub: HubProcess, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large -n is asked for in stretches, from the end."""
    monkeypatch.setattr(athub, "LAST_MAX", 500)
    monkeypatch.setattr(athub, "STRETCH", 350)
    for count in (501, 700, COUNT, 10 * COUNT):
        args = ("logs", "-n", str(count), "--output", "json")
        assert run(*args, "--socket", hub.socket) == run(*args, "--journal", hub.journal)


def test_the_usual_socket(hub: HubProcess, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--socket` alone is the socket that other commands use."""
    monkeypatch.setenv("MPSR_SOCKET", hub.socket)
    monkeypatch.setenv("MPSR_JOURNAL", "/nowhere")
    assert run("logs", "--socket", "--count", "-t", "many") == (0, b"%d\n" % COUNT, b"")


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("--journal", "j", "--socket", "s"), b"--journal reads files and --socket asks a hub: give one of them"),
        (("--socket", ""), b"--socket: the path is empty (leave the option out for the default)"),
        (("--socket", "s", "-f", "-r"), b"-f does not end, so -r cannot be used with it"),
    ],
)
def test_wrong_usage(run: Run, args: tuple[str, ...], complaint: bytes) -> None:
    """What contradicts itself is a usage error."""
    code, output, errors = run("logs", *args)
    assert (code, output) == (2, b"")
    assert complaint in errors


def test_a_hub_that_is_away(run: Run, tmp_path: Path) -> None:
    """Without a hub each command says so at once."""
    path = str(tmp_path / "s")
    for args in (("logs",), ("logs", "-f"), ("call", "tail"), ("call", "-f", "ping")):
        code, output, errors = run(*args, "--socket", path)
        assert (code, output) == (1, b"")
        assert errors == f"mpsr: no hub at {path} (is one running? is --socket right?)\n".encode()


def test_a_hub_that_ends_in_the_middle(hub: HubProcess, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is lost is an error that says why, and not that something may have been carried out."""

    def ask(method: str, params: object, *, path: str, timeout: float) -> object:
        raise AnswerLost(path, "the hub has gone", method)

    monkeypatch.setattr(athub, "ask", ask)
    code, output, errors = run("logs", "--socket", hub.socket)
    assert (code, output) == (1, b"")
    assert errors == f"mpsr: no hub answers at {hub.socket}: the hub has gone\n".encode()


@NEEDS_ROOT
def test_files_that_cannot_be_read(hub: HubProcess) -> None:
    """The error of a user who may not read the files names the other way."""

    def refusal(*, waits: bool) -> str:
        with pytest.raises(JournalUnusable) as refused:
            stored.InFiles(hub.journal, Query(), waits=waits)
        return str(refused.value)

    os.chmod(Path(hub.journal).parent, 0o755)
    reason = "cannot be read: Permission denied (--socket asks a running hub instead)"
    for waits in (False, True):
        assert as_user(MALLORY, lambda: refusal(waits=waits)) == f"journal {hub.journal}: {reason}"  # noqa: B023


@NEEDS_ROOT
def test_another_user() -> None:
    """A user who cannot read the files sees over the socket what the rules allow, also as a follower."""
    with open_folder() as folder:
        (folder / "hub.toml").write_text(f"""[[access]]\nallow = ["uid:{MALLORY}"]\nread = ["app.*"]\n""")
        with HubProcess(folder, "--mode", "0666", "--config", str(folder / "hub.toml")) as hub:
            with Producer(hub.socket, spool=False) as producer:
                for tag in ("app.web", "audit", "app.db"):
                    producer.send({"message": f"of {tag}"}, tag=tag)

            def read() -> list[str]:
                there = athub.AtHub(hub.socket, {"level": None})
                assert there.end_before(1 << 62) == 3
                found = [*there.groups(0), there.last(1, 0), *there.backward(2), *next(there.follow(1))]
                return [message.record["message"] for group in found for message in group]

            shown = ["of app.web", "of app.db", *["of app.db"] * 2]
            assert as_user(MALLORY, read) == str(shown)
            assert as_user(MALLORY + 1, lambda: refused_by(hub)) == "-32001"


def refused_by(hub: HubProcess) -> int:
    with pytest.raises(CommandFailed) as refused:
        list(athub.AtHub(hub.socket, {}).groups(0))
    return refused.value.code


class Following:
    """A command that does not end, and its lines."""

    def __init__(self, *args: str) -> None:
        self._process = Running(*args, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._lines = self._process.stdout

    def lines(self, count: int) -> list[str]:
        return [self._lines.readline().decode().rstrip("\n") for _ in range(count)]

    def interrupt(self) -> tuple[int, bytes, bytes]:
        """Send what Ctrl-C sends; return the exit code, the rest of the output, and the errors."""
        self._process.send_signal(signal.SIGINT)
        output, errors = self._process.communicate(timeout=PATIENCE_S)
        return self._process.wait(), output, errors

    def hang_up(self) -> int:
        """Stop reading; return the exit code."""
        self._lines.close()
        self._process.stderr.close()
        return self._process.wait(PATIENCE_S)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[HubProcess]:
    """A hub of this test's own."""
    with tempfile.TemporaryDirectory(prefix="mpsr-", dir="/tmp") as folder, HubProcess(Path(folder)) as hub:
        yield hub


def test_following(own: HubProcess) -> None:
    """`-f` begins with the last messages that match, and goes on with new ones; with `-n all`, from the first."""
    with Producer(own.socket, tag="a") as producer:
        for number in range(20):
            producer.send({"message": str(number)}, tag="ab"[number % 2])
        producer.flush()
        common = ("logs", "--socket", own.socket, "-f", "--output", "text")
        some, every = Following(*common, "-t", "a"), Following(*common, "-n", "all")
        assert some.lines(10) == [str(number) for number in range(0, 20, 2)]
        assert every.lines(20) == [str(number) for number in range(20)]
        none = Following(*common, "-n", "0", "-t", "b")  # what was received shortly before its start may count as since
        for number in range(20, 24):
            producer.send({"message": str(number)}, tag="ab"[number % 2])
        producer.flush()
        assert some.lines(2) == ["20", "22"]
        assert every.lines(4) == ["20", "21", "22", "23"]
        assert none.lines(2) == ["21", "23"]
    assert some.interrupt() == (0, b"", b"")
    assert every.hang_up() == 0
    assert none.hang_up() == 0


def test_following_over_a_kill(own: HubProcess) -> None:
    """The hub is killed while a follower and a stream read, and started again: every message once, in order."""
    sent = 0
    follower = Following("logs", "--socket", own.socket, "-f", "-n", "all", "--output", "text")
    stream = Following("call", "--socket", own.socket, "tail")
    assert json.loads(stream.lines(1)[0]) == {"messages": [], "next": 0}
    seen: list[str] = []
    with Producer(own.socket, tag="a", spool=False) as producer:
        for round_ in range(4):
            for _ in range(1500):
                producer.send({"message": str(sent)})
                sent += 1
            if round_ < 3:
                seen += follower.lines(50)
                own.kill()
                own.start()
        producer.flush(PATIENCE_S)
    seen += follower.lines(sent - len(seen))
    assert seen == [str(number) for number in range(sent)]
    streamed: list[str] = []
    while len(streamed) < sent:
        (line,) = stream.lines(1)
        streamed += [message["record"]["message"] for message in json.loads(line)["messages"]]
    assert streamed == seen
    assert follower.interrupt() == (0, b"", b"")
    assert stream.interrupt() == (0, b"", b"")


def test_a_stream_of_a_call(own: HubProcess, run: Run) -> None:
    """`mpsr call` prints the values of a stream as lines; `-f` a result, too, and an error is an error."""
    mpsr("send", "--socket", own.socket, "one")
    stream = Following("call", "--socket", own.socket, "tail", '{"last": 1}')
    first, second = (json.loads(line) for line in stream.lines(2))
    assert first == {"messages": [], "next": 0}
    assert (second["messages"][0]["record"], second["next"]) == ({"message": "one"}, 1)
    assert stream.hang_up() == 0
    assert run("call", "--socket", own.socket, "-f", "ping") == (0, b'"pong"\n', b"")
    code, output, errors = run("call", "--socket", own.socket, "tail", '{"grep": "("}')
    assert (code, output) == (1, b"")
    assert b"grep: " in errors
