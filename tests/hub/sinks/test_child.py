"""hub.sinks.child: a child gets messages, says what is safe, fails in every way, and ends with its sink."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
from pathlib import Path
from typing import IO

import pytest

from hub.sinks import child as module
from hub.sinks.child import ChildSink, check_table
from hub.sinks.kinds import Exec
from hub.sinks.sink import Halted, SinkFault
from hub.sinks.values import SinkName, Span
from tests.hub.sinks.delivering import Alone
from tests.hub.sinks.test_file import message
from tests.support import eventually

SAFE = """
import json, os, sys
file = open(sys.argv[1], "a")
for line in sys.stdin:
    file.write(line)
    file.flush()
    print(json.loads(line)["sequence"], flush=True)
"""


def sink_of(script: str, *args: str, timeout: float = 30, after: int = 0) -> tuple[ChildSink, Alone]:
    """Return an open sink whose child runs *script* of Python, and its host."""
    host = Alone()
    table = Exec(name=SinkName("a"), command=(sys.executable, "-S", "-c", script, *args), timeout=Span(timeout))
    sink = host.sink = ChildSink(table, host)
    sink.open(after, b"")
    return sink, host


def pid_of(sink: ChildSink) -> int:
    assert sink._child is not None
    return sink._child.pid


def test_messages_are_lines_and_come_back_as_safe(tmp_path: Path) -> None:
    """`deliver` returns when the child has all of them; at the end its input is closed, and it ends."""
    sink, _ = sink_of(SAFE, str(tmp_path / "out"))
    sink.deliver([message(number) for number in range(1, 301)])
    sink.deliver([message(number, filling="x" * 300_000) for number in (301, 302)])
    assert (sink.safe, sink.settle()) == (302, b"")
    sink.idle(0)
    sink.close()
    sink.close()
    found = [json.loads(line)["sequence"] for line in (tmp_path / "out").read_bytes().splitlines()]
    assert found == [*range(1, 303)]


def test_the_child_knows_where_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name and sequence are variables; those of the service are not there."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/x")
    script = """
import os, sys
names = ("MPSR_SINK", "MPSR_AFTER", "NOTIFY_SOCKET")
open(sys.argv[1], "w").write(" ".join(str(os.environ.get(name)) for name in names))
sys.stdin.readline(); print(8, flush=True); sys.stdin.readline()
"""
    sink, _ = sink_of(script, str(tmp_path / "out"), after=7)
    sink.deliver([message(8)])
    assert (tmp_path / "out").read_text() == "a 7 None"


def test_what_is_safe_is_known_after_a_fault() -> None:
    """Of three messages the child takes two, and ends."""
    sink, _ = sink_of("print(input() and 1, input() and 2, sep='\\n', flush=True)")
    with pytest.raises(SinkFault, match="ended with exit code 0"):
        sink.deliver([message(number) for number in (1, 2, 3)])
    assert sink.safe == 2


def test_a_refusal_is_stored_and_covered_later() -> None:
    """The reason is the rest of the line, or a word."""
    script = "input(); print('refused 1 too old\\nrefused 2\\n3', flush=True); input()"
    sink, host = sink_of(script)
    sink.deliver([message(number) for number in (1, 2, 3)])
    assert host.refused == [(1, "too old"), (2, "refused")]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("print('done', flush=True); input()", "the child printed b'done'"),
        ("print(9, flush=True); input()", "was sent nothing after 2"),
        ("print('refused 9 x', flush=True); input()", "refused 9, which it had not been sent"),
        ("print('1\\nrefused 1 x', flush=True); input()", "refused 1, which it had not been sent"),
        ("print('1' * 5000, end='', flush=True); input(); input()", "more than 4096 bytes"),
        ("raise SystemExit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "killed by signal 9"),
        ("import os, time; os.close(1); time.sleep(60)", "closed its input or output"),
        ("import os, time; os.close(0); time.sleep(60)", "closed its input or output"),
        ("import subprocess; subprocess.Popen(['sleep', '2'])", "exit code 0"),
    ],
)  # fmt: skip
def test_faults_are_named(script: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the child does against the rules, and every way to end, is a fault with a sentence."""
    monkeypatch.setattr(module, "TERM_S", 0.2)
    monkeypatch.setattr(module, "CLOSE_S", 0.2)
    monkeypatch.setattr(module, "ALIVE_S", 0.02)
    sink, _ = sink_of(script)
    with pytest.raises(SinkFault, match=words):
        sink.deliver([message(number, filling="x" * 300_000) for number in (1, 2)])
    sink.close()


