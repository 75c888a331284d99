"""
The table `CLIENTS`: the clients that hosts have, and what the messages of each are in the journal.

A client is opened, sends texts, and is closed. One that is a program reads them from its standard input, as lines, or
as JSON strings if a text may have several lines.

Not here: clients of which there are only bytes (recordings.py).
"""

from __future__ import annotations

import contextlib
import enum
import json
import logging
import logging.handlers
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fluent.asyncsender
import fluent.handler
import fluent.sender
import pytest

from tests.conformance.host import Host
from tests.support import PATIENCE_S, eventually

HERE = Path(__file__).parent
NODE_MODULES = Path(__file__).parents[2] / ".venv-node/node_modules"
SECONDS, PRECISE = 1_700_000_000, 1_700_000_000.25
SECONDS_NS, PRECISE_NS = 1_700_000_000_000_000_000, 1_700_000_000_250_000_000


class Sender:
    """A client that is open: it sends texts, by the process *pid*."""

    acknowledged: Sequence[str] = ()

    def __init__(self, send: Callable[[str], Any], pid: int | None = None) -> None:
        self._send = send
        self.pid = os.getpid() if pid is None else pid

    def send(self, text: str) -> None:
        """Send *text*; it is lost if the client cannot send it."""
        with contextlib.suppress(OSError):
            self._send(text)


class Way(enum.Enum):
    """
    What is known about the sender: everything, the owner of its pipe, its address, or everything except which of many
    processes it is.
    """

    SOCKET, FIFO, TCP, HTTP = range(4)


Open = Callable[[Host], contextlib.AbstractContextManager[Sender]]


class Client(NamedTuple):
    """
    How a client is opened, what its messages are, and what it can do.

    *reconnects*: whether it goes on by itself when the hub is there again. *preamble*: what it sends before the texts.
    """

    open: Open
    tag: str
    fields: Mapping[str, Any] = {}
    needs: Sequence[str] = ()
    has_lines: bool = False
    """Whether a text may have several lines."""
    has_large: bool = False
    """Whether a text may have 500 kB."""
    reconnects: bool = True
    acknowledges: bool = False
    """Whether it wants acknowledgements, and reports them."""
    resends: bool = False
    """Whether it sends again what was not acknowledged."""
    every: int = 1
    """With 10, it sends in every tenth turn of the history with a kill, because it is slow."""
    way: Way = Way.SOCKET
    time_ns: int | None = None
    """The time that it sends; else that of the test."""
    preamble: Sequence[str] = ()
    sends: Callable[[str], str] = str
    """What the client makes of a text before it sends it."""

    def require(self) -> None:
        """Skip the test if this client is missing here."""
        for need in self.needs:
            require(need)


def require(need: str) -> None:
    """Skip the test if *need* is not here: a program, a module of Node, or the rights of root."""
    if need == "root":
        if os.geteuid() != 0:
            pytest.skip("needs root: the client sends to one place below /run")
    elif not (NODE_MODULES / need).exists() and program(need) is None:
        pytest.skip(f"{need} is not installed (.ci/run installs it)")


def program(name: str) -> str | None:
    """Return the path of a program, also of one for administrators."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))


def environment() -> dict[str, str]:
    """Return the environment of a program, which finds the modules of Node."""
    return {**os.environ, "NODE_PATH": str(NODE_MODULES)}


class Process(Sender):
    """A program that reads texts from its standard input, and may print those that are acknowledged."""

    def __init__(self, process: subprocess.Popen[bytes], encode: Callable[[str], str]) -> None:
        assert process.stdin is not None
        super().__init__(self._write, process.pid)
        self.acknowledged: list[str] = []
        self._process, self._encode = process, encode
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{self._encode(text)}\n".encode())
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            self.acknowledged.extend(json.loads(line) for line in output)

    def end(self) -> None:
        """Let the program end by itself; kill it if it does not."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._reading.join()


def reads(*words: str, encode: Callable[[str], str] = str) -> Open:
    """Return how to open a program; `{socket}` and the like in its *words* become the paths of the hub."""

    @contextlib.contextmanager
    def opened(host: Host) -> Iterator[Sender]:
        command = [word.format_map(vars(host)) for word in words]
        pipe = subprocess.PIPE
        process = Process(
            subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment()), encode
        )
        try:
            yield process
        finally:
            process.end()

    return opened


def in_run(link: str, *words: str) -> tuple[str, ...]:
    """Return *words* for a program that finds `link`, a path and what it shall lead to, in a /run of its own."""
    place, _, target = link.partition("=")
    script = 'mount -t tmpfs none /run && mkdir -p "$(dirname "$1")" && ln -s "$2" "$1" && shift 2 && exec "$@"'
    return ("unshare", "-m", "sh", "-c", script, "sh", place, target, *words)


