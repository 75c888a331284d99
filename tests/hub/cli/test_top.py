"""`mpsr top` as its user sees it, through pseudo-terminals: a hub, a journal without one, small and large screens."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from hub import extras
from hub.cli import main
from producers import Producer
from tests.support import HubProcess, mpsr
from tests.terminal import Terminal

CLEAR = "\x15"
"""In the search box: delete all up to the cursor, which is at the end."""
EMPTY = "\ntext  tag:app.*"
"""The search box without a search."""
HOSTILE = "\x1b[2J\x1b]0;taken\x07 [bold]not markup[/bold] \u202egpj.exe"
SHOWN = r"\x1b[2J\x1b]0;taken\x07 [bold]not markup[/bold] \u202egpj.exe"


def fill(hub: HubProcess) -> None:
    """Store 300 messages with two errors far from the end, a hostile one at the end, and one of another tag."""
    with Producer(hub.socket, tag="app.web") as producer:
        for number in range(300):
            level = "error" if number in (20, 100) else "info"
            text = "pool exhausted" if level == "error" else f"request {number}"
            producer.send({"message": text, "level": level, "status": 500 if number == 20 else 200})
        producer.send({"message": "a backup begins", "level": "notice"}, tag="cron")
        producer.send({"message": HOSTILE, "level": "warning", "user": {"name": "Ann"}})


def search(terminal: Terminal, query: str, expected: str, *, recalled: str = EMPTY) -> None:
    """Search for *query* in the place of what the box recalls, and wait for what is expected."""
    terminal.press("/")
    terminal.shows(recalled)
    if recalled != EMPTY:
        terminal.press(CLEAR)
        terminal.shows(EMPTY)
    terminal.press(f"{query}\r")
    terminal.shows(expected)


def check_restored(terminal: Terminal) -> None:
    """The terminal is as before: its modes, the main screen, the cursor, no reports of the mouse."""
    assert terminal.modes_after == terminal.modes
    for mode in (b"1049l", b"25h", b"1000l", b"1003l", b"2004l"):
        assert b"\x1b[?" + mode in terminal.output[-400:], mode


def check_filters(terminal: Terminal) -> None:
    """A wrong filter stays in the box with its error; the last one is recalled."""
    search(terminal, "level:loud", "no level 'loud'")
    terminal.press(CLEAR)
    terminal.shows(EMPTY)
    terminal.press("status=500 pool\r")
    terminal.shows("LIVE status=500 pool", "ERROR app.web pool exhausted status=500")
    assert "request" not in terminal.text
    terminal.press("/")
    terminal.shows("\nstatus=500 pool")
    terminal.press(CLEAR)
    terminal.shows(EMPTY)
    terminal.press("\r")
    terminal.shows("LIVE /", "it has just arrived", "request 299")


def check_errors_and_context(terminal: Terminal) -> None:
    """E and e lead to errors, also far away; a message in full; what happened around it; the way back."""
    terminal.press("E")
    terminal.shows("PAUSED", "request 101")
    assert "ERROR app.web pool exhausted status=200" in terminal.reversed_line()
    terminal.press("E")
    terminal.shows("pool exhausted status=500", "request 21")
    terminal.press("\r")
    terminal.shows("message 21", "from      ", "status: 500", "tag       app.web")
    terminal.press("\x1b")
    terminal.hides("│ message 21")
    terminal.press("e")
    terminal.shows("pool exhausted status=200")
    search(terminal, "tag:cron", "NOTE  cron a backup begins", recalled="\nstatus=500 pool")
    assert "app.web" not in terminal.text
    terminal.press("c")
    terminal.shows("CONTEXT", "INFO  app.web request 299", "NOTE  cron    a backup begins")
    terminal.press("\x1b")
    terminal.shows("PAUSED", "tag:cron")
    terminal.hides("request 299")
    terminal.press("\x1b")
    terminal.shows("request 299")


def check_restart(terminal: Terminal, hub: HubProcess, producer: Producer) -> None:
    """A hub that is killed is reported; when it is back, the view goes on."""
    terminal.press("G")
    terminal.shows("LIVE")
    hub.kill()
    terminal.shows("HUB AWAY since")
    hub.start()
    producer.send({"message": "after the restart"})
    terminal.shows("LIVE", "after the restart")


def test_a_hub(hub: HubProcess) -> None:
    """Lines, filters, errors, context, the message in full, producers, and a hub that is killed and comes back."""
    fill(hub)
    with (
        Producer(hub.socket, tag="app.web") as producer,
        Terminal("top", "--socket", hub.socket, "--utc", columns=120, lines=30) as terminal,
    ):
        terminal.shows("LIVE", hub.socket, "UTC", "INFO  app.web request 299", f"WARN  app.web {SHOWN}", "? help")
        terminal.shows("302 in bars of")
        assert b"\x1b]0;taken" not in terminal.output
        assert b"38;2;" not in terminal.output  # 256 colours are enough
        producer.send({"message": "it has just arrived"})
        terminal.shows("it has just arrived")

        check_filters(terminal)
        check_errors_and_context(terminal)
        check_restart(terminal, hub, producer)

        terminal.press("\t")
        terminal.shows("PRODUCERS", "messages/s", "MSG/S", "LOST", "PID", "COMMAND")
        terminal.press("q")
        assert terminal.ends() == 0
    check_restored(terminal)


def test_a_journal_on_a_small_terminal(hub: HubProcess, tmp_path: Path) -> None:
    """Without a hub it reads the files; 40 by 10 cells are enough, and grow; SIGTERM ends it."""
    fill(hub)
    hub.stop()
    with Terminal("top", "--journal", hub.journal, "level:info", columns=40, lines=10) as terminal:
        terminal.shows("LIVE level:info", "UTC", "I app.web request 299", "? help")
        terminal.press("g")
        terminal.shows("PAUSED", "I app.web request 0")
        terminal.press("e")
        terminal.shows("E app.web pool exhausted")
        terminal.press("\r")
        terminal.shows("│ message 21")
        terminal.press("\x1b")
        terminal.hides("│ message 21")
        terminal.press("\t")
        terminal.shows("no hub runs here")
        terminal.press("1")
        terminal.resize(100, 20)
        terminal.shows("INFO  app.web request 2", "in bars of")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.ends() == 0
    check_restored(terminal)


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal, without the extra, and with neither hub nor journal, one line says what is missing."""
    without = mpsr("top")
    assert (without.returncode, without.stderr) == (
        2,
        b"mpsr: it needs a terminal (mpsr logs prints lines) (see `mpsr top --help`)\n",
    )
    with Terminal("top", "--socket", str(tmp_path / "none"), columns=80, lines=24) as terminal:
        assert terminal.ends() == 1
        terminal.shows(f"no hub at {tmp_path}")
    with Terminal("top", "--journal", str(tmp_path), columns=80, lines=24) as terminal:
        assert terminal.ends() == 1
        terminal.shows(f"{tmp_path}")
    monkeypatch.setitem(extras.MODULES, "tui", ("not_there",))
    with pytest.raises(SystemExit, match="1"):
        main(["top"])
    assert "pip install 'mpsr[tui]'" in capsys.readouterr().err
