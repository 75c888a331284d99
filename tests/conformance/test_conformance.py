"""Each client of the table sends a script, and goes through a kill of the hub; the journal is compared with both."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.peer import peer_of_host
from tests.conformance.clients import CLIENTS, RSYSLOG, Client, Sender, Way, environment, require
from tests.conformance.conftest import started
from tests.conformance.host import Host
from tests.support import PATIENCE_S, eventually

pytestmark = [
    pytest.mark.timeout(90, method="signal"),  # one that hangs fails, and the run goes on
]

PAGE = Path(__file__).parents[2] / "docs/clients.md"
SCRIPT = (
    "first",
    "grüße, 你好, 🦔",
    "[1] in brackets: <13>x {not: json}",
    "a tab\t, %s, 100%, \"quotes\", back\\slash, 'single'",
    "x" * 3000,
    "last",
)
LINES = ("two\n  lines", "Traceback (most recent call last):\n\n  File x\nKeyError: 'why'", "ends with a newline\n")
LARGE = ("x" * 500_000, "after it")
STARTS = ("echo ", "printf ", "logger ", "node ", "curl ")
"""How the lines begin that can be run here. The others are settings, or need an engine."""
BACK_S = 60.0
MINUTE_NS = 60_000_000_000


@pytest.mark.parametrize("name", CLIENTS)
def test_the_journal_has_what_was_sent(host: Host, name: str) -> None:
    """Each text is one message, in order, with its tag, its fields, its time and its writer; nothing else is there."""
    client = CLIENTS[name]
    client.require()
    script = [*SCRIPT, *(LINES if client.has_lines else ()), *(LARGE if client.has_large else ())]
    expected = [*client.preamble, *map(client.sends, script)]
    host.next(0)  # what another test has left
    began = time.time_ns()
    with client.open(host) as sender:
        for text in script:
            sender.send(text)
        messages = host.next(len(expected))
    if client.acknowledges:
        assert sender.acknowledged == script
    assert [message.record["message"] for message in messages] == expected
    for message in messages:
        assert message.tag == client.tag
        assert message.record.items() >= client.fields.items()
        if client.time_ns is None:
            assert abs(message.time - began) < MINUTE_NS
        else:
            assert message.time == client.time_ns
        peer = message.peer
        if client.way is Way.TCP:
            assert peer == peer_of_host("127.0.0.1")
        else:
            is_fifo = client.way is Way.FIFO
            assert (peer.uid, peer.gid, peer.verified) == (os.geteuid(), os.getegid(), not is_fifo)
            assert peer.pid == (0 if is_fifo else sender.pid) or client.way is Way.HTTP


class Course:
    """What a client has sent, by number, and what the journal had of it before the kill, and has at the end."""

    def __init__(self, name: str, client: Client, host: Host) -> None:
        self.name, self.client = name, client
        self._host = host
        self._stack = contextlib.ExitStack()
        self._turns = 0
        self.sent = self.killed_at = self.started_at = 0
        self.senders: list[Sender] = []
        self.before: list[int] = []
        self.stored: list[int] = []
        self.open()

    def open(self) -> None:
        self.senders.append(self._stack.enter_context(self.client.open(self._host)))

    def close(self) -> None:
        self._stack.close()

    def send(self) -> None:
        self._turns += 1
        if self._turns % self.client.every:
            return
        self.senders[-1].send(f"{self.name}: {self.sent}")
        self.sent += 1

    @property
    def is_complete(self) -> bool:
        """Whether the last one is stored."""
        return self.stored[-1:] == [self.sent - 1]

    @property
    def acknowledged(self) -> list[int]:
        return [int(text.rpartition(" ")[2]) for sender in self.senders for text in sender.acknowledged]


def stored(host: Host, courses: list[Course]) -> bool:
    """Read the journal for all *courses*."""
    found: dict[str, list[int]] = {course.name: [] for course in courses}
    for message in host.messages():
        if match := re.fullmatch(r"(.+): (\d+)", str(message.record.get("message"))):
            found[match[1]].append(int(match[2]))
    for course in courses:
        course.stored = found[course.name]
    return True


@pytest.fixture(scope="module")
def courses() -> Iterator[dict[str, Course]]:
    """One history for all clients: they send, the hub is killed and comes back, and they go on."""
    present = {name: client for name, client in CLIENTS.items() if is_here(client)}
    with started() as host, contextlib.ExitStack() as stack:
        courses = [Course(name, client, host) for name, client in present.items()]
        for course in courses:
            stack.callback(course.close)
        send_all(courses, 50)
        eventually(lambda: stored(host, courses) and all(course.stored for course in courses), "all have begun", BACK_S)
        for course in courses:
            course.before = course.stored
        send_all(courses, 100)
        host.kill()  # what was sent last is in sockets, in the pipe, and in the hub's memory
        for course in courses:
            course.killed_at = course.sent
        send_all(courses, 10)
        for course in courses:
            if not course.client.reconnects:
                course.close()
        host.start()
        for course in courses:
            course.started_at = course.sent
            if not course.client.reconnects:
                course.open()

        def all_are_back() -> bool:
            """Have those send that the new hub has nothing of."""
            stored(host, courses)
            absent = [course for course in courses if course.stored[-1] < course.started_at]
            send_all(absent, 1)
            return not absent

        with contextlib.suppress(AssertionError):  # then the tests of those that are absent fail
            eventually(all_are_back, timeout=BACK_S)
            send_all(courses, 50)
            for course in courses:
                course.close()
            eventually(lambda: stored(host, courses) and all(course.is_complete for course in courses), timeout=BACK_S)
        yield {course.name: course for course in courses}


def is_here(client: Client) -> bool:
    """Return whether *client* can be run."""
    try:
        client.require()
    except pytest.skip.Exception:
        return False
    return True


def send_all(courses: list[Course], count: int) -> None:
    """Have each of *courses* send *count* texts, all in turn."""
    for _ in range(count):
        for course in courses:
            course.send()


@pytest.mark.timeout(300, method="signal")  # the first waits for the whole history, which has limits of its own
@pytest.mark.parametrize("name", CLIENTS)
def test_a_kill_in_the_middle(courses: dict[str, Course], name: str) -> None:
    """
    Nothing is there twice, the order is kept, and what was there before the kill still is. What is missing was sent
    last before the kill, or while there was no hub; nothing is, of a client that resends what was not acknowledged.
    """
    CLIENTS[name].require()
    course = courses[name]
    assert course.is_complete
    assert course.stored[: len(course.before)] == course.before
    assert course.stored == sorted(set(course.stored)), "once, and in order"
    for first, end in ((0, course.killed_at), (course.killed_at, course.sent)):
        missing = sorted({*range(first, end)} - set(course.stored))
        assert missing == [*range(missing[0], missing[0] + len(missing))] if missing else True, "one hole"
        assert not missing or not course.client.resends
    assert set(course.acknowledged) <= set(course.stored)
    assert bool(course.acknowledged) == course.client.acknowledges


def lines_of_the_page() -> dict[str, str]:
    """Return the lines to try that are a command of a client in the table, by client, as docs/clients.md has them."""
    rows = re.findall(r"^\| ([^|]+) \| `(.+?)`(?:;[^|]+)? \| [^|]*\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: line.replace("\\|", "|") for name, line in rows if line.startswith(STARTS)}


@pytest.mark.parametrize("name", lines_of_the_page())
def test_a_line_of_the_page(host: Host, name: str) -> None:
    """Each line to try, pasted into a shell, makes one message."""
    line = lines_of_the_page()[name]
    module = re.search(r'require\("(.+?)"\)', line)
    for need in (module[1] if module else "sh", line.rpartition("| ")[2].split()[0]):
        require(need)
    line = line.replace("curl ", "curl -sS ")  # no progress
    for path, ours in (("hub.sock", host.socket), ("log", host.datagram), ("lines", host.fifo), ("http", host.http)):
        line = re.sub(rf"/run/mpsr/{path}\b", ours, line)
    host.next(0)
    done = subprocess.run(["sh", "-c", line], env=environment(), capture_output=True, check=False, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, b"")
    (message,) = host.next(1)
    assert "hello" in str(message.record)  # a field, or the end of the text


def test_the_page_has_each_client() -> None:
    """The page names each client of the table, and what is set for rsyslog as it is set here."""
    page = PAGE.read_text(encoding="utf-8")
    assert len(lines_of_the_page()) == 9
    assert [name for name in CLIENTS if name.split(",")[0].split()[0] not in page] == []
    shown = re.search(r"^\| rsyslog \| (.+?) \|", page, re.MULTILINE)
    assert shown
    for setting in re.findall(r"`(.+?)`", shown[1]):
        assert setting.replace("/run/mpsr/log", "{host.datagram}") in RSYSLOG