def logs(make: Callable[[Host], logging.Handler]) -> Open:
    """Return how to open a handler of the standard library's logging."""

    @contextlib.contextmanager
    def opened(host: Host) -> Iterator[Sender]:
        handler = make(host)
        handler.handleError = lambda record: None  # type: ignore[method-assign]  # what it cannot send, it drops
        logger = logging.Logger("shop.web")
        logger.addHandler(handler)
        try:
            yield Sender(logger.error)
        finally:
            handler.close()

    return opened


def syslog_handler(path: str | tuple[str, int], kind: socket.SocketKind, ident: str = "") -> logging.Handler:
    handler = logging.handlers.SysLogHandler(path, socktype=kind)
    handler.ident = ident
    return handler


def socket_handler(host: Host) -> logging.Handler:
    handler = logging.handlers.SocketHandler(host.pickle, None)
    handler.retryStart = handler.retryMax = 0.02  # it waits a second before it connects again
    return handler


def fluent_handler(host: Host) -> logging.Handler:
    handler = fluent.handler.FluentHandler("shop.web", host=f"unix://{host.socket}")
    handler.setFormatter(fluent.handler.FluentRecordFormatter({"level": "%(levelname)s"}))
    return handler  # type: ignore[no-any-return]


def fluent_sender(
    time: float | None = None, make: Any = fluent.sender.FluentSender, *, by_tcp: bool = False, **options: Any
) -> Open:
    """Return how to open a sender of fluent-logger."""

    @contextlib.contextmanager
    def opened(host: Host) -> Iterator[Sender]:
        where = {"host": "127.0.0.1", "port": host.port} if by_tcp else {"host": f"unix://{host.socket}"}
        sender = make("shop", **where, **options)
        try:
            if time is None:
                yield Sender(lambda text: sender.emit("web", {"message": text}))
            else:
                yield Sender(lambda text: sender.emit_with_time("web", time, {"message": text}))
        finally:
            sender.close()

    return opened


RSYSLOG = """
global(workDirectory="{folder}")
$EscapeControlCharactersOnReceive off
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{folder}/in" useSpecialParser="off" parseHostname="off")
$ModLoad omuxsock
$OMUxSockSocket {host.datagram}
$ActionResumeInterval 1
*.* :omuxsock:
"""


