"""hub.log: the hub's log goes to standard error, whole and in order, and never stops the hub."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hub import log as own_log
from hub.log import get_logger, set_level


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    yield
    set_level(logging.WARNING)


def test_one_json_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An event is a line of JSON: time, level, event, then the part and its fields."""
    get_logger("mpsr.test").warning("thing.happened", path="/a\nb", count=3, odd=object)
    out, err = capsys.readouterr()
    event = json.loads(err)
    assert out == ""
    assert list(event)[:3] == ["timestamp", "level", "event"]
    assert event["timestamp"].endswith("Z")
    assert (event["level"], event["event"], event["part"]) == ("warning", "thing.happened", "mpsr.test")
    assert (event["path"], event["count"]) == ("/a\nb", 3)


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (None, ["warning", "error", "critical", "exception"]),
        (logging.INFO, ["info", "warning", "error", "critical", "exception"]),
        (logging.DEBUG, ["debug", "info", "warning", "error", "critical", "exception"]),
        (logging.CRITICAL, ["critical"]),
    ],
)
def test_levels(capsys: pytest.CaptureFixture[str], level: int | None, shown: list[str]) -> None:
    """Warnings and worse are written until another level is set."""
    if level is not None:
        set_level(level)
    log = get_logger("mpsr.test")
    for method in ("debug", "info", "warning", "error", "critical", "exception"):
        getattr(log, method)(method)
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == shown


def test_an_exception_comes_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """`log.exception` includes the traceback."""
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError:
        get_logger("mpsr.test").exception("thing.failed")
    event = json.loads(capsys.readouterr().err)
    assert event["level"] == "error"
    assert "test_log.py" in event["exception"]
    assert "ZeroDivisionError: why" in event["exception"]


SAY = """
from hub.log import get_logger
log = get_logger("mpsr.test")
log.warning("thing.happened", count=3)
try:
    1 / 0
except ZeroDivisionError:
    log.exception("thing.failed")
print("alive")
"""


def on_a_terminal(script: str) -> tuple[str, bytes]:
    """Return a program's standard output, and what a terminal receives as its standard error."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-W", "always", "-c", script]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, timeout=30, check=True)
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    return ran.stdout, shown


def test_colours_on_a_terminal() -> None:
    """On a terminal an event is one coloured line, and a traceback is readable; structlog does not warn."""
    printed, shown = on_a_terminal(SAY)
    assert printed == "alive\n"
    assert b"\x1b[" in shown
    assert b"thing.happened" in shown
    assert b"count" in shown
    assert b"ZeroDivisionError: division by zero" in shown
    assert b"UserWarning" not in shown


STEER = """
from hub.log import get_logger
steering = "\\x1b[2J\\r\\x9b1m\\u202e\\u200b\\u2028"
log = get_logger("mpsr.test")
log.warning("thing.happened", comm=steering, error=f"a b {steering}", odd=[steering, b"\\xff"], empty="", count=3)
log.warning(steering)
try:
    raise ValueError(f"{steering}\\n2026-11-20 [info] hub.forged")
except ValueError:
    log.exception("thing.failed")
"""


def test_nothing_in_the_log_steers_a_terminal() -> None:
    """All values, events and tracebacks are escaped once, and no line of them imitates the log's."""
    _, shown = on_a_terminal(STEER)
    text = re.sub(r"\x1b\[\d*m", "", shown.decode()).replace("\r\n", "\n")
    assert text.replace("\n", "").isprintable()
    first, second, *traceback = text.splitlines()
    escaped = r"\x1b[2J\x0d\x9b1m\u202e\u200b\u2028"
    assert f"comm={escaped}" in first
    assert r"error='a b \x1b[2J\r\x9b1m\u202e\u200b\u2028'" in first
    assert r"odd=['\x1b[2J\r\x9b1m\u202e\u200b\u2028', b'\xff']" in first
    assert "empty=''" in first
    assert "count=3" in first
    assert escaped in second
    assert "    2026-11-20 [info] hub.forged" in traceback
    assert all(line.startswith("    ") for line in traceback[1:])


def test_json_of_the_log_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal, an event is JSON in printable ASCII."""
    get_logger("mpsr.test").warning("thing.happened", comm="\x1b\x7f\x9b\u202e\U000e0041")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["comm"] == "\x1b\x7f\x9b\u202e\U000e0041"


@pytest.mark.parametrize(
    "way", ["2>&-", "2> /dev/full", "2> >(exec 2>&-; exit)"], ids=["closed", "full", "nobody reads"]
)
def test_without_standard_error(way: str) -> None:
    """A program whose standard error is closed, full, or without a reader continues."""
    many = SAY.replace('log.warning("thing.happened", count=3)', 'for n in range(2000): log.warning("x" * 100)')
    command = ["bash", "-c", f'"$0" -c "$1" {way}', sys.executable, many]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=30, check=True)
    assert ran.stdout == "alive\n"


def test_standard_error_may_change(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A logger writes to the current standard error, and nowhere if that is closed or None."""
    log = get_logger("mpsr.test")
    with open(os.devnull, "w", encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stderr", file)
        log.warning("into nothing")
    log.warning("closed")
    monkeypatch.setattr(sys, "stderr", None)
    log.warning("none")
    monkeypatch.undo()
    log.warning("here")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["here"]
    assert own_log._level == logging.WARNING