def test_a_child_that_makes_no_progress_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets SIGTERM, and SIGKILL if that does not end it."""
    monkeypatch.setattr(module, "TERM_S", 0.1)
    monkeypatch.setattr(module, "CLOSE_S", 0.1)
    deaf = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); open(sys.argv[1], 'w'); time.sleep(60)"
    sink, _ = sink_of(deaf, str(tmp_path / "ready"), timeout=0.2)
    eventually((tmp_path / "ready").exists)
    with pytest.raises(SinkFault, match="no progress in 200ms"):
        sink.deliver([message(1)])
    child = sink._child
    assert child is not None
    sink.close()
    assert child.returncode == -signal.SIGKILL


def test_a_dead_child_is_noticed_while_nothing_comes() -> None:
    """The next look finds that it has ended."""
    sink, _ = sink_of("input()")
    sink.idle(0)
    os.kill(pid_of(sink), signal.SIGKILL)

    def is_noticed() -> bool:
        try:
            sink.idle(0)
        except SinkFault as fault:
            return "signal 9" in str(fault)
        return False

    eventually(is_noticed)


def test_what_a_child_has_started_ends_with_it(tmp_path: Path) -> None:
    """Also if the child itself has ended: each fresh one would leave another."""
    script = """
import fcntl, os, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
if os.fork() == 0:
    time.sleep(1000)
"""
    sink, _ = sink_of(script, str(tmp_path / "lock"))
    with pytest.raises(SinkFault, match="ended with exit code 0"):
        sink.deliver([message(1)])
    with (tmp_path / "lock").open() as file:
        assert is_locked(file)
        sink.close()
        eventually(lambda: not is_locked(file))


def is_locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def test_a_stop_interrupts_a_wait() -> None:
    """It raises at once, and the child does not outlive it."""
    sink, host = sink_of("input(); import time; time.sleep(60)")
    host.halted = True
    with pytest.raises(Halted):
        sink.deliver([message(1)])
    pid = pid_of(sink)
    sink.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_it_says_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """One line of its standard error in a second, and its last words; it may also close it."""
    script = """
import os, sys
print("first", file=sys.stderr, flush=True)
os.close(2)
input(); print(1, flush=True); input()
"""
    sink, _ = sink_of(script)
    sink.deliver([message(1)])
    assert json.loads(capsys.readouterr().err)["text"] == "first"
    sink, _ = sink_of("import sys; sys.exit('no such host')")
    with pytest.raises(SinkFault, match="exit code 1"):
        sink.deliver([message(1)])
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["text"] == "no such host"


def test_a_command_is_checked(tmp_path: Path) -> None:
    """A program that is missing, is a folder, or cannot be executed is refused; also when it is started."""
    (tmp_path / "file").touch()
    for path, error in (
        (tmp_path / "none", FileNotFoundError),
        (tmp_path, PermissionError),
        (tmp_path / "file", PermissionError),
    ):
        table = Exec(name=SinkName("a"), command=(str(path),))
        with pytest.raises(error):
            check_table(table)
        host = Alone()
        sink = ChildSink(table, host)
        with pytest.raises(error):
            sink.open(0, b"")
        sink.close()
        host.waker.close()
    check_table(Exec(name=SinkName("a"), command=(sys.executable,)))
