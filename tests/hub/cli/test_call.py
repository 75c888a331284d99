"""`mpsr call` as a user runs it. Methods that stream: test_logs_socket.py."""

from __future__ import annotations

import pytest

from tests.support import HubProcess, mpsr

pytestmark = pytest.mark.timeout(100, method="signal")  # one that hangs fails, and the run goes on


def test_call_prints_the_answer(hub: HubProcess) -> None:
    """The result as JSON; an error of the hub, or no hub, is one line and exit code 1; bad parameters are code 2."""
    assert mpsr("call", "--socket", hub.socket, "ping").stdout == b'"pong"\n'
    unknown = mpsr("call", "--socket", hub.socket, "pong")
    assert unknown.returncode == 1
    assert b"reload, sink_pause, sink_resume, sink_rewind, sinks, sources, sql, stats" in unknown.stderr
    assert mpsr("call", "--socket", hub.socket, "ping", "{").returncode == 2
    hub.kill()
    gone = mpsr("call", "--socket", hub.socket, "ping")
    assert (gone.returncode, gone.stderr.count(b"\n")) == (1, 1)