@contextlib.contextmanager
def rsyslog(host: Host) -> Iterator[Sender]:
    """An rsyslogd that passes on what it gets. A copy runs: the profile of a distribution may confine the original."""
    original = program("rsyslogd")
    assert original is not None
    with tempfile.TemporaryDirectory(prefix="mpsr-", dir="/tmp") as folder:
        copy = shutil.copy(original, folder)
        Path(folder, "conf").write_text(RSYSLOG.format(folder=folder, host=host), encoding="utf-8")
        command = [copy, "-n", "-f", f"{folder}/conf", "-i", f"{folder}/pid"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                eventually(lambda: os.path.exists(f"{folder}/in"), "rsyslogd listens")
                handler = syslog_handler(f"{folder}/in", socket.SOCK_DGRAM, "shop: ")
                logger = logging.Logger("relay")
                logger.addHandler(handler)
                yield Sender(logger.error, process.pid)
                handler.close()
            finally:
                process.terminate()  # it passes on what it has


def json_line(text: str) -> str:
    return json.dumps({"tag": "shop.web", "time": PRECISE, "message": text, "n": 1})


ERROR = {"level": "error", "facility": "user", "pri": 11}
APP = {**ERROR, "app": "shop"}
NOTICE = {"level": "notice", "facility": "user", "pri": 13, "app": "shop"}
LOGGER = ("logger", "-u", "{socket}", "-t", "shop", "--id=42", "-p", "local3.warning", "--size", "8KiB")
LOGGED = {"level": "warning", "facility": "local3", "pri": 156, "app": "shop", "procid": "42"}
HOST = socket.gethostname()
SHORT_HOST = HOST.partition(".")[0]
PIPE = 'trap "" PIPE; while IFS= read -r line; do printf "%s\\n" "$line" >"$1"; done'
CURL = """
while IFS= read -r line; do
    curl -fsS --unix-socket "$1" -H "Content-Type: application/json" -d "{\\"message\\": $line}" \\
        "http://hub/messages?tag=shop.web" >"$2" && printf "%s\\n" "$line"
done
"""
NATIVE = {"level": "warning", "PRIORITY": "4", "app": "shop", "SYSLOG_IDENTIFIER": "shop"}
STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM


def logger(*options: str, **fields: str) -> Client:
    """Return the client logger(1) with *options*, which make the *fields*."""
    return Client(reads(*LOGGER, *options), "syslog", {**LOGGED, **fields}, ("logger",), reconnects=False)


def node(form: str) -> Client:
    """Return the client of Node for one of its forms of Forward."""
    command = reads("node", str(HERE / "node/send.cjs"), form, "{socket}", encode=json.dumps)
    needs = ("node", "fluent-logger" if form == "fluent-logger" else "@fluent-org/logger")
    return Client(command, "shop.web", {}, needs, has_lines=True, has_large=True, acknowledges=form != "fluent-logger")


CLIENTS: Mapping[str, Client] = {
    "logger": logger(),
    "logger --rfc3164": logger("--rfc3164", host=SHORT_HOST),
    "logger --rfc5424": logger("--rfc5424", "--msgid", "M1", host=HOST, msgid="M1"),
    "logger --octet-count": logger("--octet-count"),
    "logger --octet-count --rfc5424": logger("--octet-count", "--rfc5424=notq", host=HOST),
    "logger, datagrams": Client(
        reads("logger", "-u", "{datagram}", "-t", "shop", "--size", "8KiB"), "syslog", NOTICE, ("logger",)
    ),
    "logger --tcp": Client(
        reads(*LOGGER[:1], "--tcp", "--server", "127.0.0.1", "--port", "{port}", *LOGGER[3:]),
        "syslog",
        {**LOGGED, "host": HOST},
        ("logger",),
        reconnects=False,
        way=Way.TCP,
    ),
    "SysLogHandler": Client(
        logs(lambda host: syslog_handler(host.socket, STREAM, "shop[7]: ")),
        "syslog",
        {**APP, "procid": "7"},
        has_lines=True,
    ),
    "SysLogHandler, datagrams": Client(
        logs(lambda host: syslog_handler(host.datagram, DATAGRAM, "shop: ")), "syslog", APP, has_lines=True
    ),
    "SysLogHandler, TCP": Client(
        logs(lambda host: syslog_handler(("127.0.0.1", host.port), STREAM, "shop: ")),
        "syslog",
        APP,
        has_lines=True,
        reconnects=False,
        way=Way.TCP,
    ),
    "SocketHandler": Client(logs(socket_handler), "shop.web", {"level": "error"}, has_lines=True),
    "socat": Client(reads("socat", "-u", "-", "UNIX-CONNECT:{socket}"), "text", needs=("socat",), reconnects=False),
    "socat, JSON": Client(
        reads("socat", "-u", "-", "UNIX-CONNECT:{socket}", encode=json_line),
        "shop.web",
        {"n": 1},
        ("socat",),
        has_lines=True,
        reconnects=False,
        time_ns=PRECISE_NS,
    ),
    "nc": Client(reads("nc", "-NU", "{socket}"), "text", needs=("nc",), reconnects=False),
    "sh, named pipe": Client(reads("sh", "-c", PIPE, "sh", "{fifo}"), "text", way=Way.FIFO),
    "cat, named pipe": Client(
        reads("sh", "-c", 'exec cat >"$1"', "sh", "{fifo}"), "text", reconnects=False, way=Way.FIFO
    ),
    "curl": Client(
        reads("sh", "-c", CURL.replace("{", "{{").replace("}", "}}"), "sh", "{http}", os.devnull, encode=json.dumps),
        "shop.web",
        needs=("curl",),
        has_lines=True,
        acknowledges=True,
        every=10,
        way=Way.HTTP,
    ),
    "libsystemd": Client(
        reads(
            *in_run("/run/systemd/journal/socket={datagram}", sys.executable, str(HERE / "journald.py")),
            encode=json.dumps,
        ),
        "journald",
        NATIVE,
        ("root", "unshare", "systemd-cat"),
        has_lines=True,
        has_large=True,
        sends=str.rstrip,
    ),
    "systemd-cat": Client(
        reads(*in_run("/run/systemd/journal/stdout={socket}", "systemd-cat", "-t", "shop", "cat")),
        "text",
        needs=("root", "unshare", "systemd-cat"),
        reconnects=False,
        preamble=("shop", "", "6", "1", "0", "0", "0"),
    ),
    "rsyslog": Client(rsyslog, "syslog", APP, ("rsyslogd",)),
    "fluent-logger": Client(fluent_sender(SECONDS), "shop.web", has_lines=True, time_ns=SECONDS_NS),
    "fluent-logger, nanoseconds": Client(
        fluent_sender(PRECISE, nanosecond_precision=True), "shop.web", has_lines=True, time_ns=PRECISE_NS
    ),
    "fluent-logger, asynchronous": Client(
        fluent_sender(make=fluent.asyncsender.FluentSender), "shop.web", has_lines=True
    ),
    "fluent-logger, TCP": Client(fluent_sender(by_tcp=True), "shop.web", has_lines=True, way=Way.TCP),
    "fluent-logger, handler": Client(logs(fluent_handler), "shop.web", {"level": "ERROR"}, has_lines=True),
    "Node, Message": node("Message"),
    "Node, Forward": node("Forward"),
    "Node, PackedForward": node("PackedForward"),
    "Node, CompressedPackedForward": node("CompressedPackedForward"),
    "Node, fluent-logger": node("fluent-logger"),
    "Go and Docker, acknowledged": Client(
        reads(sys.executable, str(HERE / "acknowledged.py"), "{socket}", encode=json.dumps),
        "shop.web",
        has_lines=True,
        has_large=True,
        acknowledges=True,
        resends=True,
    ),
}
