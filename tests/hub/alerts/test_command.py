"""hub.alerts.command: what a program gets, and how it ends."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.alerts.command import Command, check_command
from hub.alerts.firing import firing_of
from hub.alerts.window import Fired, Match
from hub.sinks.sink import Halted, SinkFault
from tests.hub.alerts.watching import AloneWatching, alert_of, message
from tests.hub.sinks.delivering import halting
from tests.support import eventually

FIRING = firing_of(alert_of(), bytes(16), Fired(Match(1, 7), Match(1, 7), 1, 1, (7,)), [message(7)])


def run(script: str, host: AloneWatching | None = None, **keys: Any) -> None:
    Command(alert_of(command=["/bin/sh", "-c", script], **keys), host or AloneWatching()).report(FIRING)


def test_it_gets_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON on its standard input, the id in a variable; nothing by which the hub speaks to systemd."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/x")
    run(f'cat >{tmp_path}/in; echo "$MPSR_ALERT $MPSR_ALERT_ID $NOTIFY_SOCKET" >{tmp_path}/out; echo talk')
    assert msgspec.json.decode((tmp_path / "in").read_bytes())["samples"][0]["text"] == "m7"
    assert (tmp_path / "out").read_text() == f"a {FIRING.id} \n"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo first >&2; echo 'no\tway' >&2; exit 3", "exit code 3: no way"),
        ("kill -9 $$", "killed by signal 9"),
        ("exit 1", "exit code 1$"),
    ],
)
def test_it_fails(script: str, words: str) -> None:
    """Any end but exit code 0 is a fault, with the last line of its standard error."""
    with pytest.raises(SinkFault, match=words):
        run(script)


def test_it_hangs(tmp_path: Path) -> None:
    """It is killed after the timeout, with what it has started."""
    with pytest.raises(SinkFault, match="did not end within 1s"):
        run(f"sleep 600 & echo $! >{tmp_path}/pid; wait", timeout="1s")
    eventually(lambda: _is_gone(int((tmp_path / "pid").read_text())))


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


def test_the_alert_is_to_stop(tmp_path: Path) -> None:
    """A program that is about to end may do so; one that hangs is killed."""
    host, begun = AloneWatching(), threading.Event()
    host.halted = True
    run("sleep 0.05", host)
    host.halted = False
    timer = threading.Timer(0.05, begun.set)
    timer.start()
    with halting(host, begun), pytest.raises(Halted):
        run("sleep 600", host)
    timer.join()


def test_check(tmp_path: Path) -> None:
    """A program that is missing, or cannot be executed, is found before it is needed."""
    check_command(alert_of(command=["/bin/sh"]))
    (tmp_path / "plain").touch(0o600)
    for path, kind in ((tmp_path / "absent", FileNotFoundError), (tmp_path / "plain", PermissionError)):
        with pytest.raises(kind):
            check_command(alert_of(command=[str(path)]))


def test_signals_are_those_of_a_fresh_program() -> None:
    """A program ends by SIGTERM, whatever the hub does with it."""
    with pytest.raises(SinkFault, match=f"signal {int(signal.SIGTERM)}"):
        run("kill -TERM $$")
